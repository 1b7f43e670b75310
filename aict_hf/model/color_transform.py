"""The colour transformations behind `AICTConfig.color_transform`, under one name each.

`apply_transform` recolours photos, and `sample_transform` single pixels. "aict" goes to `apply_luts` and its kernels.
The others run in plain torch, a strip of rows at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .lut import apply_luts, check_images, check_out, check_place
from .lut_positions import pixel_positions
from .lut_reference import blend, bytes_at_pixel, interpolate_maps, sample_luts, strips, write_in_strips
from .transform_adaint_seplut import NODES_1D, VERTICES, AdaIntSepLUTHead, adaint_seplut_pixels
from .transform_affine import INPUTS, AffineHead, affine_pixels
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
# Whether maps fit a kind, from their shapes without batch, height and width.
SHAPES: dict[str, Callable[[list[tuple[int, ...]]], bool]] = {
    "aict": lambda shapes: len(shapes) == 2 and _are_luts(shapes),
    "chain": lambda shapes: len(shapes) > 0 and _are_luts(shapes),
    "affine": lambda shapes: shapes in [[(3, count)] for count in INPUTS.values()],
    "adaint_seplut": lambda shapes: shapes == [(3, NODES_1D), (3, VERTICES), (3, VERTICES**3)],
    "filters": lambda shapes: shapes == [(6,), (4,)],
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
        ValueError: if the kind is unknown, or shapes, dtypes, `strength` or `out` do not fit.
    Examples:
        >>> import torch
        >>> photo, mask = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 1, 8, 8)
        >>> darker = torch.eye(3, 4).mul(0.5)[None, ..., None, None]  # half of each channel, and nothing of the others
        >>> apply_transform("affine", photo, mask, darker).mean().item()
        0.25
    """
    check_maps(kind, maps, len(composite))
    if kind == "aict":
        knots, color_lut = maps
        return apply_luts(
            composite, mask, knots, color_lut, strength=strength, out=out, top=top, full_height=full_height
        )
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height
    check_images(composite, mask, strength)
    check_place(composite, top, full_height)
    dtype = torch.promote_types(torch.float32, composite.dtype)
    maps = tuple(values.to(dtype) for values in maps)

    def recolor(composite: Tensor, mask: Tensor, rows: slice, columns: slice) -> Tensor:
        positions = pixel_positions(full_height, width, slice(top + rows.start, top + rows.stop), columns, maps[0])
        return blend(
            composite, mask, lambda colors: _recolored(kind, colors, maps, positions), strength=strength, dtype=dtype
        )

    everything = slice(0, width)
    tracked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (composite, mask, *maps))
    pixel_bytes = PIXEL_BYTES + bytes_at_pixel(*filter(_varies, maps))
    if out is not None:
        check_out(out, composite, (mask, *maps))
        result = out if out is composite else out.copy_(composite)
    elif torch.compiler.is_compiling():
        return recolor(composite, mask, slice(0, height), everything)
    elif tracked:  # each strip is computed again for its gradients: those of a chain need 2 kB for each pixel
        parts = [
            checkpoint(
                recolor,
                composite[:, :, rows],
                mask[:, :, rows],
                rows,
                everything,
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for rows in strips(composite, pixel_bytes)
        ]
        return torch.cat(parts, dim=2)
    else:
        result = composite.clone()
    return write_in_strips(composite, mask, result, recolor, pixel_bytes=pixel_bytes)


def sample_transform(kind: str, colors: Tensor, positions: Tensor, *maps: Tensor) -> Tensor:
    """Recolour single pixels, for a loss or a measure that needs only some of them.

    Args:
        kind: `AICTConfig.transform_kind`.
        colors: RGB of the pixels in [0, 1], float, shape (B, 3, P).
        positions: x and y of the pixels, -1 to 1 from corner to corner of the photo, shape (B, P, 2).
        maps: as for `apply_transform`.
    Returns:
        recoloured pixels in [0, 1], not yet blended by a mask, shape (B, 3, P).
    Raises:
        ValueError: if the kind is unknown or the maps do not fit it.
    """
    check_maps(kind, maps, len(colors))
    if kind == "aict":
        knots, color_lut = maps
        return sample_luts(colors, positions, knots, color_lut)
    return _recolored(kind, colors[..., None], maps, positions[:, :, None]).clamp(0, 1)[..., 0]


def check_maps(kind: str, maps: Sequence[Tensor], batch: int) -> None:
    """Refuse maps that another kind of transformation takes, as far as their shapes tell.

    Args:
        kind: `AICTConfig.transform_kind`.
        maps: as for `apply_transform`.
        batch: number of photos.
    Raises:
        ValueError: if the kind is unknown, or the maps do not fit it or the number of photos.
    """
    if kind not in SHAPES:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(SHAPES)}: pass config.transform_kind")
    if torch.compiler.is_compiling():
        return
    shapes = [tuple(values.shape[1:-2]) for values in maps]
    if not SHAPES[kind](shapes) or any(len(values) != batch for values in maps):
        found = ", ".join(str(tuple(values.shape)) for values in maps)
        raise ValueError(
            f"maps have shapes {found}, which are not those of {kind} for {batch} photos; pass the network's own"
        )


def _recolored(kind: str, colors: Tensor, maps: tuple[Any, ...], positions: Tensor) -> Tensor:
    at_pixels = (interpolate_maps(values, positions) if _varies(values) else values for values in maps)
    return PIXELS[kind](colors.detach(), *at_pixels)


def _are_luts(shapes: list[tuple[int, ...]]) -> bool:
    return all(len(shape) == 2 and shape[0] == 3 and shape[1] > 1 for shape in shapes)


def _varies(maps: Tensor) -> bool:
    """Whether maps depend on the position."""
    return tuple(maps.shape[-2:]) != (1, 1)


__all__ = ["HEADS", "apply_transform", "sample_transform"]
