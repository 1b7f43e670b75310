"""Low-resolution copies of photos and masks, identical to those of OpenCV's `INTER_LINEAR`."""

from collections.abc import Sequence

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

    Args:
        mask: uint8 0..255 or float 0..1, shape (..., H, W).
        size: height and width of the copy.
        kept_rows, full_height: see `resize_image`.
    Returns:
        float32 in [0, 1], shape (..., *size).
    """
    top, bottom, y = _row_taps(mask, size, kept_rows, full_height)
    left, right, x = _taps(mask.shape[-1], size[1], mask.device)

    def row(index: Tensor) -> Tensor:
        lines = to_unit(mask[..., index, :])
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


__all__ = ["resize_image", "resize_mask", "sampled_rows"]
