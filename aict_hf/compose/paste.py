"""Paste a cut-out onto a background.

Colours are premultiplied with the opacity before they are resampled and blended, so that colours from outside the
cut-out do not bleed into its soft edges.
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
from .boxes import half_extent, mask_box

OPAQUE = 128  # of 255: pixels at least this opaque count as the pasted object's own
STRIP_PIXELS = 2**20  # placed at a time, so that little memory is needed beyond the images themselves


@dataclass(frozen=True)
class Composite:
    """A background with a cut-out pasted onto it.

    Attributes:
        image: RGB, dtype of the background, shape (H, W, 3).
        mask: the foreground mask: opacity of the pasted cut-out at each pixel, uint8, shape (H, W).
        box: left, top, right and bottom around the pixels that are at least half opaque (right and bottom outside), or
            None if there are none.
    """

    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int] | None


def paste(
    cutout: Any,
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
    """Paste a cut-out onto a background.

    Whole coordinates are the corners of pixels, not their centres: with `position=(w / 2, h / 2)` and the other options
    at their defaults, a cut-out of w x h pixels fills the upper left corner without resampling. Parts that hang over
    the border are cut off.

    Args:
        cutout: PIL image, NumPy array or torch tensor, as `AICTImageProcessor` accepts them.
        alpha: opacity of the cut-out, of the same size (white is opaque), or None if `cutout` has an alpha channel.
        background: an image of any of the same kinds. Its own alpha channel is ignored.
        position: x (to the right) and y (down) of the cut-out's centre, in pixels of the background; may be fractional.
        scale: size of a cut-out pixel in background pixels.
        rotation: degrees, counterclockwise.
        flip: mirror left to right, before rotating.
        feather: width of the soft edge in background pixels. The edge lies inside the cut-out; narrower parts vanish.
        decontaminate: estimate the cut-out's own colours at translucent pixels, so that its old background does not
            show through. Needs `pip install "aict_hf[compositing]"` (pymatting).
    Raises:
        ValueError: if an argument is not an image, sizes differ, or a number is out of range.
        InputError: if `decontaminate` is set and pymatting is not installed.
    Examples:
        >>> import numpy as np
        >>> square, opaque = np.full((4, 4, 3), 200, np.uint8), np.full((4, 4), 255, np.uint8)
        >>> pasted = paste(square, opaque, np.zeros((10, 20, 3), np.uint8), position=(5, 5))
        >>> pasted.box
        (3, 3, 7, 7)
        >>> int((pasted.mask == 255).sum())
        16

    Source: Porter and Duff, "Compositing digital images" (SIGGRAPH 1984), operator over.
    """
    for name, value, low in (("scale", scale, 0.0), ("feather", feather, None), ("rotation", rotation, None)):
        if not np.isfinite(value) or (low is not None and value <= low):
            raise ValueError(f"{name} is {value}; expected a finite number{'' if low is None else ' above 0'}")
    if feather < 0:
        raise ValueError(f"feather is {feather}; expected a width in pixels, 0 or more")
    if not np.isfinite(position).all() or len(position) != 2:
        raise ValueError(f"position is {position}; expected finite x and y in pixels of the background")
    rgb, opacity = (to_unit(channels) for channels in photo_tensors(cutout, alpha))
    canvas = rgb_tensor(background, name="background")
    if decontaminate:
        rgb = _decontaminated(rgb, opacity)
    layer = torch.cat([rgb * opacity, opacity])
    cutout_height, cutout_width = rgb.shape[1:]
    del rgb, opacity  # they are large
    if flip:
        layer = layer.flip(2)
    if scale < 1:
        layer = _shrunk(layer, scale)
    height, width = canvas.shape[1:]
    across, down = scale * cutout_width / layer.shape[2], scale * cutout_height / layer.shape[1]
    left, top, right, bottom = _region(layer.shape[2] * across, layer.shape[1] * down, position, rotation, canvas)
    image = canvas.permute(1, 2, 0).cpu().numpy().copy()
    mask = np.zeros((height, width), np.uint8)
    if left >= right or top >= bottom:
        return Composite(image, mask, None)
    rows = max(1, STRIP_PIXELS // (right - left))
    strips = [(top_row, min(top_row + rows, bottom)) for top_row in range(top, bottom, rows)]
    soft = None
    if feather:
        alphas = [_placed(layer[3:], position, (across, down), rotation, (left, *s, right))[0] for s in strips]
        soft = _feathered(torch.cat(alphas), feather)
    full_scale = FULL_SCALE.get(canvas.dtype)
    for first, last in strips:
        placed = _placed(layer, position, (across, down), rotation, (left, first, last, right))
        if soft is not None:
            placed = placed * soft[first - top : last - top] / placed[3].clamp(min=1e-6)
        region = canvas[:, first:last, left:right].cpu()
        blended = placed[:3] + (1 - placed[3:]) * to_unit(region)
        if full_scale is not None:
            blended = (blended * full_scale).round()
        touched = placed[3:] > 0  # other pixels keep the background's exact values
        blended = torch.where(touched, blended.to(canvas.dtype), region)
        image[first:last, left:right] = blended.permute(1, 2, 0).numpy()
        mask[first:last, left:right] = (placed[3] * 255).round().to(torch.uint8).numpy()
    return Composite(image, mask, mask_box(mask >= OPAQUE))


def _region(
    width: float, height: float, position: tuple[float, float], rotation: float, canvas: Tensor
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the background that the cut-out's rectangle touches, plus a pixel on each side."""
    half_width, half_height = half_extent(width, height, rotation)
    x, y = position
    return (
        int(np.clip(np.floor(x - half_width) - 1, 0, canvas.shape[2])),
        int(np.clip(np.floor(y - half_height) - 1, 0, canvas.shape[1])),
        int(np.clip(np.ceil(x + half_width) + 1, 0, canvas.shape[2])),
        int(np.clip(np.ceil(y + half_height) + 1, 0, canvas.shape[1])),
    )


