"""Low-resolution copies of photos and masks, identical to those of OpenCV's `INTER_LINEAR` for opaque photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .levels import FULL_SCALE, to_unit

RESIZE_BITS = 11  # OpenCV resizes uint8 images with weights of 11 bits


def sampled_rows(height: int, samples: int) -> Tensor:
    """The rows of a photo that its low-resolution copy reads.

    Args:
        height: rows of the photo.
        samples: rows of the copy.
    Returns:
        row numbers in order, at most two for each row of the copy, int64.
    """
    top, bottom, _ = _taps(height, samples, torch.device("cpu"))
    return torch.cat([top, bottom]).unique()


def resize_image(
    image: Tensor, size: Sequence[int], *, kept_rows: Tensor | None = None, full_height: int | None = None
) -> Tensor:
    """Round an image to uint8 and resize it bilinearly without antialiasing, as OpenCV does.

    Each sample reads the four pixels around it, in OpenCV's fixed-point arithmetic. The result is identical to
    `cv2.resize(image, interpolation=cv2.INTER_LINEAR)` of a uint8 image, bit for bit.

    Args:
        image: uint8 0..255, uint16 0..65535 or float 0..1, shape (..., H, W).
        size: height and width of the copy.
        kept_rows: numbers of the rows in `image`, in order, if it holds only some rows of a photo. They include
            `sampled_rows`.
        full_height: rows of that photo.
    Returns:
        levels 0..255, int32, shape (..., *size).
    """
    top, bottom, y = _row_taps(image, size, kept_rows, full_height)
    left, right, x = _taps(image.shape[-1], size[1], image.device)
    x = torch.where((left == right), 0, x)  # OpenCV drops the weight beyond the border in rows, not in columns
    one = 1 << RESIZE_BITS
    x_right, x_left = (x * one).round().int(), ((1 - x) * one).round().int()
    y_bottom, y_top = (y * one).round().int()[:, None], ((1 - y) * one).round().int()[:, None]

    def row(index: Tensor) -> Tensor:
        lines = image[..., index, :]
        return (_to_levels(lines[..., left]) * x_left + _to_levels(lines[..., right]) * x_right) >> 4

    return (((row(top) * y_top) >> 16) + ((row(bottom) * y_bottom) >> 16) + 2) >> 2


def resize_mask(
    mask: Tensor, size: Sequence[int], *, kept_rows: Tensor | None = None, full_height: int | None = None
) -> Tensor:
    """Resize a mask bilinearly without antialiasing, in float32, so that soft edges stay soft.

    A foreground that lies between the samples leaves a trace all the same: the cells of the copy that it touches take
    its highest value. This needs all rows of the mask.

    Args:
        mask: uint8 0..255 or float 0..1, shape (..., H, W).
        size: height and width of the copy.
        kept_rows, full_height: see `resize_image`.
    Returns:
        float32 in [0, 1], shape (..., *size).
    """
    copy = _bilinear(mask, size, kept_rows, full_height)
    if kept_rows is None:
        for whole, small in zip(mask.flatten(0, -3), copy.flatten(0, -3), strict=True):  # views
            if is_missed(small, to_unit(whole.max()).item()):
                small.copy_(torch.maximum(small, foreground_cells(None, whole[None], size).highest[0]))
    return copy


def low_resolution_copies(
    image: Tensor,
    mask: Tensor,
    size: Sequence[int],
    *,
    opacity: Tensor | None = None,
    kept_rows: Tensor | None = None,
    full_height: int | None = None,
) -> tuple[Tensor, Tensor]:
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
    small = resize_image(image, size, **rows).float() / 255
    small_mask = _bilinear(mask, size, kept_rows, full_height)
    if opacity is not None:
        if kept_rows is None:
            kept = sampled_rows(image.shape[-2], size[0]).to(image.device)
            lines, opacity = image[:, kept], opacity[:, kept]
            rows = {"kept_rows": kept, "full_height": mask.shape[-2]}
        else:
            lines = image
        share = _bilinear(opacity, size, **rows)
        premultiplied = _bilinear(to_unit(lines) * to_unit(opacity), size, **rows)
        outside = 1 - small_mask
        if (share * outside).sum() < 1:  # less than one pixel of the copy
            outside = torch.ones_like(small_mask)
        total = (share * outside).sum()
        fill = (premultiplied * outside).sum((1, 2), keepdim=True) / total if total > 0 else 0.5
        visible = (4 * share).clamp(max=1)  # what is less than a quarter opaque fades into the mean colour
        laid = visible * premultiplied / share.clamp(min=1e-6) + (1 - visible) * fill
        small = torch.where(share > 1 - 1e-6, small, (laid.clamp(0, 1) * 255).round() / 255)  # levels, as all copies
    if kept_rows is None and is_missed(small_mask, to_unit(mask.max()).item()):
        small, small_mask = foreground_cells(image, mask, size).laid_on(small, small_mask)
    return small, small_mask


def is_missed(copy: Tensor, highest: float) -> bool:
    """Whether a foreground lies between the samples of its copy, which then has less than half of its highest value."""
    return copy.max().item() < 0.5 * highest


@dataclass(frozen=True)
class ForegroundCells:
    """The foreground within each pixel of a low-resolution copy. Those of strips of one photo can be added.

    Attributes:
        weight: sum of the mask, float64, shape (1, h, w).
        color: sum of the mask times the colours, float64, shape (3, h, w).
        highest: highest value of the mask, float32, shape (1, h, w).
    """

    weight: Tensor
    color: Tensor
    highest: Tensor

    def __add__(self, other: "ForegroundCells") -> "ForegroundCells":
        highest = torch.maximum(self.highest, other.highest)
        return ForegroundCells(self.weight + other.weight, self.color + other.color, highest)

    def laid_on(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The copies of photo and mask, with the foreground's mean colours and highest values where it is."""
        mean = (self.color / self.weight.clamp(min=1e-9) * 255).round().float() / 255
        return torch.where(self.weight > 0, mean, image), torch.maximum(mask, self.highest)


