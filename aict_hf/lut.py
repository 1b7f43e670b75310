"""The colour transformation of AICT: two position-dependent look-up tables (LUTs) per colour channel.

Reference implementation in plain torch, and `apply_luts`, the one public way to apply LUT maps to a photo.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}  # what 1.0 is in an integer image
STRIP_BYTES = 8 * 2**20  # interpolated LUT entries held at once: bounds memory, and stays near the caches


def knots_from_intervals(sampling_intervals: Tensor) -> Tensor:
    """Running sums of the sampling intervals, from 0 to 1: the nodes of the first LUT.

    Args:
        sampling_intervals: positive, summing to 1 over K, shape (B, 3, K, h, w).
    Returns:
        knots, shape (B, 3, K + 1, h, w).
    Source: AICT (NeurIPS 2024), section 3.2.
    """
    return F.pad(sampling_intervals.cumsum(2), (0, 0, 0, 0, 1, 0))


def apply_luts(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, *, strength: float = 1.0) -> Tensor:
    """Recolour the foreground through its position-dependent LUTs.

    Each channel's intensity v is looked up in `knots` (v -> v'), v' in `color_lut`, linearly between nodes that stand
    at equal distances from 0 to 1; both maps are interpolated bilinearly over the photo with their corners on its
    corners. The result is `mask * strength` parts LUT output and the rest composite, so pixels whose mask is 0 keep
    their exact value.

    Arithmetic is float32 (float64 for a float64 composite). Memory beyond the result is bounded by working in strips
    of rows (not in compiled or exported graphs, which take the photo whole); rows and columns without foreground cost
    next to nothing. Differentiable in `knots`, `color_lut` and `mask` for a float composite; the intensity is detached
    before its look-up, as in the authors' code.

    Args:
        composite: RGB, uint8 0..255, uint16 0..65535 or float 0..1, shape (B, 3, H, W), any strides (a permuted HWC
            array is fine).
        mask: foreground, uint8 0..255 or float 0..1, shape (B, 1, H, W).
        knots: nodes of the first LUT, 0 to 1 and increasing, shape (B, 3, K + 1, h, w).
        color_lut: nodes of the colour LUT, shape (B, 3, N, h, w).
        strength: share of the change to apply, 0 (the composite itself) to 1.
    Returns:
        the harmonized photo, shape, dtype and memory layout of `composite`; integers are rounded to nearest.
    Raises:
        ValueError: if shapes, dtypes or `strength` do not fit.
    Source: AICT (NeurIPS 2024), sections 3.2 and 3.3.
    """
    _check_arguments(composite, mask, knots, color_lut, strength)
    height, width = composite.shape[2:]
    dtype = torch.promote_types(torch.float32, composite.dtype)
    knots, color_lut = knots.to(dtype), color_lut.to(dtype)

    def harmonize_block(rows: slice, columns: slice) -> Tensor:
        levels = composite[:, :, rows, columns].to(dtype)
        weight = to_unit(mask[:, :, rows, columns], dtype) * strength
        scale = FULL_SCALE.get(composite.dtype, 1.0)
        positions = _positions(height, width, rows, columns, knots)
        redistributed = look_up(_interpolate(knots, positions), levels.detach() / scale)
        output = look_up(_interpolate(color_lut, positions), redistributed).clamp(0, 1)
        blended = torch.where(weight > 0, weight * (output * scale) + (1 - weight) * levels, levels)
        return blended.to(composite.dtype) if scale == 1.0 else (blended + 0.5).to(composite.dtype)

    every = slice(None)
    if torch.compiler.is_compiling():  # a loop over strips would fix the height in the graph
        return harmonize_block(every, every)
    if composite.numel() == 0:
        return composite.clone()
    strips = list(_strips(composite, knots, color_lut))
    if torch.is_grad_enabled() and any(t.requires_grad for t in (composite, mask, knots, color_lut)):
        if len(strips) == 1:
            return harmonize_block(every, every)
        return torch.cat([checkpoint(harmonize_block, rows, every, use_reentrant=False) for rows in strips], dim=2)
    harmonized = composite.clone()
    for rows in strips:
        foreground = mask[:, :, rows].amax(dim=(0, 1, 2)).nonzero()
        if len(foreground):
            columns = slice(int(foreground[0]), int(foreground[-1]) + 1)
            harmonized[:, :, rows, columns] = harmonize_block(rows, columns)
    return harmonized


def sample_luts(intensity: Tensor, positions: Tensor, knots: Tensor, color_lut: Tensor) -> Tensor:
    """LUT output at single pixels: what a loss needs that is taken at some of them only.

    Args:
        intensity: RGB of the pixels in [0, 1], float, shape (B, 3, P); detached, as in `apply_luts`.
        positions: their x and y, -1 to 1 from corner to corner of the photo, shape (B, P, 2).
        knots, color_lut: as for `apply_luts`.
    Returns:
        recoloured pixels in [0, 1], not yet blended by a mask, shape (B, 3, P).
    """
    grid = positions[:, :, None]
    redistributed = look_up(_interpolate(knots, grid), intensity.detach()[..., None])
    return look_up(_interpolate(color_lut, grid), redistributed).clamp(0, 1)[..., 0]


def look_up(nodes: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear curves with nodes at equal distances from 0 to 1, evaluated as a sum of hat functions.

    Summing all N hats costs less than gathering two nodes: gathers along an inner axis do not vectorise.

    Args:
        nodes: the curves' values at their nodes, shape (B, 3, N, H, W).
        values: where to evaluate them, clamped to 0..1, shape (B, 3, H, W).
    Returns:
        shape (B, 3, H, W).
    """
    position = values.clamp(0, 1) * (nodes.shape[2] - 1)
    result = torch.zeros_like(position)
    for node in range(nodes.shape[2]):
        result = result + nodes[:, :, node] * (1 - (position - node).abs()).clamp(min=0)
    return result


