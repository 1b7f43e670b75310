"""Integer levels of images, and floats in [0, 1]."""

import torch
from torch import Tensor

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}
"""The level that stands for 1.0 in an image of integers."""


def to_unit(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert integer levels to floats in [0, 1]; floats keep their value.

    Args:
        values: uint8 0..255, uint16 0..65535 or float 0..1, any shape.
        dtype: the float dtype of the result.
    Returns:
        the same shape in `dtype`.
    """
    return values.to(dtype) / FULL_SCALE.get(values.dtype, 1.0)


def to_eight_bits(values: Tensor) -> Tensor:
    """Convert levels to uint8 0..255, rounded; uint8 is returned as it is.

    Args:
        values: uint8 0..255, uint16 0..65535 or float 0..1, any shape.
    """
    return values if values.dtype == torch.uint8 else (to_unit(values) * 255).round().to(torch.uint8)


__all__ = ["FULL_SCALE", "to_eight_bits", "to_unit"]
