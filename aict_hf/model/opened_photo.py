"""`OpenedPhoto`: a photo with its foreground mask, decoded once, and all that is done with it.

This file needs neither torch nor transformers, so that a program that runs the network elsewhere starts at once. It
takes the LUT maps as arrays as well as tensors.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .color_difference import ciede2000, rgb_to_lab
from .foreground_mask import mask_surprises
from .image_arrays import is_tensor, opacity_array, photo_arrays, put_back, without_hidden
from .image_sources import open_image, short_name
from .levels import to_unit
from .resizing import low_resolution_copies

if TYPE_CHECKING:
    from torch import Tensor

    ImageLike = Image.Image | np.ndarray | Tensor | str | os.PathLike

LUTMap = Any
"""A NumPy array or a torch tensor."""

DISHARMONY_PIXELS = 2**16
STRIP_ROWS = 256  # of a photo are recoloured at once where only some pixels of the result are wanted


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo and its foreground mask, decoded once. `open_photo` makes one.

    Attributes:
        original: the photo as it was given: a PIL image (also for a path), NumPy array or torch tensor.
        rgb: its colours, shape (3, H, W), uint8, uint16 or float in [0, 1].
        mask: its foreground, shape (1, H, W), uint8 or float in [0, 1].
        input_data_format: as in `AICTImageProcessor.preprocess`.
        opacity: its alpha channel, shape (1, H, W), of the dtype of `rgb`; None if it is opaque.
    """

    original: Any
    rgb: np.ndarray
    mask: np.ndarray
    input_data_format: str | None = None
    opacity: np.ndarray | None = None

    def inverted(self) -> "OpenedPhoto":
        """The same photo with foreground and background exchanged. Transparent pixels are neither."""
        mask = 255 - self.mask if self.mask.dtype == np.uint8 else 1 - self.mask
        return replace(self, mask=without_hidden(mask, self.opacity))

    def surprises(self) -> list[str]:
        """Warn of signs that the mask is misread, as `mask_surprises` finds them, and of a missing background.

        Returns:
            one sentence for each surprise; none for a mask without foreground.
        """
        if not self.mask.any():
            return []
        found = mask_surprises(self.mask)
        if self.opacity is None:
            background = bool(to_unit(self.mask.min()) < 0.5)
        else:  # most photos show some in a few rows
            background = any(
                bool((to_unit(self.opacity[:, ::step]) - to_unit(self.mask[:, ::step]) > 0.5).any()) for step in (16, 1)
            )
        if not background:
            found.append(
                "the mask covers the whole picture; there is no background to fit the colours to"
                if self.opacity is None
                else "nothing visible lies outside the foreground, because colours under transparent pixels do not "
                "count; there is no background to fit the colours to"
            )
        return found

    def low_resolution(self, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The network's inputs.

        Args:
            size: height and width.
        Returns:
            RGB, shape (3, *size), and mask, shape (1, *size), both float32 in [0, 1].
        """
        return low_resolution_copies(self.rgb, self.mask, size, opacity=self.opacity)

    def recolored(self, *maps: LUTMap, kind: str = "aict", strength: float = 1.0, overwrite: bool = False) -> Any:
        """Apply the network's maps at full resolution.

        Args:
            maps: the photo's `AICTOutput.maps` without the batch dimension: for AICT itself knots (3, K + 1, h, w) and
                color_lut (3, K, h, w). They are tensors or, for AICT itself, arrays, which need numba and no torch.
            kind: `AICTConfig.transform_kind` of the network.
            strength: share of the change to apply, 0 (returns the input bit for bit) to 1.
            overwrite: write to `rgb` itself, if its memory allows it. A large photo then needs less memory, and this
                object is of no use afterwards.
        Returns:
            an image of the type, size and mode of `original`. Alpha channels are kept. Pixels with mask 0 are
            identical to the input.
        Raises:
            ValueError: if the strength is out of range.
        """
        # The colours of a PIL image are a copy; those of a gray one are one channel in memory.
        own = overwrite and isinstance(self.original, Image.Image) and self.rgb.strides[0] > 0
        harmonized = recolor(self.rgb, self.mask, *maps, kind=kind, strength=strength, in_place=own)
        foreground = self.mask if strength > 0 else np.zeros_like(self.mask)
        return put_back(self.original, harmonized, foreground, self.input_data_format)

    def disharmony(self, *maps: LUTMap, kind: str = "aict") -> float:
        """Measure how far the foreground's colours are from where the network's maps put them.

        Args:
            maps, kind: as for `recolored`.
        Returns:
            mean CIEDE2000 as `AICTImageProcessor.disharmony` defines it.
        """
        height, width = self.mask.shape[1:]
        inside = np.flatnonzero(self.mask)
        if len(inside) == 0:
            return 0.0
        if len(inside) > DISHARMONY_PIXELS:
            inside = inside[np.linspace(0, len(inside) - 1, DISHARMONY_PIXELS).astype(np.int64)]
        row, column = np.divmod(inside, width)
        colors, weight = to_unit(self.rgb[:, row, column]), to_unit(self.mask[0, row, column])
        if isinstance(maps[0], np.ndarray):
            changed = _sampled_by_numba(self.rgb, row, column, *maps)
        else:
            positions = np.stack([column * (2 / max(width - 1, 1)) - 1, row * (2 / max(height - 1, 1)) - 1], axis=-1)
            changed = _sampled_by_torch(kind, colors, positions, *maps)
        result = weight * changed + (1 - weight) * colors
        difference = ciede2000(rgb_to_lab(colors), rgb_to_lab(result))
        return float((weight * difference).sum() / weight.sum())


def recolor(
    rgb: np.ndarray,
    mask: np.ndarray,
    *maps: LUTMap,
    kind: str = "aict",
    strength: float = 1.0,
    in_place: bool = False,
    top: int = 0,
    full_height: int | None = None,
) -> np.ndarray:
    """`apply_transform` for one photo on the CPU: by torch if the maps are tensors, else by numba alone.

    Args:
        rgb: RGB, uint8, uint16 or float in [0, 1], shape (3, H, W).
        mask: its foreground, uint8 or float in [0, 1], shape (1, H, W).
        maps, kind: as for `OpenedPhoto.recolored`.
        strength, top, full_height: as for `aict_hf.model.lut.apply_luts`.
        in_place: write to `rgb` itself.
    Returns:
        the recoloured photo, shape and memory layout of `rgb`.
    Raises:
        ValueError: if the strength is out of range.
    """
    place = {"strength": strength, "top": top, "full_height": full_height}
    if isinstance(maps[0], np.ndarray):
        knots, color_lut = maps
        return _recolor_by_numba(rgb, mask, knots, color_lut, in_place=in_place, **place)
    return _recolor_by_torch(rgb, mask, *maps, kind=kind, in_place=in_place, **place)


def _recolor_by_torch(
    rgb: np.ndarray, mask: np.ndarray, *maps: "Tensor", kind: str, in_place: bool, **options: Any
) -> np.ndarray:
    import torch

    from .color_transform import apply_transform

    with torch.no_grad():
        composite, foreground = (torch.from_numpy(values)[None].to(maps[0].device) for values in (rgb, mask))
        batch = (values[None] for values in maps)
        out = composite if in_place else None
        return apply_transform(kind, composite, foreground, *batch, out=out, **options)[0].cpu().numpy()


def _recolor_by_numba(
    rgb: np.ndarray, mask: np.ndarray, knots: np.ndarray, color_lut: np.ndarray, *, in_place: bool, **options: Any
) -> np.ndarray:
    from .lut_numba import apply_luts_numba

    if not 0 <= options["strength"] <= 1:
        raise ValueError(
            f"strength is {options['strength']}; expected 0 (the composite itself) to 1 (fully harmonized)"
        )
    composite, foreground = (
        image.astype(np.float32, copy=False) if image.dtype.kind == "f" else image for image in (rgb, mask)
    )
    harmonized = composite if in_place else composite.copy(order="K")
    maps = knots[None], color_lut[None]
    apply_luts_numba(composite[None], foreground[None], *maps, harmonized[None], **options)
    return harmonized


def open_photo(
    image: "ImageLike",
    mask: "ImageLike | None" = None,
    input_data_format: str | None = None,
    *,
    timeout: float | None = None,
) -> OpenedPhoto:
    """Decode a photo and its mask.

    Args:
        image, mask, input_data_format: one of each, as in `AICTImageProcessor.preprocess`.
        timeout: as for `open_image`.
    Raises:
        ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
    """
    return _opened(open_image(image, timeout=timeout), open_image(mask, timeout=timeout), input_data_format)


def open_photos(
    images: "ImageLike | Sequence[ImageLike]",
    masks: "ImageLike | Sequence[ImageLike | None] | None" = None,
    input_data_format: str | None = None,
) -> Iterator[OpenedPhoto]:
    """Decode photos and their masks, one after the other; errors name the file, or the number of the image.

    Args:
        images, masks, input_data_format: as in `AICTImageProcessor.preprocess`.
    Raises:
        ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
    """
    for index, (image, given_mask) in enumerate(pair_images(images, masks)):
        original, foreground = open_image(image), open_image(given_mask)
        try:
            photo = _opened(original, foreground, input_data_format)
        except ValueError as error:
            raise ValueError(f"{_name(image, given_mask, index)}: {error}") from error
        yield photo


def warn_of_surprises(photos: Sequence[OpenedPhoto]) -> None:
    """Warn of what `OpenedPhoto.surprises` finds; with several photos, the number of the photo comes first."""
    for index, photo in enumerate(photos):
        for surprise in photo.surprises():
            warnings.warn(f"image {index}: {surprise}" if len(photos) > 1 else surprise, stacklevel=3)


def pair_images(
    images: "ImageLike | Sequence[ImageLike]", masks: "ImageLike | Sequence[ImageLike | None] | None"
) -> list[tuple[Any, Any]]:
    """Pair composites with their masks (None if left out).

    Raises:
        ValueError: if there are no images, or not as many masks as images.
    """
    photos = _as_list(images)
    foregrounds = [None] * len(photos) if masks is None else _as_list(masks)
    if not photos:
        raise ValueError("no images were given; pass at least one")
    if len(photos) != len(foregrounds):
        raise ValueError(f"{len(photos)} images came with {len(foregrounds)} masks; pass one mask per image")
    return list(zip(photos, foregrounds, strict=True))


def is_several(images: Any) -> bool:
    """Whether this is a list of images or a stack of images in one array, not a single image."""
    return isinstance(images, list | tuple) or (
        (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim == 4
    )


def _opened(photo: Any, foreground: Any, input_data_format: str | None) -> OpenedPhoto:
    rgb, mask = photo_arrays(photo, foreground, input_data_format)
    opacity = None
    if not isinstance(photo, Image.Image) or photo.has_transparency_data:
        opacity = opacity_array(photo, input_data_format=input_data_format)
    return OpenedPhoto(photo, rgb, mask, input_data_format, opacity)


def _as_list(images: Any) -> list[Any]:
    return list(images) if is_several(images) else [images]


def _name(image: Any, mask: Any, index: int) -> str:
    paths = [short_name(os.fspath(given)) for given in (mask, image) if isinstance(given, str | os.PathLike)]
    return paths[0] if paths else f"image {index}"


def _sampled_by_torch(kind: str, colors: np.ndarray, positions: np.ndarray, *maps: "Tensor") -> np.ndarray:
    """Full-strength colours of single pixels, shape (3, P): `colors` of this shape, and `positions`, shape (P, 2)."""
    import torch

    from .color_transform import sample_transform

    with torch.no_grad():
        pixels, places = (torch.from_numpy(values)[None].float().to(maps[0].device) for values in (colors, positions))
        return sample_transform(kind, pixels, places, *(values[None].float() for values in maps))[0].cpu().numpy()


def _sampled_by_numba(
    rgb: np.ndarray, row: np.ndarray, column: np.ndarray, knots: np.ndarray, color_lut: Any
) -> np.ndarray:
    """Full-strength colours of the pixels of a photo in `row` (in order) and `column`, shape (3, P)."""
    from .lut_numba import apply_luts_numba

    changed = np.empty((3, len(row)), np.float32)
    height = rgb.shape[1]
    for top in range(0, height, STRIP_ROWS):
        first, last = np.searchsorted(row, (top, top + STRIP_ROWS))
        if first < last:
            strip = to_unit(rgb[:, top : top + STRIP_ROWS])[None]
            everywhere = np.full((1, 1, *strip.shape[2:]), 255, np.uint8)
            place = {"top": top, "full_height": height}
            apply_luts_numba(strip, everywhere, knots[None], color_lut[None], strip, **place)
            changed[:, first:last] = strip[0][:, row[first:last] - top, column[first:last]]
    return changed


__all__ = [
    "OpenedPhoto",
    "is_several",
    "open_photo",
    "open_photos",
    "pair_images",
    "recolor",
    "warn_of_surprises",
]
