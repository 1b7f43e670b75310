"""Composites for training and evaluation: those of iHarmony4, and synthetic ones of real photos.

Needs OpenCV (`pip install "aict_hf[training]"`).
"""

import io
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from ..errors import InputError, one_line
from ..files.images import upright_size
from ..files.photo_folders import find_photos, name_key
from ..files.photo_pools import MaskedPhoto
from .decode import load_mask, load_photo, load_rgb, mask_levels, mask_scaled_to
from .recoloring import RecoloringOptions, recolor_foreground

if TYPE_CHECKING:
    import datasets

REFERENCE_PIXELS = 4096  # of one photo; more pixels have the same statistics


@dataclass(frozen=True)
class Triplet:
    """One composite of iHarmony4 with its mask and the real photo; `subset` is its folder's name (HCOCO, ...)."""

    composite: Path
    mask: Path
    real: Path
    subset: str


@dataclass(frozen=True)
class Sample:
    """A composite, its mask and the real photo, decoded.

    Attributes:
        composite, real: RGB, uint8, shape (H, W, 3).
        mask: foreground, uint8, shape (H, W).
        name: file name of the composite, or name of the photo in its pool.
        subset: the part of the data set; for synthetic composites, the method of recolouring.
    """

    composite: np.ndarray
    mask: np.ndarray
    real: np.ndarray
    name: str
    subset: str


def read_iharmony4(folders: Sequence[str | os.PathLike], split: str) -> list[Triplet]:
    """The composites in the lists of iHarmony4, or of sets with the same layout, such as ccHarmony.

    Args:
        folders: sets with `composite_images/`, `masks/`, `real_images/` and a list `*_{split}.txt` of composite names,
            or folders of such sets. The name of a mask or real photo is the composite's, or the composite's without
            its last one or two numbers (`a0002_1_4.jpg`, `a0002_1.png`, `a0002.jpg`).
        split: "train" or "test".
    Raises:
        InputError: if a folder, a list or a file of a composite is missing.
    """
    sets = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder; give a folder with composite_images, masks and real_images")
        parts = [folder] if (folder / "composite_images").is_dir() else sorted(folder.glob("*/composite_images/.."))
        if not parts:
            raise InputError(f"{folder}: holds no composite_images, nor do its folders; is it iHarmony4's layout?")
        sets += [part.resolve() for part in parts]
    triplets = []
    for part in sets:
        lists = sorted(part.glob(f"*_{split}.txt"))
        if not lists:
            raise InputError(f"{part}: has no list *_{split}.txt of composites; iHarmony4 brings one in every set")
        masks, reals = _by_stem(part / "masks"), _by_stem(part / "real_images")
        composites = {name_key(path.name): path for path in find_photos(part / "composite_images").files}
        lines = (line.strip() for path in lists for line in path.read_text(encoding="utf-8-sig").splitlines())
        for line in filter(None, lines):
            name = Path(line.replace("\\", "/")).name
            composite = composites.get(name_key(name))
            mask, real = _find(Path(name).stem, masks), _find(Path(name).stem, reals)
            if composite is None or mask is None or real is None:
                lacking = "file" if composite is None else "mask" if mask is None else "real photo"
                missing = part / "composite_images" / name
                raise InputError(f"{missing}: has no {lacking}, but {lists[0].name} names it; is the set complete?")
            triplets.append(Triplet(composite, mask, real, part.name))
    if not triplets:
        raise InputError(f"{', '.join(map(str, sets))}: the {split} lists are empty")
    return triplets


def check_sizes(photos: Sequence[Triplet] | Sequence[MaskedPhoto]) -> None:
    """Compare the upright sizes of all photos and masks without decoding them.

    Files without a readable header pass; decoding finds them later.

    Raises:
        InputError: if a file differs from its composite in size, or from its photo in aspect ratio.
    """

    def problem(photo: Any) -> str | None:
        others: tuple[Path, ...]
        if isinstance(photo, Triplet):
            first, others, rule = photo.composite, (photo.mask, photo.real), "equal"
        else:  # masks are scaled to their photos
            first, others, rule = photo.image, (photo.mask,), "equal but for their scale"
        size = upright_size(first)
        for path in others:
            other = upright_size(path)
            if size is None or other is None or other == size:
                continue
            difference = abs(other[0] / other[1] * size[1] / size[0] - 1)
            if isinstance(photo, Triplet) or difference > max(0.02, 1.5 / min(*size, *other)):
                sizes = f"is {other[0]} x {other[1]}, {first.name} {size[0]} x {size[1]} when upright"
                return f"{path}: {sizes}; they must be {rule}"
        return None

    with ThreadPool(8) as pool:
        found = tqdm(pool.imap(problem, photos, chunksize=64), "checking sizes", len(photos), leave=False, delay=2)
        line = next(filter(None, found), None)
    if line is not None:
        raise InputError(line)


