"""The colour transformation of AICT and its gradients in plain torch, in the form of the equations.

The kernels are tested against this file, and it does the work where no kernel takes the device or dtype.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from .lut_positions import pixel_positions

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}  # the level that stands for 1.0
STRIP_BYTES = 8 * 2**20  # interpolated LUT entries held at once: bounds memory, and stays near the caches


def knots_from_intervals(sampling_intervals: Tensor) -> Tensor:
    """Running sums of the sampling intervals, from 0 to 1: the nodes of the first LUT.

    Args:
        sampling_intervals: positive, summing to 1 over K, shape (B, 3, K, h, w).
    Returns:
        knots, shape (B, 3, K + 1, h, w).
    Examples:
        >>> import torch
        >>> intervals = torch.tensor([0.5, 0.25, 0.25]).reshape(1, 1, 3, 1, 1)
        >>> knots_from_intervals(intervals).flatten().tolist()
        [0.0, 0.5, 0.75, 1.0]

    Source: AICT (NeurIPS 2024), section 3.2.
    """
    return F.pad(sampling_intervals.cumsum(2), (0, 0, 0, 0, 1, 0))


def apply_luts_reference(
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    *,
    strength: float = 1.0,
    top: int = 0,
    full_height: int | None = None,
) -> Tensor:
    """`apply_luts` of the whole photo at once, differentiable in every tensor. Arguments and result are the same."""
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height
    positions = pixel_positions(full_height, width, slice(top, top + height), slice(None), knots)
    return _recolor_block(composite, mask, knots, color_lut, strength, positions)


def apply_luts_in_strips(
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    out: Tensor,
    *,
    strength: float = 1.0,
    top: int = 0,
    full_height: int | None = None,
) -> Tensor:
    """Write the recoloured foreground into `out`, a strip of rows at a time; the background of `out` is left as it is.

    Args:
        composite, mask, knots, color_lut, strength, top, full_height: see `apply_luts`.
        out: shape and dtype of `composite`; may be the composite itself.
    Returns:
        `out`.
    """
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height

    def recolor(composite: Tensor, mask: Tensor, rows: slice, columns: slice) -> Tensor:
        positions = pixel_positions(full_height, width, slice(top + rows.start, top + rows.stop), columns, knots)
        return _recolor_block(composite, mask, knots, color_lut, strength, positions)

    return write_in_strips(composite, mask, out, recolor, pixel_bytes=bytes_at_pixel(knots, color_lut))


def write_in_strips(
    composite: Tensor, mask: Tensor, out: Tensor, recolor: Callable[..., Tensor], *, pixel_bytes: int
) -> Tensor:
    """Write recoloured blocks into `out`, from the leftmost column with foreground to the rightmost, strip by strip.

    Args:
        composite, mask, out: as for `apply_luts_in_strips`.
        recolor: makes the new pixels of a block from its composite, its mask, its rows and its columns.
        pixel_bytes: memory that `recolor` takes for a pixel; a strip takes at most `STRIP_BYTES`.
    Returns:
        `out`.
    """
    for rows in strips(composite, pixel_bytes):
        foreground = mask[:, :, rows].amax(dim=(0, 1, 2)).nonzero()
        if len(foreground):
            columns = slice(int(foreground[0]), int(foreground[-1]) + 1)
            block = slice(None), slice(None), rows, columns
            out[block] = recolor(composite[block], mask[block], rows, columns)
    return out


def lut_gradients_reference(
    gradient: Tensor,
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    *,
    strength: float = 1.0,
    top: int = 0,
    full_height: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of `apply_luts` with respect to `knots` and `color_lut`, equal to autograd's, computed in strips.

    Args:
        gradient: gradient of the result, shape (B, 3, H, W).
        composite, mask, knots, color_lut, strength, top, full_height: the arguments of `apply_luts`.
    Returns:
        gradients of `knots` and of `color_lut`, in their shapes.
    """
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height
    knots_gradient, lut_gradient = torch.zeros_like(knots), torch.zeros_like(color_lut)
    for rows in strips(composite, bytes_at_pixel(knots, color_lut)):
        positions = pixel_positions(full_height, width, slice(top + rows.start, top + rows.stop), slice(None), knots)
        intensity = unit_tensor(composite[:, :, rows], knots.dtype)
        weight = unit_tensor(mask[:, :, rows], knots.dtype) * strength
        redistributed = look_up(interpolate_maps(knots, positions), intensity)
        curves = interpolate_maps(color_lut, positions)
        output = look_up(curves, redistributed)
        # Back through the blend, the clamp, the second look-up and the first.
        passed = (output >= 0) & (output <= 1)
        output_gradient = gradient[:, :, rows].to(knots.dtype) * weight * passed
        lut_gradient += _scatter(output_gradient, redistributed, positions, color_lut)
        inside = (redistributed >= 0) & (redistributed <= 1)
        slope = _slope(curves, redistributed) * inside
        knots_gradient += _scatter(output_gradient * slope, intensity, positions, knots)
    return knots_gradient, lut_gradient


def sample_luts(intensity: Tensor, positions: Tensor, knots: Tensor, color_lut: Tensor) -> Tensor:
    """LUT output at single pixels, for a loss or a measure that needs only some of them.

    Args:
        intensity: RGB of the pixels in [0, 1], float, shape (B, 3, P); detached, as in `apply_luts`.
        positions: x and y of the pixels, -1 to 1 from corner to corner of the photo, shape (B, P, 2).
        knots, color_lut: see `apply_luts`.
    Returns:
        recoloured pixels in [0, 1], not yet blended by a mask, shape (B, 3, P).
    """
    grid = positions[:, :, None]
    redistributed = look_up(interpolate_maps(knots, grid), intensity.detach()[..., None])
    return look_up(interpolate_maps(color_lut, grid), redistributed).clamp(0, 1)[..., 0]


