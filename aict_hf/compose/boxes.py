"""Boxes around masks and rotated rectangles."""

import numpy as np

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels; right and bottom are the first column and row outside."""


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the smallest box around the pixels of a mask.

    Args:
        mask: bool, shape (H, W).
    Returns:
        left, top, right and bottom (right and bottom outside), or None for an empty mask.
    Examples:
        >>> import numpy as np
        >>> mask = np.zeros((10, 20), bool)
        >>> mask[2:5, 7:9] = True
        >>> mask_box(mask)
        (7, 2, 9, 5)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def half_extent(width: float, height: float, rotation: float) -> tuple[float, float]:
    """Return half of the width and half of the height of the box around a rotated rectangle.

    Args:
        width, height: of the rectangle, in pixels.
        rotation: in degrees.
    """
    cosine, sine = abs(np.cos(np.radians(rotation))), abs(np.sin(np.radians(rotation)))
    return (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2


__all__ = ["Box", "half_extent", "mask_box"]