def stream_photos(
    name: str, *, split: str = "train", image_column: str = "image", mask_column: str = "mask"
) -> "datasets.IterableDataset":
    """Real photos with masks as a stream that is never stored on disk, with encoded columns `image` and `mask`.

    Args:
        name: a Hub dataset, a folder that `datasets` reads (parquet, imagefolder), or webdataset shards as a glob
            pattern or address that ends in `.tar`. The columns of webdataset shards are the extensions of the files
            (`jpg`, `mask.png`).
        split: split of the dataset.
        image_column, mask_column: columns of the photo and its mask.
    Raises:
        InputError: if the dataset cannot be opened, lacks a column, or a column holds no images.
    """
    import datasets  # slow to import, and only needed here

    try:
        if name.endswith(".tar"):
            stream = datasets.load_dataset("webdataset", data_files={split: name}, split=split, streaming=True)
        else:
            stream = datasets.load_dataset(name, split=split, streaming=True)
        columns = list(stream.features or next(iter(stream)))
    except (OSError, ValueError, IndexError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}: cannot be opened as a dataset ({one_line(error)})") from error
    for column in (image_column, mask_column):
        if column not in columns:
            raise InputError(f"{name}: has the columns {', '.join(columns)}; expected {column} among them")
    for column in (image_column, mask_column):
        stream = stream.cast_column(column, datasets.Image(decode=False))
    stream = stream.select_columns([image_column, mask_column])
    names = {column: name for column, name in ((image_column, "image"), (mask_column, "mask")) if column != name}
    return stream.rename_columns(names) if names else stream


def decode_streamed(row: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) and its mask (H, W), scaled to the photo, both uint8, from a row of `stream_photos`.

    Raises:
        InputError: if either cannot be decoded.
    """
    pixels = []
    for field in ("image", "mask"):
        content, path = row[field]["bytes"], row[field]["path"]
        try:
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                upright = ImageOps.exif_transpose(image)
                pixels.append(np.array(upright.convert("RGB")) if field == "image" else mask_levels(upright))
        except Exception as error:  # decoders raise many kinds of errors on damaged files
            raise InputError(f"{path}: cannot be decoded ({error})") from error
    return pixels[0], mask_scaled_to(*pixels)


def load_triplet(triplet: Triplet, *, max_side: int = 0) -> Sample:
    """Decode one composite of iHarmony4.

    Args:
        triplet: files of the composite.
        max_side: longest side in pixels; larger triplets are shrunk to it, 0 keeps every size.
    Raises:
        InputError: if a file cannot be read, or sizes differ.
    """
    composite, real, mask = load_rgb(triplet.composite), load_rgb(triplet.real), load_mask(triplet.mask)
    for path, array in ((triplet.real, real), (triplet.mask, mask)):
        if array.shape[:2] != composite.shape[:2]:
            raise InputError(
                f"{path}: is {array.shape[1]} x {array.shape[0]}, its composite {triplet.composite.name} "
                f"{composite.shape[1]} x {composite.shape[0]}; they must be equal"
            )
    scale = (max_side or math.inf) / max(mask.shape)
    if scale < 1:
        size = [max(1, round(side * scale)) for side in mask.shape[::-1]]
        composite, mask, real = (
            np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) for image in (composite, mask, real)
        )
    return Sample(composite, mask, real, triplet.composite.name, triplet.subset)


def reference_colors(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random pixels of a photo, of its foreground or of the whole photo, whose colours another photo gets.

    Returns:
        RGB, uint8, shape (up to 4096, 3).
    """
    pixels = image.reshape(-1, 3)
    foreground = np.flatnonzero(mask > 127)
    if len(foreground) > 200 and rng.random() < 0.6:
        return pixels[foreground[rng.integers(len(foreground), size=min(REFERENCE_PIXELS, len(foreground)))]]
    return pixels[rng.integers(len(pixels), size=min(REFERENCE_PIXELS, len(pixels)))]


def synthetic_sample(
    photos: Sequence[MaskedPhoto], index: int, *, seed: int = 0, options: RecoloringOptions | None = None
) -> Sample | None:
    """A composite of a photo, determined by the arguments.

    Args:
        photos: the pool. The new colours come from other photos of the pool.
        index: number of the photo with the foreground to recolour.
        seed: of every random choice.
        options: the changes that may be drawn.
    Returns:
        the sample, or None if the photo allows no plausible composite.
    Raises:
        InputError: if the photo cannot be read, or none of the photos drawn for its new colours can.
    """
    photo = photos[index]
    rng = np.random.default_rng([seed, zlib.crc32(f"{photo.name} {photo.mask.name}".encode())])
    image, mask = load_photo(photo)
    if not (mask > 0).any():
        return None
    references = []
    for other in rng.integers(len(photos), size=3):
        try:
            references.append(reference_colors(*load_photo(photos[other]), rng))
        except InputError:  # one readable reference is enough
            continue
    if not references:
        raise InputError(f"{photo.image}: none of the photos drawn for its new colours could be read")
    recolored = recolor_foreground(image, mask, references, rng, options)
    return None if recolored is None else Sample(recolored.composite, mask, image, photo.name, recolored.method)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; iHarmony4's layout has composite_images, masks and real_images")
    by_stem: dict[str, Path] = {}
    for path in find_photos(folder).files:
        other = by_stem.setdefault(name_key(path.stem), path)
        if other != path:
            raise InputError(f"{path}: differs from {other} only in its extension or case; remove one of them")
    return by_stem


def _find(stem: str, files: dict[str, Path]) -> Path | None:
    shorter = stem.rpartition("_")[0]
    candidates = map(name_key, (stem, shorter, shorter.rpartition("_")[0]))
    return next((files[name] for name in candidates if name in files), None)


__all__ = [
    "Sample",
    "Triplet",
    "check_sizes",
    "decode_streamed",
    "load_triplet",
    "read_iharmony4",
    "reference_colors",
    "stream_photos",
    "synthetic_sample",
]