def _shrunk(layer: Tensor, scale: float) -> Tensor:
    """Shrink a layer to whole pixels, without aliasing; `_placed` does the remaining fraction."""
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
    """Resample a layer bicubically onto a region of the background; 0 outside the layer.

    Args:
        layer: premultiplied RGB and opacity, shape (4, h, w), or only the opacity, shape (1, h, w).
        region: left, top, bottom and right, in pixels of the background.
    """
    left, top, bottom, right = region
    y, x = torch.meshgrid(
        torch.arange(top, bottom, dtype=torch.float64) + 0.5 - position[1],
        torch.arange(left, right, dtype=torch.float64) + 0.5 - position[0],
        indexing="ij",
    )
    cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    # In grid_sample's coordinates, -1 and 1 are the layer's borders.
    u = (cosine * x - sine * y) / scales[0] * (2 / layer.shape[2])
    v = (sine * x + cosine * y) / scales[1] * (2 / layer.shape[1])
    grid = torch.stack([u, v], dim=2).to(layer.dtype)
    placed = F.grid_sample(layer[None], grid[None], mode="bicubic", padding_mode="zeros", align_corners=False)[0]
    alpha = placed[-1:].clamp(0, 1)
    alpha = torch.where(alpha < 1 / 512, 0, torch.where(alpha > 1 - 1 / 512, 1, alpha))
    colors = placed[:-1] * (alpha / placed[-1:].clamp(min=1e-6))  # bicubic resampling overshoots 1 next to an edge
    return torch.cat([colors.clamp(min=0).minimum(alpha), alpha])


def _feathered(alpha: Tensor, feather: float) -> Tensor:
    """Soften the edge of an opacity (H, W): it rises over `feather` pixels to the inside, from 0 where it was half."""
    feather = min(feather, max(alpha.shape))  # a wider edge leaves nothing either
    levels = (alpha * 255).round().to(torch.uint8).numpy()
    margin = int(np.ceil(2 * feather))
    blurred = Image.fromarray(np.pad(levels, margin, mode="edge")).filter(ImageFilter.GaussianBlur(feather / 2))
    inside = np.asarray(blurred)[margin : margin + alpha.shape[0], margin : margin + alpha.shape[1]]
    inside = inside.astype(np.float32) / 255
    return torch.from_numpy(np.clip(2 * inside - 1, 0, 1)).minimum(alpha)


def _decontaminated(rgb: Tensor, opacity: Tensor) -> Tensor:
    """Estimate the colours of the object at translucent pixels, shape (3, h, w)."""
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise InputError('decontaminate needs pymatting; install it with pip install "aict_hf[compositing]"') from error
    colors = estimate_foreground_ml(
        rgb.permute(1, 2, 0).double().cpu().numpy(), opacity[0].double().cpu().numpy(), return_background=False
    )
    return torch.from_numpy(np.ascontiguousarray(colors)).to(rgb.dtype).permute(2, 0, 1).clamp(0, 1)


__all__ = ["OPAQUE", "Composite", "paste"]