def _interpolate(maps: Tensor, positions: Tensor) -> Tensor:
    """LUT maps (B, 3, N, h, w) at `positions` ((B, )H, W, 2) of the photo: (B, 3, N, H, W)."""
    channels, nodes = maps.shape[1:3]
    grid = positions.expand(maps.shape[0], -1, -1, -1)
    flat = F.grid_sample(maps.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return flat.unflatten(1, (channels, nodes))


def _positions(height: int, width: int, rows: slice, columns: slice, like: Tensor) -> Tensor:
    """x and y of a block of a photo's pixels, -1 to 1 from corner to corner of the photo: shape (rows, columns, 2)."""
    x, y = _linspace(width, like)[columns], _linspace(height, like)[rows]
    return torch.stack(torch.broadcast_tensors(x, y[:, None]), dim=-1)


def _linspace(steps: int, like: Tensor) -> Tensor:
    """`torch.linspace(-1, 1, steps)`, bit for bit in float32, without fixing `steps` in an exported graph.

    It counts from both ends with fused multiply-adds; other roundings of the positions change the output by up to 4e-5.
    """
    index = torch.arange(steps, dtype=torch.float64)
    step = torch.full((), 2.0, dtype=like.dtype) / max(steps - 1, 1)
    from_start, from_end = step * index - 1, 1 - step * (steps - 1 - index)
    return torch.where((2 * index < steps - 1) | (index == 0), from_start, from_end).to(like.device, like.dtype)


def _strips(composite: Tensor, knots: Tensor, color_lut: Tensor) -> Iterator[slice]:
    """The strips of rows a photo is worked through in."""
    batch, channels, height, width = composite.shape
    row_bytes = 4 * batch * channels * width * (knots.shape[2] + color_lut.shape[2])
    rows = max(1, STRIP_BYTES // row_bytes)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def to_unit(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integer levels or float values as floats in [0, 1]."""
    return values.to(dtype) / FULL_SCALE.get(values.dtype, 1.0)


def _check_arguments(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float) -> None:
    for name, image, channels, integers in (
        ("composite", composite, 3, (torch.uint8, torch.uint16)),
        ("mask", mask, 1, (torch.uint8,)),
    ):
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(f"{name} has shape {tuple(image.shape)}; expected (B, {channels}, H, W)")
        if image.dtype not in integers and not image.dtype.is_floating_point:
            expected = " or ".join(str(dtype).removeprefix("torch.") for dtype in integers)
            raise ValueError(f"{name} has dtype {image.dtype}; expected {expected} (whole range), or float (0..1)")
    if composite.shape[0] != mask.shape[0] or composite.shape[2:] != mask.shape[2:]:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, composite {tuple(composite.shape)}; "
            "they must agree in batch, height and width: resize the mask to the composite"
        )
    for name, maps in (("knots", knots), ("color_lut", color_lut)):
        if maps.ndim != 5 or maps.shape[0] != composite.shape[0] or maps.shape[1] != 3 or maps.shape[2] < 2:
            raise ValueError(
                f"{name} has shape {tuple(maps.shape)}; expected ({composite.shape[0]}, 3, nodes, h, w), nodes >= 2"
            )
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; expected 0 (the composite itself) to 1 (fully harmonized)")


__all__ = ["FULL_SCALE", "apply_luts", "knots_from_intervals", "look_up", "sample_luts", "to_unit"]
