"""Colour differences as people see them: CIE Lab and CIEDE2000, in NumPy."""

import math

import numpy as np

# Primaries and white point (D65) of sRGB (IEC 61966-2-1); XYZ relative to the white point.
_RGB_TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB colours to CIE Lab (D65).

    Args:
        rgb: sRGB in [0, 1], float, shape (..., 3, P).
    Returns:
        L* 0..100, a* and b* about -128..127, shape (..., 3, P).
    Examples:
        >>> import numpy as np
        >>> white = np.ones((3, 1))
        >>> [round(value, 1) + 0.0 for value in rgb_to_lab(white)[:, 0].tolist()]
        [100.0, 0.0, 0.0]

    Source: CIE 15:2004.
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, (np.maximum(rgb + 0.055, 0) / 1.055) ** 2.4)
    xyz = np.array(_RGB_TO_XYZ, rgb.dtype) @ linear
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(roots, -2, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-2)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIEDE2000 colour difference. About 1 is just visible side by side; above 5 is obvious.

    Args:
        first, second: CIE Lab colours, shape (..., 3, P).
    Returns:
        differences, 0 or more, shape (..., P).
    Examples:
        >>> import numpy as np
        >>> first, second = np.array([[50.0], [2.5], [0.0]]), np.array([[50.0], [0.0], [-2.5]])
        >>> round(ciede2000(first, second).item(), 4)
        4.3065

    Source: Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula" (2005), equations 2 to 22.
    """
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(first, -2, 0), np.moveaxis(second, -2, 0)
    chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - np.sqrt(chroma7 / (chroma7 + 25.0**7)))
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1), np.arctan2(b2, a2)  # -pi to pi, 0 for gray

    colorful = (c1 > 0) & (c2 > 0)
    turn = np.where(colorful, h2 - h1, 0)
    turn = np.where(turn > math.pi, turn - 2 * math.pi, np.where(turn < -math.pi, turn + 2 * math.pi, turn))
    lightness, chroma = l2 - l1, c2 - c1
    hue = 2 * np.sqrt(c1 * c2) * np.sin(turn / 2)

    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = np.where(colorful, h1 + turn / 2, h1 + h2)  # on the shorter arc
    degree = math.pi / 180
    t = (
        1
        - 0.17 * np.cos(mean_h - 30 * degree)
        + 0.24 * np.cos(2 * mean_h)
        + 0.32 * np.cos(3 * mean_h + 6 * degree)
        - 0.20 * np.cos(4 * mean_h - 63 * degree)
    )
    weight_l = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    weight_c = 1 + 0.045 * mean_c
    weight_h = 1 + 0.015 * mean_c * t
    blue = 30 * degree * np.exp(-(((np.remainder(mean_h / degree, 360) - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    rotation = -2 * np.sqrt(mean_c7 / (mean_c7 + 25.0**7)) * np.sin(2 * blue)
    parts = lightness / weight_l, chroma / weight_c, hue / weight_h
    squared = parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + rotation * parts[1] * parts[2]
    return np.sqrt(np.maximum(squared, 0))


__all__ = ["ciede2000", "rgb_to_lab"]
