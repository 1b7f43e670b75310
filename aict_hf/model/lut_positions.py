"""Where the pixels of a photo lie among the nodes of LUT maps whose corners are on its corners."""

import functools

import numpy as np
import torch
from torch import Tensor


def pixel_positions(height: int, width: int, rows: slice, columns: slice, like: Tensor) -> Tensor:
    """x and y of a block of a photo's pixels, -1 to 1 from corner to corner of the photo: shape (rows, columns, 2)."""
    x, y = _linspace(width, like)[columns], _linspace(height, like)[rows]
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)


def _linspace(steps: int, like: Tensor) -> Tensor:
    """`torch.linspace(-1, 1, steps)`, bit for bit in float32, without fixing `steps` in an exported graph.

    It counts from both ends with fused multiply-adds; other roundings of the positions change the output by up to 4e-5.
    """
    index = torch.arange(steps, dtype=torch.float64)
    step = torch.full((), 2.0, dtype=like.dtype) / max(steps - 1, 1)
    from_start, from_end = step * index - 1, 1 - step * (steps - 1 - index)
    return torch.where((2 * index < steps - 1) | (index == 0), from_start, from_end).to(like.device, like.dtype)


@functools.lru_cache(maxsize=64)
def lut_cells(pixels: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """For every row (or column) of pixels the LUT row it lies below, and how far, of the way to the next.

    The same roundings as `grid_sample` on `pixel_positions`.

    Args:
        pixels: rows of the photo.
        nodes: rows of the LUT maps.
    Returns:
        int32, at most max(nodes - 2, 0), and float32, 0 to 1, shape (pixels,) both; not to be written to.
    """
    place = (_linspace(pixels, torch.empty(0)) + 1) / 2 * (nodes - 1)
    above = place.floor().clamp(0, max(nodes - 2, 0))
    return above.int().numpy(), (place - above).clamp(0, 1).numpy()


__all__ = ["lut_cells", "pixel_positions"]
