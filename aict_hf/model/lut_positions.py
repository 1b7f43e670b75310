"""Pixel positions in the grid of the LUT maps (align_corners=True)."""

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def pixel_positions(height: int, width: int, rows: slice, columns: slice, like: "Tensor") -> "Tensor":
    """Positions of a block of pixels as `grid_sample` takes them.

    Args:
        height, width: size of the whole photo, in pixels.
        rows, columns: the block.
        like: gives the dtype and device.
    Returns:
        x and y from -1 to 1, which are the corners of the photo, shape (rows, columns, 2).
    """
    import torch

    x, y = _linspace_tensor(width, like)[columns], _linspace_tensor(height, like)[rows]
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)


def _linspace_tensor(steps: int, like: "Tensor") -> "Tensor":
    """`torch.linspace(-1, 1, steps)`, bit for bit in float32, without fixing `steps` in an exported graph.

    It counts from both ends with fused multiply-adds. Other roundings of the positions change the output by up to 4e-5.
    """
    import torch

    index = torch.arange(steps, dtype=torch.float64)
    step = torch.full((), 2.0, dtype=like.dtype) / max(steps - 1, 1)
    from_start, from_end = step * index - 1, 1 - step * (steps - 1 - index)
    return torch.where((2 * index < steps - 1) | (index == 0), from_start, from_end).to(like.device, like.dtype)


def _linspace(steps: int) -> np.ndarray:
    """`_linspace_tensor` in float32 as an array, bit for bit."""
    index = np.arange(steps)
    step = np.float64(np.float32(2) / np.float32(max(steps - 1, 1)))
    from_start, from_end = step * index - 1, 1 - step * (steps - 1 - index)
    return np.where((2 * index < steps - 1) | (index == 0), from_start, from_end).astype(np.float32)


@functools.lru_cache(maxsize=64)
def lut_cells(pixels: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The row of the LUT maps above each row of pixels, and the distance to it; columns work the same way.

    The roundings are those of `grid_sample` on `pixel_positions`.

    Args:
        pixels: rows of the photo.
        nodes: rows of the LUT maps.
    Returns:
        int32 indices up to max(nodes - 2, 0), and float32 distances in rows of the maps, 0 to 1; both of shape
        (pixels,). The arrays are cached: do not write to them.
    """
    place = (_linspace(pixels) + 1) / 2 * (nodes - 1)
    above = np.clip(np.floor(place), 0, max(nodes - 2, 0))
    return above.astype(np.int32), np.clip(place - above, 0, 1)


__all__ = ["lut_cells", "pixel_positions"]
