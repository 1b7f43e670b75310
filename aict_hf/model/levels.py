"""Integer levels of images, and floats in [0, 1]."""

from typing import Any

import numpy as np

_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}


def full_scale(values: Any) -> float:
    """The level that stands for 1.0 in an image.

    Args:
        values: NumPy array or torch tensor.
    Returns:
        255 for uint8, 65535 for uint16, 1 for floats.
    """
    return _FULL_SCALE.get(str(values.dtype).removeprefix("torch."), 1.0)


def to_unit(values: np.ndarray) -> np.ndarray:
    """Convert levels to float32 in [0, 1].

    Args:
        values: uint8 0..255, uint16 0..65535 or float 0..1, any shape.
    """
    return values.astype(np.float32) / np.float32(full_scale(values))


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Convert levels to uint8 0..255, rounded; uint8 is returned as it is.

    Args:
        values: uint8 0..255, uint16 0..65535 or float 0..1, any shape.
    """
    return values if values.dtype == np.uint8 else (to_unit(values) * 255).round().astype(np.uint8)


__all__ = ["full_scale", "to_eight_bits", "to_unit"]
