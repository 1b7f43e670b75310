"""Copy and paste with care: a foreground laid onto a background, and where to lay it.

Soft edges are resampled and blended premultiplied, so that colours from outside the foreground do not bleed in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..model.image_processing_aict import photo_tensors, rgb_tensor
from ..model.levels import FULL_SCALE, to_unit
from .placement import half_extent

STRIP_PIXELS = 2**20  # placed at once, so that memory beyond foreground and background stays small


@dataclass(frozen=True)
class Composite:
    """A background with a foreground pasted onto it.

    Attributes:
        image: RGB, dtype of the background, shape (H, W, 3).
        mask: how much of each pixel is foreground, uint8, shape (H, W).
        box: left, top, right, bottom around the pixels that are at least half foreground (right and bottom outside),
            or None where the foreground missed the background.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int] | None


def paste(
    foreground: Any,
    alpha: Any,
    background: Any,
    *,
    position: tuple[float, float],
    scale: float = 1.0,
    rotation: float = 0.0,
    flip: bool = False,
    feather: float = 0.0,
    decontaminate: bool = False,
) -> Composite:
    """Lay a foreground onto a background.

    A pixel's corner, not its centre, has whole coordinates: `position=(w / 2, h / 2)` with nothing else set puts a
    foreground of w x h pixels into the upper left corner without resampling it. What hangs over the border is cut off.

    Args:
        foreground: PIL image, NumPy array or torch tensor as `AICTImageProcessor` takes them.
        alpha: its opacity, of the same size (white is opaque), or None where `foreground` has an alpha channel.
        background: likewise; an alpha channel of its own is ignored.
        position: x to the right and y down, in pixels of the background, of the foreground's centre; fractions count.
        scale: size of a foreground pixel in background pixels.
        rotation: degrees, counterclockwise.
        flip: mirror left and right, before rotating.
        feather: width in background pixels of a soft edge, laid to the inside; parts narrower than that vanish.
        decontaminate: estimate the foreground's own colours where it is translucent, so that its old background does
            not show; needs `pip install "aict_hf[compositing]"` (pymatting).
    Raises:
        ValueError: if an image is none, sizes differ, or a number is out of range.
        InputError: if `decontaminate` is asked for and pymatting is not installed.
    Source: Porter and Duff, "Compositing digital images" (SIGGRAPH 1984), operator over.
    """
    for name, value, low in (("scale", scale, 0.0), ("feather", feather, None), ("rotation", rotation, None)):
        if not np.isfinite(value) or (low is not None and value <= low):
            raise ValueError(f"{name} is {value}; expected a finite number{'' if low is None else ' above 0'}")
    if feather < 0:
        raise ValueError(f"feather is {feather}; expected a width in pixels, 0 or more")
    if not np.isfinite(position).all() or len(position) != 2:
        raise ValueError(f"position is {position}; expected finite x and y in pixels of the background")
    rgb, opacity = (to_unit(channels) for channels in photo_tensors(foreground, alpha))
    canvas = rgb_tensor(background, name="background")
    if decontaminate:
        rgb = _decontaminated(rgb, opacity)
    layer = torch.cat([rgb * opacity, opacity])
    foreground_height, foreground_width = rgb.shape[1:]
    del rgb, opacity  # large ones
    if flip:
        layer = layer.flip(2)
    if scale < 1:
        layer = _shrunk(layer, scale)
    height, width = canvas.shape[1:]
    across, down = scale * foreground_width / layer.shape[2], scale * foreground_height / layer.shape[1]
    left, top, right, bottom = _region(layer.shape[2] * across, layer.shape[1] * down, position, rotation, canvas)
    image = canvas.permute(1, 2, 0).cpu().numpy().copy()
    mask = np.zeros((height, width), np.uint8)
    if left >= right or top >= bottom:
        return Composite(image, mask, None)
    rows = max(1, STRIP_PIXELS // (right - left))
    strips = [(top_row, min(top_row + rows, bottom)) for top_row in range(top, bottom, rows)]
    soft = None
    if feather:
        alpha = [_placed(layer[3:], position, (across, down), rotation, (left, *s, right))[0] for s in strips]
        soft = _feathered(torch.cat(alpha), feather)
    full_scale = FULL_SCALE.get(canvas.dtype)
    for first, last in strips:
        placed = _placed(layer, position, (across, down), rotation, (left, first, last, right))
        if soft is not None:
            placed = placed * soft[first - top : last - top] / placed[3].clamp(min=1e-6)
        region = canvas[:, first:last, left:right].cpu()
        blended = placed[:3] + (1 - placed[3:]) * to_unit(region)
        if full_scale is not None:
            blended = (blended * full_scale).round()
        touched = placed[3:] > 0  # elsewhere the background stays as it is, to the bit
        blended = torch.where(touched, blended.to(canvas.dtype), region)
        image[first:last, left:right] = blended.permute(1, 2, 0).numpy()
        mask[first:last, left:right] = (placed[3] * 255).round().to(torch.uint8).numpy()
    return Composite(image, mask, mask_box(mask))


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom around the pixels of a uint8 mask that are at least 128, or None where none is."""
    rows, columns = np.flatnonzero((mask >= 128).any(axis=1)), np.flatnonzero((mask >= 128).any(axis=0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _region(
    width: float, height: float, position: tuple[float, float], rotation: float, canvas: Tensor
) -> tuple[int, int, int, int]:
    """The part of the background that the foreground's rectangle touches, a pixel more on each side."""
    half_width, half_height = half_extent(width, height, rotation)
    x, y = position
    return (
        int(np.clip(np.floor(x - half_width) - 1, 0, canvas.shape[2])),
        int(np.clip(np.floor(y - half_height) - 1, 0, canvas.shape[1])),
        int(np.clip(np.ceil(x + half_width) + 1, 0, canvas.shape[2])),
        int(np.clip(np.ceil(y + half_height) + 1, 0, canvas.shape[1])),
    )


def _shrunk(layer: Tensor, scale: float) -> Tensor:
    """Scaled down with a filter wide enough that nothing aliases, to whole pixels; `_placed` does the rest."""
    size = [max(1, round(side * scale)) for side in layer.shape[1:]]
    small = F.interpolate(layer[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
    return small.clamp(0, 1)


def _placed(
    layer: Tensor,
    position: tuple[float, float],
    scales: tuple[float, float],
    rotation: float,
    region: tuple[int, int, int, int],
) -> Tensor:
    """A premultiplied layer (4, h, w), or its opacity alone (1, h, w), resampled bicubically onto a region (left, top,
    bottom, right) of the background; 0 outside the layer."""
    left, top, bottom, right = region
    y, x = torch.meshgrid(
        torch.arange(top, bottom, dtype=torch.float64) + 0.5 - position[1],
        torch.arange(left, right, dtype=torch.float64) + 0.5 - position[0],
        indexing="ij",
    )
    cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    # grid_sample's coordinates: -1 and 1 are the layer's borders.
    u = (cosine * x - sine * y) / scales[0] * (2 / layer.shape[2])
    v = (sine * x + cosine * y) / scales[1] * (2 / layer.shape[1])
    grid = torch.stack([u, v], dim=2).to(layer.dtype)
    placed = F.grid_sample(layer[None], grid[None], mode="bicubic", padding_mode="zeros", align_corners=False)[0]
    alpha = placed[-1:].clamp(0, 1)
    alpha = torch.where(alpha < 1 / 512, 0, torch.where(alpha > 1 - 1 / 512, 1, alpha))
    colors = placed[:-1] * (alpha / placed[-1:].clamp(min=1e-6))  # bicubic rings: opacity was over 1 beside the edge
    return torch.cat([colors.clamp(min=0).minimum(alpha), alpha])


def _feathered(alpha: Tensor, feather: float) -> Tensor:
    """Opacity (H, W) with an edge that rises from 0, where it was half, over `feather` pixels to the inside."""
    feather = min(feather, max(alpha.shape))  # wider ones leave nothing either
    levels = (alpha * 255).round().to(torch.uint8).numpy()
    margin = int(np.ceil(2 * feather))
    blurred = Image.fromarray(np.pad(levels, margin, mode="edge")).filter(ImageFilter.GaussianBlur(feather / 2))
    inside = np.asarray(blurred)[margin : margin + alpha.shape[0], margin : margin + alpha.shape[1]]
    inside = inside.astype(np.float32) / 255
    return torch.from_numpy(np.clip(2 * inside - 1, 0, 1)).minimum(alpha)


def _decontaminated(rgb: Tensor, opacity: Tensor) -> Tensor:
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise InputError('decontaminate needs pymatting; pip install "aict_hf[compositing]"') from error
    colors = estimate_foreground_ml(
        rgb.permute(1, 2, 0).double().cpu().numpy(), opacity[0].double().cpu().numpy(), return_background=False
    )
    return torch.from_numpy(np.ascontiguousarray(colors)).to(rgb.dtype).permute(2, 0, 1).clamp(0, 1)


__all__ = ["Composite", "mask_box", "paste"]
