"""Harmonize TIFF files that are larger than memory, a strip of rows at a time (`pip install "aict_hf[large]"`).

libvips reads the files. tifffile writes the result, because libvips would need all of it in memory.

There are two passes. The first collects the rows that the network's low-resolution copy is made of. The second
recolours the strips.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from ..errors import InputError, one_line
from ..files.atomic_write import atomic_file
from ..files.exif import MAX_SIZE as MAX_EXIF_FILE
from ..files.exif import append_exif, exif_block
from ..files.images import check_pixel_count, open_lazily, read_file_facts
from ..files.metadata import has_unspecified_channel
from ..model.foreground_mask import check_highest_level
from ..model.opened_photo import OpenedPhoto, recolor
from ..model.resizing import foreground_cells, is_missed, low_resolution_copies, sampled_rows
from .options import HarmonizeOptions
from .photo_luts import IdentifiedPredictor

if TYPE_CHECKING:
    import pyvips

TIFF_SUFFIXES = (".tif", ".tiff")
TILE = 256  # side of the result's tiles, and number of rows in memory
LARGE_MEGAPIXELS = 100.0  # smaller photos are harmonized in memory
DTYPES: dict[str, type[np.unsignedinteger]] = {"uchar": np.uint8, "ushort": np.uint16}


def is_large_tiff(composite: Path, mask: Path | None, output: Path) -> bool:
    """Whether `harmonize_large_tiff` takes a photo.

    The photo must have over 100 megapixels, and photo and output must be TIFF files. The photo must be RGB or RGBA of
    8 or 16 bits, the mask gray of 8 bits and of the photo's size. Neither may need to be turned upright, because they
    are read from the top to the bottom. The answer is also False if the extra is missing or a file cannot be read.
    """
    if mask is None or composite.suffix.lower() not in TIFF_SUFFIXES or output.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        photo, foreground = _open_photo(composite), _open(mask)
    except InputError:
        return False
    return (
        photo.width * photo.height > LARGE_MEGAPIXELS * 1e6
        and photo.format in DTYPES
        and photo.interpretation in ("srgb", "rgb", "rgb16")
        and photo.bands in (3, 4)
        and (foreground.width, foreground.height) == (photo.width, photo.height)
        and (foreground.format, foreground.bands) == ("uchar", 1)
        and _upright(photo)
        and _upright(foreground)
    )


class LargeResult(NamedTuple):
    """Facts about a large photo that was harmonized.

    Attributes:
        width, height: its size in pixels.
        mask_area: share of the photo that is foreground, 0 to 1.
        disharmony: mean CIEDE2000, measured on the low-resolution copy.
        not_kept: what the result does not keep of the photo's file, in words.
    """

    width: int
    height: int
    mask_area: float
    disharmony: float
    not_kept: tuple[str, ...] = ()


def harmonize_large_tiff(
    composite: Path,
    mask: Path,
    output: Path,
    harmonizer: IdentifiedPredictor,
    options: HarmonizeOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> LargeResult:
    """Harmonize a TIFF file of any size.

    The result is a tiled TIFF, deflate, with the photo's colour profile, EXIF, XMP and IPTC. A result over 4 GiB has
    none of the last three, because EXIF has no room for offsets that large.

    Args:
        composite, mask, output: files for which `is_large_tiff` holds.
        harmonizer: the network.
        options: `strength`, `invert_mask` and `max_megapixels` count; the defaults if left out.
        warn: called with one line for each surprise that is not a failure.
        progress: show progress bars.
    Returns:
        facts about the photo. The file is written even if the mask has no foreground.
    Raises:
        InputError: if a file is damaged or too large, the mask holds numbers instead of levels, or the output cannot be
            written.
    """
    import tifffile

    options = options or HarmonizeOptions()
    photo = _open_photo(composite)
    width, height, dtype = photo.width, photo.height, DTYPES[photo.format]
    check_pixel_count(composite, width, height, options.max_megapixels)
    with open_lazily(composite) as header, composite.open("rb") as stream:
        metadata, _ = read_file_facts(header, stream)
        exif = exif_block(header) or b""
    blocks, not_kept = metadata.tiff_blocks(), metadata.lost_in("TIFF")
    shape = harmonizer.input_size
    kept = sampled_rows(height, shape[0])
    lines, mask_lines, foreground_sum, highest = [], [], 0, 0
    for top, pixels, weights in _strips(composite, mask, options.invert_mask, "reading", progress):
        inside = kept[(kept >= top) & (kept < top + len(pixels))] - top
        lines.append(pixels[inside])
        mask_lines.append(weights[inside])
        foreground_sum += int(weights.sum(dtype=np.int64))
        highest = max(highest, int(weights.max()))
    try:
        check_highest_level(highest, 255)
    except ValueError as error:
        raise InputError(f"{mask}: {error}") from error
    sampled = np.concatenate(lines).transpose(2, 0, 1)
    image, small_mask = low_resolution_copies(
        sampled[:3],
        np.concatenate(mask_lines)[None],
        shape,
        opacity=sampled[3:] if photo.bands == 4 else None,
        kept_rows=kept,
        full_height=height,
    )
    del lines, mask_lines, sampled
    if is_missed(small_mask, highest / 255):
        cells = [
            foreground_cells(
                pixels[:, :, :3].transpose(2, 0, 1),
                weights[None],
                shape,
                top=top,
                full_height=height,
            )
            for top, pixels, weights in _strips(composite, mask, options.invert_mask, "looking closer", progress)
        ]
        image, small_mask = functools.reduce(operator.add, cells).laid_on(image, small_mask)
    seen = OpenedPhoto(image, image, small_mask)
    for surprise in seen.surprises():
        warn(f"{mask}: {surprise}")
    [luts] = harmonizer.predict_opened([seen])

    def harmonized_tiles() -> Iterator[np.ndarray]:
        """The result's tiles, row by row from the left to the right; those at the edges are smaller."""
        for top, pixels, weights in _strips(composite, mask, options.invert_mask, "harmonizing", progress):
            rgb = np.ascontiguousarray(pixels[:, :, :3]).transpose(2, 0, 1)
            place = {"strength": options.strength, "top": top, "full_height": height}
            recolored = recolor(rgb, weights[None], *luts.transform_maps, kind=luts.kind, **place)
            pixels[:, :, :3] = recolored.transpose(1, 2, 0)
            for left in range(0, width, TILE):
                yield np.ascontiguousarray(pixels[:, left : left + TILE])

    with atomic_file(output) as partial:
        tifffile.imwrite(
            partial,
            harmonized_tiles(),
            shape=(height, width, photo.bands),
            dtype=dtype,
            tile=(TILE, TILE),
            photometric="rgb",
            extrasamples=["unassalpha"] if photo.bands == 4 else None,
            compression="zlib",
            predictor=True,
            bigtiff=height * width * photo.bands * np.dtype(dtype).itemsize > 2**31,
            resolution=(10 * photo.xres, 10 * photo.yres),
            resolutionunit="centimeter",
            iccprofile=photo.get("icc-profile-data") if photo.get_typeof("icc-profile-data") else None,
            software=False,
            metadata=None,
        )
        if partial.stat().st_size > MAX_EXIF_FILE:
            not_kept += ["EXIF, XMP and IPTC, because the file is over 4 GiB"] if exif or blocks else []
        elif exif or blocks:
            append_exif(partial, exif, blocks)
    area = foreground_sum / (255 * width * height)
    return LargeResult(width, height, area, luts.disharmony(), tuple(not_kept))