def foreground_cells(
    image: Tensor | None, mask: Tensor, size: Sequence[int], *, top: int = 0, full_height: int | None = None
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
    row, column = mask[0].nonzero(as_tuple=True)
    cell = (row + top) * height // (full_height or mask.shape[1]) * width + column * width // mask.shape[2]
    value = to_unit(mask[0, row, column])
    color = torch.zeros(3, height * width, dtype=torch.float64, device=mask.device)
    if image is not None:
        color.index_add_(1, cell, (to_unit(image[:, row, column]) * value).double())
    weight = torch.zeros(height * width, dtype=torch.float64, device=mask.device).index_add_(0, cell, value.double())
    highest = torch.zeros(height * width, device=mask.device).scatter_reduce_(0, cell, value, "amax")
    return ForegroundCells(weight.view(1, height, width), color.view(3, height, width), highest.view(1, height, width))


def _bilinear(values: Tensor, size: Sequence[int], kept_rows: Tensor | None, full_height: int | None) -> Tensor:
    top, bottom, y = _row_taps(values, size, kept_rows, full_height)
    left, right, x = _taps(values.shape[-1], size[1], values.device)

    def row(index: Tensor) -> Tensor:
        lines = to_unit(values[..., index, :])
        return lines[..., left] * (1 - x) + lines[..., right] * x

    return row(top) * (1 - y[:, None]) + row(bottom) * y[:, None]


def _row_taps(
    image: Tensor, size: Sequence[int], kept_rows: Tensor | None, full_height: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    top, bottom, y = _taps(image.shape[-2] if full_height is None else full_height, size[0], image.device)
    if kept_rows is not None:
        top, bottom = torch.searchsorted(kept_rows, top), torch.searchsorted(kept_rows, bottom)
    return top, bottom, y


def _taps(length: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the two neighbours of each sample (half-pixel centres), and the weight of the second one."""
    centre = (torch.arange(samples, dtype=torch.float64) + 0.5) * (length / samples) - 0.5
    first = centre.floor()
    weight = (centre - first).float()
    first = first.long()
    low, high = first.clamp(0, length - 1), (first + 1).clamp(0, length - 1)
    return low.to(device), high.to(device), weight.to(device)


def _to_levels(values: Tensor) -> Tensor:
    """Levels 0..255, rounded to nearest, int32."""
    if values.dtype == torch.uint8:
        return values.int()
    return (values.float() * (255 / FULL_SCALE.get(values.dtype, 1.0)) + 0.5).int()


__all__ = [
    "ForegroundCells",
    "foreground_cells",
    "is_missed",
    "low_resolution_copies",
    "resize_image",
    "resize_mask",
    "sampled_rows",
]
