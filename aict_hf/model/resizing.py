"""Low-resolution copies of photos and masks, identical to those of OpenCV's `INTER_LINEAR` for opaque photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .levels import full_scale, to_unit

Pixels = Any
"""A NumPy array, or a torch tensor on any device: both understand the arithmetic of this file."""

RESIZE_BITS = 11  # OpenCV resizes uint8 images with weights of 11 bits


def sampled_rows(height: int, samples: int) -> np.ndarray:
    """The rows of a photo that its low-resolution copy reads.

    Args:
        height: rows of the photo.
        samples: rows of the copy.
    Returns:
        row numbers in order, at most two for each row of the copy, int64.
    """
    top, bottom, _ = _taps(height, samples)
    return np.unique(np.concatenate([top, bottom]))


def resize_image(
    image: Pixels, size: Sequence[int], *, kept_rows: np.ndarray | None = None, full_height: int | None = None
) -> Pixels:
    """Round an image to uint8 and resize it bilinearly without antialiasing, as OpenCV does.

    Each sample reads the four pixels around it, in OpenCV's fixed-point arithmetic. The result is identical to
    `cv2.resize(image, interpolation=cv2.INTER_LINEAR)` of a uint8 image, bit for bit.

    Args:
        image: array or tensor, uint8 0..255, uint16 0..65535 or float 0..1, shape (..., H, W).
        size: height and width of the copy.
        kept_rows: numbers of the rows in `image`, in order, if it holds only some rows of a photo. They include
            `sampled_rows`.
        full_height: rows of that photo.
    Returns:
        levels 0..255, int32, shape (..., *size), an array or tensor like `image`.
    """
    top, bottom, y = _row_taps(image, size, kept_rows, full_height)
    left, right, x = _taps(image.shape[-1], size[1])
    x = np.where(left == right, np.float32(0), x)  # OpenCV drops the weight beyond the border in rows, not in columns
    shares = (share * (1 << RESIZE_BITS) for share in (x, 1 - x, y[:, None], 1 - y[:, None]))
    x_right, x_left, y_bottom, y_top = (_like(image, share.round().astype(np.int32)) for share in shares)
    top, bottom, left, right = (_like(image, index) for index in (top, bottom, left, right))

    def row(index: Pixels) -> Pixels:
        lines = image[..., index, :]
        return (_to_levels(lines[..., left]) * x_left + _to_levels(lines[..., right]) * x_right) >> 4

    return (((row(top) * y_top) >> 16) + ((row(bottom) * y_bottom) >> 16) + 2) >> 2


def resize_mask(
    mask: Pixels, size: Sequence[int], *, kept_rows: np.ndarray | None = None, full_height: int | None = None
) -> Pixels:
    """Resize a mask bilinearly without antialiasing, in float32, so that soft edges stay soft.

    A foreground that lies between the samples leaves a trace all the same: the cells of the copy that it touches take
    its highest value. This needs all rows of the mask.

    Args:
        mask: array or tensor, uint8 0..255 or float 0..1, shape (..., H, W).
        size: height and width of the copy.
        kept_rows, full_height: see `resize_image`.
    Returns:
        float32 in [0, 1], shape (..., *size), an array or tensor like `mask`.
    """
    copy = _bilinear(mask, size, kept_rows, full_height)
    if kept_rows is None:
        for index in np.ndindex(*mask.shape[:-2]):
            if is_missed(copy[index], mask[index].max() / full_scale(mask)):
                cells = foreground_cells(None, np.asarray(_on_cpu(mask[index]))[None], size)
                copy[index] = _like(mask, np.maximum(np.asarray(_on_cpu(copy[index])), cells.highest[0]))
    return copy


def low_resolution_copies(
    image: np.ndarray,
    mask: np.ndarray,
    size: Sequence[int],
    *,
    opacity: np.ndarray | None = None,
    kept_rows: np.ndarray | None = None,
    full_height: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the network's inputs from one photo.

    Colours under transparent pixels do not take part: the photo is laid on the mean colour of what is visible outside
    the foreground, or of the foreground if nothing is. A foreground between the samples is seen with its mean colours.

    Args:
        image: RGB, as for `resize_image`, shape (3, H, W).
        mask: its foreground, as for `resize_mask`, shape (1, H, W).
        size: height and width of the copies.
        opacity: alpha channel, uint8, uint16 or float, shape (1, H, W); None if the photo is opaque.
        kept_rows, full_height: see `resize_image`. With them, a foreground between the samples is not looked for.
    Returns:
        RGB, shape (3, *size), and mask, shape (1, *size), both float32 in [0, 1].
    """
    rows: dict[str, Any] = {"kept_rows": kept_rows, "full_height": full_height}
    small = resize_image(image, size, **rows).astype(np.float32) / 255
    small_mask = _bilinear(mask, size, kept_rows, full_height)
    if opacity is not None:
        if kept_rows is None:
            kept = sampled_rows(image.shape[-2], size[0])
            lines, opacity = image[:, kept], opacity[:, kept]
            rows = {"kept_rows": kept, "full_height": mask.shape[-2]}
        else:
            lines = image
        share = _bilinear(opacity, size, **rows)
        premultiplied = _bilinear(to_unit(lines) * to_unit(opacity), size, **rows)
        outside = 1 - small_mask
        if (share * outside).sum() < 1:  # less than one pixel of the copy
            outside = np.ones_like(small_mask)
        total = (share * outside).sum()
        fill = (premultiplied * outside).sum((1, 2), keepdims=True) / total if total > 0 else np.float32(0.5)
        visible = np.minimum(4 * share, 1)  # what is less than a quarter opaque fades into the mean colour
        laid = visible * premultiplied / np.maximum(share, 1e-6) + (1 - visible) * fill
        small = np.where(share > 1 - 1e-6, small, (np.clip(laid, 0, 1) * 255).round() / 255)  # levels, as all copies
    if kept_rows is None and is_missed(small_mask, mask.max() / full_scale(mask)):
        small, small_mask = foreground_cells(image, mask, size).laid_on(small, small_mask)
    return small, small_mask