def _strips(
    composite: Path, mask: Path, invert_mask: bool, title: str, progress: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each strip, from top to bottom: its first row's number, pixels (rows, W, bands) and mask (rows, W)."""
    import pyvips

    photo, foreground = _open_photo(composite), _open(mask)
    regions = pyvips.Region.new(photo), pyvips.Region.new(foreground)
    with tqdm(total=photo.height, unit="row", desc=title, disable=not progress, leave=False) as bar:
        for top in range(0, photo.height, TILE):
            count = min(TILE, photo.height - top)
            try:
                pixels, weights = (region.fetch(0, top, photo.width, count) for region in regions)
            except pyvips.Error as error:
                reason = f"cannot be decoded ({one_line(error)}); are both files complete?"
                raise InputError(f"{composite}: {reason}") from error
            levels = np.frombuffer(pixels, DTYPES[photo.format]).reshape(count, photo.width, photo.bands).copy()
            share = np.frombuffer(weights, np.uint8).reshape(count, photo.width)
            share = 255 - share if invert_mask else share.copy()
            if photo.bands == 4:
                share[levels[:, :, 3] == 0] = 0  # what is transparent is neither foreground nor background
            yield top, levels, share
            bar.update(count)


def _open(path: Path) -> "pyvips.Image":
    try:
        import pyvips
        import tifffile  # noqa: F401  the extra has both
    except (ImportError, OSError) as error:
        raise InputError(f"{path}: images of this size need libvips; pip install 'aict_hf[large]'") from error
    try:
        return pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error", revalidate=True)
    except pyvips.Error as error:
        raise InputError(f"{path}: cannot be opened ({one_line(error)})") from error


def _open_photo(path: Path) -> "pyvips.Image":
    """A photo without a fourth channel that is no transparency, which libvips takes for one."""
    photo = _open(path)
    try:
        with open_lazily(path) as header:
            drop = photo.bands == 4 and has_unspecified_channel(header)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({one_line(error)})") from error
    return photo.extract_band(0, n=3) if drop else photo


def _upright(image: "pyvips.Image") -> bool:
    return not image.get_typeof("orientation") or image.get("orientation") == 1


__all__ = ["harmonize_large_tiff", "is_large_tiff"]
