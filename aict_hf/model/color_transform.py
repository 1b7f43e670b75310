"""The colour transformations behind `AICTConfig.color_transform`, under one name each.

`apply_transform` recolours photos, and `sample_transform` single pixels. "aict" goes to `apply_luts` and its kernels.
The others run in plain torch, a strip of rows at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .lut import apply_luts, check_images
from .lut_positions import pixel_positions
from .lut_reference import STRIP_BYTES, blend, interpolate_maps, sample_luts
from .transform_adaint_seplut import AdaIntSepLUTHead, adaint_seplut_pixels
from .transform_affine import AffineHead, affine_pixels
from .transform_chain import LUTChainHead, chain_pixels
from .transform_filters import FiltersHead, filter_pixels

# What makes the maps of each kind of transformation in the network, and what recolours pixels with them.
HEADS: dict[str, type[nn.Module]] = {
    "chain": LUTChainHead,
    "affine": AffineHead,
    "adaint_seplut": AdaIntSepLUTHead,
    "filters": FiltersHead,
}
PIXELS: dict[str, Callable[..., Tensor]] = {
    "chain": chain_pixels,
    "affine": affine_pixels,
    "adaint_seplut": adaint_seplut_pixels,
    "filters": filter_pixels,
}
PIXEL_BYTES = 512  # of intermediate results for each pixel, beside its maps


def apply_transform(
    kind: str,
    composite: Tensor,
    mask: Tensor,
    *maps: Tensor,
    strength: float = 1.0,
    out: Tensor | None = None,
    top: int = 0,
    full_height: int | None = None,
) -> Tensor:
    """Recolour the foreground by any colour transformation.

    Args:
        kind: `AICTConfig.transform_kind`.
        composite, mask, strength, out, top, full_height: as for `apply_luts`.
        maps: `AICTOutput.maps`, each of shape (B, ..., h, w): interpolated over the photo as LUT maps are, or the same
            everywhere if h and w are 1.
    Returns:
        the recoloured photo, as `apply_luts` returns it.
    Raises:
        ValueError: if shapes, dtypes or `strength` do not fit.
    Examples:
        >>> import torch
        >>> photo, mask = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 1, 8, 8)
        >>> darker = torch.eye(3, 4).mul(0.5)[None, ..., None, None]  # half of each channel, and nothing of the others
        >>> apply_transform("affine", photo, mask, darker).mean().item()
        0.25
    """
    if kind == "aict":
        knots, color_lut = maps
        return apply_luts(
            composite, mask, knots, color_lut, strength=strength, out=out, top=top, full_height=full_height
        )
    check_images(composite, mask, strength)
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height
    dtype = torch.promote_types(torch.float32, composite.dtype)
    maps = tuple(values.to(dtype) for values in maps)
    tracked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (composite, mask, *maps))
    if out is None and (tracked or torch.compiler.is_compiling()):
        positions = pixel_positions(full_height, width, slice(top, top + height), slice(None), maps[0])
        return _recolor_block(kind, composite, mask, maps, strength, positions)
    result = composite.clone() if out is None else out if out is composite else out.copy_(composite)
    local = sum(math.prod(values.shape[1:-2]) for values in maps if _varies(values))
    rows_at_once = max(1, STRIP_BYTES // max(1, (4 * local + PIXEL_BYTES) * len(composite) * width))
    for first in range(0, height, rows_at_once):
        rows = slice(first, min(first + rows_at_once, height))
        if mask[:, :, rows].any():
            positions = pixel_positions(
                full_height, width, slice(top + rows.start, top + rows.stop), slice(None), maps[0]
            )
            block = slice(None), slice(None), rows
            result[block] = _recolor_block(kind, composite[block], mask[block], maps, strength, positions)
    return result


def sample_transform(kind: str, colors: Tensor, positions: Tensor, *maps: Tensor) -> Tensor:
    """Recolour single pixels, for a loss or a measure that needs only some of them.

    Args:
        kind: `AICTConfig.transform_kind`.
        colors: RGB of the pixels in [0, 1], float, shape (B, 3, P).
        positions: x and y of the pixels, -1 to 1 from corner to corner of the photo, shape (B, P, 2).
        maps: as for `apply_transform`.
    Returns:
        recoloured pixels in [0, 1], not yet blended by a mask, shape (B, 3, P).
    """
    if kind == "aict":
        knots, color_lut = maps
        return sample_luts(colors, positions, knots, color_lut)
    return _recolored(kind, colors[..., None], maps, positions[:, :, None]).clamp(0, 1)[..., 0]


def _recolor_block(
    kind: str, composite: Tensor, mask: Tensor, maps: tuple[Tensor, ...], strength: float, positions: Tensor
) -> Tensor:
    def recolor(colors: Tensor) -> Tensor:
        return _recolored(kind, colors, maps, positions)

    return blend(composite, mask, recolor, strength=strength, dtype=maps[0].dtype)


def _recolored(kind: str, colors: Tensor, maps: tuple[Any, ...], positions: Tensor) -> Tensor:
    at_pixels = (interpolate_maps(values, positions) if _varies(values) else values for values in maps)
    return PIXELS[kind](colors.detach(), *at_pixels)


def _varies(maps: Tensor) -> bool:
    """Whether maps depend on the position."""
    return tuple(maps.shape[-2:]) != (1, 1)


__all__ = ["HEADS", "apply_transform", "sample_transform"]