def is_missed(copy: Pixels, highest: float) -> bool:
    """Whether a foreground lies between the samples of its copy, which then has less than half of its highest value."""
    return bool(copy.max() < 0.5 * highest)


@dataclass(frozen=True)
class ForegroundCells:
    """The foreground within each pixel of a low-resolution copy. Those of strips of one photo can be added.

    Attributes:
        weight: sum of the mask, float64, shape (1, h, w).
        color: sum of the mask times the colours, float64, shape (3, h, w).
        highest: highest value of the mask, float32, shape (1, h, w).
    """

    weight: np.ndarray
    color: np.ndarray
    highest: np.ndarray

    def __add__(self, other: "ForegroundCells") -> "ForegroundCells":
        highest = np.maximum(self.highest, other.highest)
        return ForegroundCells(self.weight + other.weight, self.color + other.color, highest)

    def laid_on(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The copies of photo and mask, with the foreground's mean colours and highest values where it is."""
        mean = (self.color / np.maximum(self.weight, 1e-9) * 255).round().astype(np.float32) / 255
        return np.where(self.weight > 0, mean, image), np.maximum(mask, self.highest)


def foreground_cells(
    image: np.ndarray | None, mask: np.ndarray, size: Sequence[int], *, top: int = 0, full_height: int | None = None
) -> ForegroundCells:
    """Collect the foreground within each pixel of a low-resolution copy, for foregrounds between its samples.

    Args:
        image: RGB, uint8, uint16 or float in [0, 1], shape (3, H, W); None if the colours do not matter.
        mask: uint8 or float in [0, 1], shape (1, H, W).
        size: height and width of the copy.
        top: number of the first row, if image and mask are a strip of a photo.
        full_height: rows of that photo.
    """
    height, width = size
    row, column = mask[0].nonzero()
    cell = (row + top) * height // (full_height or mask.shape[1]) * width + column * width // mask.shape[2]
    value = to_unit(mask[0, row, column])
    weight = np.bincount(cell, value, height * width)
    color = np.zeros((3, height * width))
    if image is not None:
        for channel, levels in enumerate(image[:, row, column]):
            color[channel] = np.bincount(cell, to_unit(levels) * value, height * width)
    highest = np.zeros(height * width, np.float32)
    np.maximum.at(highest, cell, value)
    return ForegroundCells(*(values.reshape(-1, height, width) for values in (weight, color, highest)))


def _bilinear(values: Pixels, size: Sequence[int], kept_rows: np.ndarray | None, full_height: int | None) -> Pixels:
    top, bottom, y = _row_taps(values, size, kept_rows, full_height)
    left, right, x = _taps(values.shape[-1], size[1])
    top, bottom, left, right, x, y = (_like(values, given) for given in (top, bottom, left, right, x, y[:, None]))
    scale = full_scale(values)

    def row(index: Pixels) -> Pixels:
        lines = values[..., index, :]
        first, second = (_to_float(lines[..., columns]) / scale for columns in (left, right))
        return first * (1 - x) + second * x

    return row(top) * (1 - y) + row(bottom) * y


def _row_taps(
    image: Pixels, size: Sequence[int], kept_rows: np.ndarray | None, full_height: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    top, bottom, y = _taps(image.shape[-2] if full_height is None else full_height, size[0])
    if kept_rows is not None:
        top, bottom = np.searchsorted(kept_rows, top), np.searchsorted(kept_rows, bottom)
    return top, bottom, y


def _taps(length: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two neighbours of each sample (half-pixel centres), and the weight of the second one, float32."""
    centre = (np.arange(samples) + 0.5) * (length / samples) - 0.5
    first = np.floor(centre)
    weight = (centre - first).astype(np.float32)
    first = first.astype(np.int64)
    return np.clip(first, 0, length - 1), np.clip(first + 1, 0, length - 1), weight


def _like(image: Pixels, values: np.ndarray) -> Pixels:
    """An array as a tensor beside `image`, if that is a tensor."""
    if isinstance(image, np.ndarray):
        return values
    import torch

    return torch.from_numpy(values).to(image.device)


def _on_cpu(image: Pixels) -> Pixels:
    return image if isinstance(image, np.ndarray) else image.cpu()


def _to_float(values: Pixels) -> Pixels:
    return values.astype(np.float32) if isinstance(values, np.ndarray) else values.float()


def _to_levels(values: Pixels) -> Pixels:
    """Levels 0..255, rounded to nearest, int32."""
    scale = full_scale(values)
    levels = values if scale == 255 else _to_float(values) * (255 / scale) + 0.5
    return levels.astype(np.int32) if isinstance(levels, np.ndarray) else levels.int()


__all__ = [
    "ForegroundCells",
    "foreground_cells",
    "is_missed",
    "low_resolution_copies",
    "resize_image",
    "resize_mask",
    "sampled_rows",
]
