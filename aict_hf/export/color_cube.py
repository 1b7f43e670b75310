"""The foreground's mean colour transform as a .cube LUT, which editors (Photoshop, DaVinci, ffmpeg) load.

A .cube file has one transform for all positions. It keeps the average of AICT's transform over the foreground and loses
its variation over the photo. `cube_error` measures the loss.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic_write import atomic_file
from ..files.images import read_image
from ..files.options import DEFAULT_MAX_MEGAPIXELS
from ..harmonize.harmonizer import Harmonizer
from ..model.lut import apply_luts
from ..model.lut_reference import look_up, sample_luts, unit_tensor
from ..model.opened_photo import open_photo

SIZES = (2, 256)  # of a 3-D LUT, by the specification


class CubeError(NamedTuple):
    """What a .cube file loses, as fMSE: squared error per foreground pixel, 0..255 scale.

    Attributes:
        distance: between the .cube file's result and the full result.
        change: between the composite and the full result.
    """

    distance: float
    change: float


def export_cube(
    composite: Path,
    mask: Path | None,
    output: Path,
    harmonizer: Harmonizer,
    *,
    size: int = 33,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    warn: Callable[[str], None] = lambda message: None,
) -> CubeError:
    """Write the .cube file of one photo.

    Args:
        composite: the photo.
        mask: the file of its mask, or None if the composite's alpha channel is the mask.
        output: the .cube file to write.
        harmonizer: the network.
        size: nodes along each side of the LUT, 2 to 256.
        max_megapixels: refuse larger images.
        warn: called with one line for each surprise that is not a failure.
    Returns:
        the loss on this photo.
    Raises:
        InputError: if a file cannot be read or written, the mask has no foreground, or the network has another colour
            transformation than AICT's.
    """
    transform = harmonizer.model.config.color_transform
    if transform != "aict":
        raise InputError(f"the checkpoint's color_transform is {transform}; .cube files are made from the LUTs of aict")
    photo = read_image(composite, max_megapixels=max_megapixels).pixels
    foreground = None if mask is None else read_image(mask, max_megapixels=max_megapixels).pixels
    try:
        [luts] = harmonizer.predict_opened([open_photo(photo, foreground)])
        opened, knots, color_lut = luts.photo, luts.knots[None], luts.color_lut[None]
        side = harmonizer.processor.size
        _, small_mask = opened.low_resolution((side["height"], side["width"]))
        for surprise in opened.surprises():
            warn(f"{mask or composite}: {surprise}")
        curves = mean_curves(torch.from_numpy(small_mask).to(knots.device), knots, color_lut, size=size).cpu()
        rgb, weight = torch.from_numpy(opened.rgb), torch.from_numpy(opened.mask)
        loss = cube_error(rgb, weight, knots.cpu(), color_lut.cpu(), curves)
    except ValueError as error:
        raise InputError(f"{mask or composite}: {error}") from error
    write_cube(output, curves, title=f"AICT, {composite.stem}")
    return loss


def mean_curves(mask: Tensor, knots: Tensor, color_lut: Tensor, *, size: int = 33) -> Tensor:
    """Average the LUTs' transform of each intensity over the foreground.

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
    """Apply the curves to the foreground, as an editor with the .cube file does.

    Args:
        composite: RGB, uint8, uint16 or float in [0, 1], shape (3, H, W).
        mask: foreground, uint8 or float in [0, 1], shape (1, H, W).
        curves: the result of `mean_curves`.
    Returns:
        float in [0, 1], shape (3, H, W).
    """
    colors, weight = unit_tensor(composite), unit_tensor(mask)
    return weight * look_up(curves[None, :, :, None, None], colors[None])[0] + (1 - weight) * colors


def cube_error(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, curves: Tensor) -> CubeError:
    """Measure how far the curves' result and the composite are from the full result.

    Args:
        composite, mask: as for `apply_curves`.
        knots, color_lut: as for `mean_curves`.
        curves: the result of `mean_curves`.
    """
    colors, weight = unit_tensor(composite), unit_tensor(mask)
    full = apply_luts(colors[None], weight[None], knots, color_lut)[0]
    area = 3 * weight.sum().clamp(min=1e-6)
    error, change = (
        float(((image - full) ** 2).sum() / area) * 255**2 for image in (apply_curves(colors, weight, curves), colors)
    )
    return CubeError(error, change)


def write_cube(path: Path, curves: Tensor, *, title: str) -> None:
    """Write the curves as a 3-D LUT. The file appears only when it is complete.

    Args:
        path: the file to write.
        curves: shape (3, size), size 2 to 256.
        title: the name that editors show.
    Raises:
        ValueError: if the number of intensities is out of range.
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


__all__ = ["CubeError", "apply_curves", "cube_error", "export_cube", "mean_curves", "write_cube"]
