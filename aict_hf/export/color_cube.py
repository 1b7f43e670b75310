"""The foreground's mean colour transform as a .cube LUT, which editors (Photoshop, DaVinci, ffmpeg) load.

A .cube file is one transform for all positions, so it keeps what AICT does on average over the foreground and loses how
that varies over the photo: `cube_error` says how much.
"""

from pathlib import Path

import torch
from torch import Tensor

from ..files.atomic_write import atomic_file
from ..model.levels import to_unit
from ..model.lut import apply_luts
from ..model.lut_reference import look_up, sample_luts

SIZES = (2, 256)  # of a 3-D LUT, by the specification


def mean_curves(mask: Tensor, knots: Tensor, color_lut: Tensor, *, size: int = 33) -> Tensor:
    """What the LUTs do to each intensity, averaged over the foreground.

    Args:
        mask: foreground of one photo at any resolution, float in [0, 1], shape (1, H, W).
        knots, color_lut: the photo's maps, as for `apply_luts`, with a batch of 1.
        size: number of intensities, from 0 to 1.
    Returns:
        shape (3, size).
    Raises:
        ValueError: if the mask has no foreground.
    """
    rows, columns = mask[0].nonzero(as_tuple=True)
    if len(rows) == 0:
        raise ValueError("the mask has no foreground; there is nothing to average over")
    height, width = mask.shape[1:]
    x, y = columns * (2 / max(width - 1, 1)) - 1, rows * (2 / max(height - 1, 1)) - 1
    positions = torch.stack([x, y], dim=-1).to(knots.dtype)[None]
    weight = mask[0, rows, columns].to(knots.dtype)
    levels = torch.linspace(0, 1, size, dtype=knots.dtype, device=knots.device)
    curves = [
        (sample_luts(level.expand(1, 3, len(rows)), positions, knots, color_lut)[0] * weight).sum(1) / weight.sum()
        for level in levels
    ]
    return torch.stack(curves, dim=1)


def apply_curves(composite: Tensor, mask: Tensor, curves: Tensor) -> Tensor:
    """A photo whose foreground went through the curves, as an editor does it that loads the .cube file.

    Args:
        composite: RGB, uint8, uint16 or float in [0, 1], shape (3, H, W).
        mask: foreground, uint8 or float in [0, 1], shape (1, H, W).
        curves: what `mean_curves` returns.
    Returns:
        float in [0, 1], shape (3, H, W).
    """
    colors, weight = to_unit(composite), to_unit(mask)
    return weight * look_up(curves[None, :, :, None, None], colors[None])[0] + (1 - weight) * colors


def cube_error(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, curves: Tensor
) -> tuple[float, float]:
    """How far the curves are from the full result, and how far the composite is.

    Args:
        composite, mask: as for `apply_curves`.
        knots, color_lut, curves: as for `mean_curves`, and what it returned.
    Returns:
        both as fMSE: squared error per foreground pixel, 0..255 scale.
    """
    colors, weight = to_unit(composite), to_unit(mask)
    full = apply_luts(colors[None], weight[None], knots, color_lut)[0]
    area = 3 * weight.sum().clamp(min=1e-6)
    error, change = (
        float(((image - full) ** 2).sum() / area) * 255**2 for image in (apply_curves(colors, weight, curves), colors)
    )
    return error, change


def write_cube(path: Path, curves: Tensor, *, title: str) -> None:
    """Write the curves as a 3-D LUT; the file appears only when it is complete.

    Args:
        path: where to.
        curves: shape (3, size), size 2 to 256.
        title: what editors show.
    Raises:
        ValueError: if there are more or fewer intensities than the format allows.
        InputError: if the file cannot be written.
    Source: Adobe, "Cube LUT Specification" 1.0 (2013).
    """
    size = curves.shape[1]
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"the LUT has {size} intensities a channel; a .cube file holds {SIZES[0]} to {SIZES[1]}")
    red, green, blue = curves.tolist()
    quiet_title = "".join(c for c in title if c.isprintable() and c.isascii() and c != '"')
    with atomic_file(path) as partial, partial.open("w", encoding="ascii") as file:
        file.write(f'TITLE "{quiet_title}"\nLUT_3D_SIZE {size}\nDOMAIN_MIN 0.0 0.0 0.0\nDOMAIN_MAX 1.0 1.0 1.0\n')
        for b in blue:  # red changes fastest
            for g in green:
                file.writelines(f"{r:.6f} {g:.6f} {b:.6f}\n" for r in red)


__all__ = ["apply_curves", "cube_error", "mean_curves", "write_cube"]