def look_up(nodes: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear curves with nodes at equal distances from 0 to 1, evaluated as a sum of hat functions.

    Summing all N hats costs less than gathering two nodes: gathers along an inner axis do not vectorise.

    Args:
        nodes: values of the curves at their nodes, shape (B, 3, N, H, W).
        values: arguments of the curves, clamped to 0..1, shape (B, 3, H, W).
    Returns:
        shape (B, 3, H, W).
    """
    position = values.clamp(0, 1) * (nodes.shape[2] - 1)
    result = torch.zeros_like(position)
    for node in range(nodes.shape[2]):
        result = result + nodes[:, :, node] * _hat(position, node)
    return result


def _recolor_block(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, positions: Tensor
) -> Tensor:
    """`apply_luts` for pixels at `positions` of the photo, shape (H, W, 2)."""

    def through_luts(intensity: Tensor) -> Tensor:
        redistributed = look_up(interpolate_maps(knots, positions), intensity.detach())
        return look_up(interpolate_maps(color_lut, positions), redistributed)

    return blend(composite, mask, through_luts, strength=strength, dtype=knots.dtype)


def blend(
    composite: Tensor, mask: Tensor, recolor: Callable[[Tensor], Tensor], *, strength: float, dtype: torch.dtype
) -> Tensor:
    """Recolour pixels where the mask is, and keep the others as they are.

    Args:
        composite: RGB, uint8, uint16 or float in [0, 1], shape (B, 3, H, W).
        mask: foreground, uint8 or float in [0, 1], shape (B, 1, H, W).
        recolor: makes new colours of RGB in [0, 1]; the result is clamped.
        strength: share of the change to apply, 0 to 1.
        dtype: floating-point type to compute in.
    Returns:
        shape and dtype of `composite`; integers are rounded to nearest.
    """
    scale = FULL_SCALE.get(composite.dtype, 1.0)
    levels = composite.to(dtype)
    weight = unit_tensor(mask, dtype) * strength
    output = recolor(levels / scale).clamp(0, 1)
    blended = torch.where(weight > 0, weight * (output * scale) + (1 - weight) * levels, levels)
    return blended.to(composite.dtype) if scale == 1.0 else (blended + 0.5).to(composite.dtype)


def unit_tensor(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Levels (uint8, uint16) or floats as floats in [0, 1] of a dtype."""
    return values.to(dtype) / FULL_SCALE.get(values.dtype, 1.0)


def interpolate_maps(maps: Tensor, positions: Tensor) -> Tensor:
    """Maps, such as LUTs, (B, 3, N, h, w) at `positions` ((B, )H, W, 2) of the photo: (B, 3, N, H, W)."""
    channels, nodes = maps.shape[1:3]
    grid = positions.expand(maps.shape[0], -1, -1, -1)
    flat = F.grid_sample(maps.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return flat.unflatten(1, (channels, nodes))


def _hat(position: Tensor, node: int) -> Tensor:
    """1 at `node`, linear to 0 at its neighbours, 0 beyond them."""
    return (1 - (position - node).abs()).clamp(min=0)


def _slope(nodes: Tensor, values: Tensor) -> Tensor:
    """Derivative of `look_up` with respect to `values`; at a node the mean of both sides, as autograd has it."""
    position = values.clamp(0, 1) * (nodes.shape[2] - 1)
    result = torch.zeros_like(position)
    for node in range(nodes.shape[2]):
        distance = position - node
        result = result - nodes[:, :, node] * distance.sign() * (distance.abs() <= 1)
    return result * (nodes.shape[2] - 1)


def _scatter(gradient: Tensor, values: Tensor, positions: Tensor, maps: Tensor) -> Tensor:
    """The transpose of looking `values` up in `maps`: distributes each pixel's gradient over the nodes around it."""
    position = values.clamp(0, 1) * (maps.shape[2] - 1)
    hats = [_hat(position, node) for node in range(maps.shape[2])]
    nodes = (gradient[:, :, None] * torch.stack(hats, dim=2)).flatten(1, 2)
    grid = positions.expand(maps.shape[0], -1, -1, -1)
    # bilinear, border, align_corners: as interpolate_maps
    scattered, _ = torch.ops.aten.grid_sampler_2d_backward(nodes, maps.flatten(1, 2), grid, 0, 1, True, [True, False])
    return scattered.unflatten(1, maps.shape[1:3])


def bytes_at_pixel(*maps: Tensor) -> int:
    """Memory in bytes of the entries of maps (B, ..., h, w) that are interpolated for one pixel, in float32."""
    return 4 * sum(math.prod(values.shape[1:-2]) for values in maps)


def strips(composite: Tensor, pixel_bytes: int) -> Iterator[slice]:
    """Rows of photos (B, 3, H, W) in strips of at most `STRIP_BYTES`, at `pixel_bytes` for a pixel."""
    height, width = composite.shape[2:]
    rows = max(1, STRIP_BYTES // max(1, pixel_bytes * len(composite) * width))
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


__all__ = [
    "apply_luts_in_strips",
    "apply_luts_reference",
    "blend",
    "bytes_at_pixel",
    "interpolate_maps",
    "knots_from_intervals",
    "look_up",
    "lut_gradients_reference",
    "sample_luts",
    "strips",
    "unit_tensor",
    "write_in_strips",
]
