"""Colour differences as people see them: CIE Lab and CIEDE2000, in torch."""

import math

import torch
from torch import Tensor

# Primaries and white point (D65) of sRGB (IEC 61966-2-1); XYZ relative to the white point.
_RGB_TO_XYZ = (
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB colours to CIE Lab (D65).

    Args:
        rgb: sRGB in [0, 1], float, shape (..., 3, P).
    Returns:
        L* 0..100, a* and b* about -128..127, shape (..., 3, P).
    Examples:
        >>> import torch
        >>> white = torch.ones(3, 1, dtype=torch.float64)
        >>> [round(value, 1) + 0.0 for value in rgb_to_lab(white)[:, 0].tolist()]
        [100.0, 0.0, 0.0]

    Source: CIE 15:2004.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4)
    xyz = torch.tensor(_RGB_TO_XYZ, dtype=rgb.dtype, device=rgb.device) @ linear
    epsilon = (6 / 29) ** 3
    x, y, z = torch.where(xyz > epsilon, xyz.clamp(min=epsilon) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29).unbind(
        dim=-2
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-2)


def ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """CIEDE2000 colour difference. About 1 is just visible side by side; above 5 is obvious.

    Args:
        first, second: CIE Lab colours, shape (..., 3, P).
    Returns:
        differences, 0 or more, shape (..., P).
    Examples:
        >>> import torch
        >>> first, second = torch.tensor([[50.0], [2.5], [0.0]]), torch.tensor([[50.0], [0.0], [-2.5]])
        >>> round(ciede2000(first, second).item(), 4)
        4.3065

    Source: Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula" (2005), equations 2 to 22.
    """
    (l1, a1, b1), (l2, a2, b2) = first.unbind(dim=-2), second.unbind(dim=-2)
    chroma7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - (chroma7 / (chroma7 + 25.0**7)).sqrt())
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = torch.atan2(b1, a1), torch.atan2(b2, a2)  # -pi to pi, 0 for gray

    colorful = (c1 > 0) & (c2 > 0)
    turn = torch.where(colorful, h2 - h1, 0)
    turn = torch.where(turn > math.pi, turn - 2 * math.pi, torch.where(turn < -math.pi, turn + 2 * math.pi, turn))
    lightness, chroma = l2 - l1, c2 - c1
    hue = 2 * (c1 * c2).sqrt() * torch.sin(turn / 2)

    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    mean_h = torch.where(colorful, h1 + turn / 2, h1 + h2)  # on the shorter arc
    degree = math.pi / 180
    t = (
        1
        - 0.17 * torch.cos(mean_h - 30 * degree)
        + 0.24 * torch.cos(2 * mean_h)
        + 0.32 * torch.cos(3 * mean_h + 6 * degree)
        - 0.20 * torch.cos(4 * mean_h - 63 * degree)
    )
    weight_l = 1 + 0.015 * (mean_l - 50) ** 2 / (20 + (mean_l - 50) ** 2).sqrt()
    weight_c = 1 + 0.045 * mean_c
    weight_h = 1 + 0.015 * mean_c * t
    blue = 30 * degree * torch.exp(-(((torch.remainder(mean_h / degree, 360) - 275) / 25) ** 2))
    mean_c7 = mean_c**7
    rotation = -2 * (mean_c7 / (mean_c7 + 25.0**7)).sqrt() * torch.sin(2 * blue)
    parts = lightness / weight_l, chroma / weight_c, hue / weight_h
    return (parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + rotation * parts[1] * parts[2]).clamp(min=0).sqrt()


__all__ = ["ciede2000", "rgb_to_lab"]
