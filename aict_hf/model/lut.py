"""The colour transformation of AICT: two position-dependent look-up tables (LUTs) per colour channel.

`apply_luts` is the one public way to apply LUT maps to a photo. It picks the kernel: Triton's on a GPU (lut_triton),
numba's on a CPU (lut_numba), and where those are missing or do not take a dtype the reference in plain torch, which
stands here and reads like the equation.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from .lut_positions import pixel_positions

try:
    from .lut_numba import apply_luts_numba
except ImportError:  # numba is an extra
    apply_luts_numba = None  # type: ignore[assignment]
try:
    from .lut_triton import apply_luts_triton, lut_gradients_triton
except ImportError:  # Triton comes with torch for CUDA
    apply_luts_triton = lut_gradients_triton = None  # type: ignore[assignment]

FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}  # what 1.0 is in an integer image
STRIP_BYTES = 8 * 2**20  # interpolated LUT entries held at once: bounds memory, and stays near the caches
# What the kernels take; the reference takes the rest.
NUMBA_DTYPES = (torch.uint8, torch.uint16, torch.float32)
TRITON_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
MASK_DTYPES = (torch.uint8, torch.float32)


def knots_from_intervals(sampling_intervals: Tensor) -> Tensor:
    """Running sums of the sampling intervals, from 0 to 1: the nodes of the first LUT.

    Args:
        sampling_intervals: positive, summing to 1 over K, shape (B, 3, K, h, w).
    Returns:
        knots, shape (B, 3, K + 1, h, w).
    Source: AICT (NeurIPS 2024), section 3.2.
    """
    return F.pad(sampling_intervals.cumsum(2), (0, 0, 0, 0, 1, 0))


def apply_luts(
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    *,
    strength: float = 1.0,
    out: Tensor | None = None,
    top: int = 0,
    full_height: int | None = None,
) -> Tensor:
    """Recolour the foreground through its position-dependent LUTs.

    Each channel's intensity v is looked up in `knots` (v -> v'), v' in `color_lut`, linearly between nodes that stand
    at equal distances from 0 to 1; both maps are interpolated bilinearly over the photo with their corners on its
    corners. The result is `mask * strength` parts LUT output and the rest composite, so pixels whose mask is 0 keep
    their exact value.

    Arithmetic is float32 (float64 for a float64 composite). Memory beyond the result does not grow with the photo;
    rows and columns without foreground cost next to nothing. Differentiable in `knots` and `color_lut` for a float
    composite, and in `mask` and `composite`, for which the reference is used; the intensity is detached before its
    look-up, as in the authors' code. Passes through torch.compile and torch.export as one operator.

    Args:
        composite: RGB, uint8 0..255, uint16 0..65535 or float 0..1, shape (B, 3, H, W), any strides (a permuted HWC
            array is fine).
        mask: foreground, uint8 0..255 or float 0..1, shape (B, 1, H, W).
        knots: nodes of the first LUT, 0 to 1 and increasing, shape (B, 3, K + 1, h, w).
        color_lut: nodes of the colour LUT, shape (B, 3, N, h, w).
        strength: share of the change to apply, 0 (the composite itself) to 1.
        out: where to write the result, shape and dtype of `composite`, which it may be itself; not for gradients.
        top, full_height: where `composite` is only some rows of a photo: the number of its first row, and how many
            rows the photo has.
    Returns:
        the harmonized photo, shape, dtype and memory layout of `composite`; integers are rounded to nearest.
    Raises:
        ValueError: if shapes, dtypes or `strength` do not fit.
    Source: AICT (NeurIPS 2024), sections 3.2 and 3.3.
    """
    _check_arguments(composite, mask, knots, color_lut, strength)
    full_height = composite.shape[2] + top if full_height is None else full_height
    if not torch.compiler.is_compiling() and not 0 <= top <= full_height - composite.shape[2]:
        raise ValueError(f"composite has {composite.shape[2]} rows from {top} on, which a photo of {full_height} lacks")
    dtype = torch.promote_types(torch.float32, composite.dtype)
    knots, color_lut = knots.to(dtype), color_lut.to(dtype)
    place = (top, full_height)
    if out is not None:
        _check_out(out, composite, (mask, knots, color_lut))
        if out is not composite:
            out.copy_(composite)
        return _recolor(out, composite, mask, knots, color_lut, strength, *place)
    if torch.is_grad_enabled() and (composite.requires_grad or mask.requires_grad):
        return apply_luts_reference(
            composite, mask, knots, color_lut, strength=strength, top=top, full_height=full_height
        )
    return _apply_luts(composite, mask, knots, color_lut, float(strength), *place)


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
    """`apply_luts` in plain torch, the whole photo at once: what the kernels are held against."""
    height, width = composite.shape[2:]
    full_height = height + top if full_height is None else full_height
    positions = pixel_positions(full_height, width, slice(top, top + height), slice(None), knots)
    return _blend(composite, mask, knots, color_lut, strength, positions)


def _blend(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, positions: Tensor
) -> Tensor:
    """`apply_luts` for pixels at `positions` of the photo, shape (H, W, 2)."""
    scale = FULL_SCALE.get(composite.dtype, 1.0)
    levels = composite.to(knots.dtype)
    weight = to_unit(mask, knots.dtype) * strength
    redistributed = look_up(_interpolate(knots, positions), levels.detach() / scale)
    output = look_up(_interpolate(color_lut, positions), redistributed).clamp(0, 1)
    blended = torch.where(weight > 0, weight * (output * scale) + (1 - weight) * levels, levels)
    return blended.to(composite.dtype) if scale == 1.0 else (blended + 0.5).to(composite.dtype)


def lut_gradients_reference(
    gradient: Tensor,
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    strength: float,
    top: int,
    full_height: int,
) -> tuple[Tensor, Tensor]:
    """Gradients of `apply_luts` for `knots` and `color_lut`, in strips, as autograd has them.

    Args:
        gradient: of the result, shape (B, 3, H, W).
        composite, mask, knots, color_lut, strength, top, full_height: what the result was made of.
    Returns:
        gradients of `knots` and of `color_lut`, in their shapes.
    """
    width = composite.shape[3]
    knots_gradient, lut_gradient = torch.zeros_like(knots), torch.zeros_like(color_lut)
    for rows in _strips(composite, knots, color_lut):
        positions = pixel_positions(full_height, width, slice(top + rows.start, top + rows.stop), slice(None), knots)
        intensity = to_unit(composite[:, :, rows], knots.dtype)
        weight = to_unit(mask[:, :, rows], knots.dtype) * strength
        redistributed = look_up(_interpolate(knots, positions), intensity)
        curves = _interpolate(color_lut, positions)
        output = look_up(curves, redistributed)
        # Back through the blend, the clamp, the second look-up and the first.
        passed = (output >= 0) & (output <= 1)
        output_gradient = gradient[:, :, rows].to(knots.dtype) * weight * passed
        lut_gradient += _scatter(output_gradient, redistributed, positions, color_lut)
        inside = (redistributed >= 0) & (redistributed <= 1)
        slope = _slope(curves, redistributed) * inside
        knots_gradient += _scatter(output_gradient * slope, intensity, positions, knots)
    return knots_gradient, lut_gradient


def _slope(nodes: Tensor, values: Tensor) -> Tensor:
    """Derivative of `look_up` in `values`; at a node the mean that autograd makes of the hats' two sides."""
    position = values.clamp(0, 1) * (nodes.shape[2] - 1)
    result = torch.zeros_like(position)
    for node in range(nodes.shape[2]):
        distance = position - node
        result = result - nodes[:, :, node] * distance.sign() * (distance.abs() <= 1)
    return result * (nodes.shape[2] - 1)


def _scatter(gradient: Tensor, values: Tensor, positions: Tensor, maps: Tensor) -> Tensor:
    """The transpose of looking `values` up in `maps`: each pixel's gradient shared out among the nodes around it."""
    position = values.clamp(0, 1) * (maps.shape[2] - 1)
    hats = [_hat(position, node) for node in range(maps.shape[2])]
    nodes = (gradient[:, :, None] * torch.stack(hats, dim=2)).flatten(1, 2)
    grid = positions.expand(maps.shape[0], -1, -1, -1)
    # bilinear, border, align_corners: as _interpolate
    scattered, _ = torch.ops.aten.grid_sampler_2d_backward(nodes, maps.flatten(1, 2), grid, 0, 1, True, [True, False])
    return scattered.unflatten(1, maps.shape[1:3])


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
        result = result + nodes[:, :, node] * _hat(position, node)
    return result


def _hat(position: Tensor, node: int) -> Tensor:
    """1 at `node`, 0 from its neighbours on, linear between."""
    return (1 - (position - node).abs()).clamp(min=0)


def to_unit(values: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Integer levels or float values as floats in [0, 1]."""
    return values.to(dtype) / FULL_SCALE.get(values.dtype, 1.0)


# The operators torch.compile and torch.export see. Each loaded copy of this file (the package's, one from the Hub)
# has its own: two of one name would silently replace one another.
_NAMESPACE = __name__.replace(".", "_")


@torch.library.custom_op(f"{_NAMESPACE}::apply_luts", mutates_args=())
def _apply_luts(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, top: int, full_height: int
) -> Tensor:
    return _recolor(composite.clone(), composite, mask, knots, color_lut, strength, top, full_height)


@_apply_luts.register_fake
def _(composite, mask, knots, color_lut, strength, top, full_height):
    return torch.empty_like(composite)


@torch.library.custom_op(f"{_NAMESPACE}::lut_gradients", mutates_args=())
def _lut_gradients(
    gradient: Tensor,
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    strength: float,
    top: int,
    full_height: int,
) -> tuple[Tensor, Tensor]:
    arguments = (gradient, composite, mask, knots, color_lut, strength, top, full_height)
    if composite.is_cuda and lut_gradients_triton is not None and _taken(composite, mask, knots, TRITON_DTYPES):
        return lut_gradients_triton(*arguments)
    return lut_gradients_reference(*arguments)


@_lut_gradients.register_fake
def _(gradient, composite, mask, knots, color_lut, strength, top, full_height):
    return torch.empty_like(knots), torch.empty_like(color_lut)


def _save_inputs(ctx, inputs, output) -> None:
    *tensors, ctx.strength, ctx.top, ctx.full_height = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, gradient):
    gradients = _lut_gradients(gradient, *ctx.saved_tensors, ctx.strength, ctx.top, ctx.full_height)
    return None, None, *gradients, None, None, None


_apply_luts.register_autograd(_backward, setup_context=_save_inputs)


def _recolor(
    out: Tensor,
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    strength: float,
    top: int,
    full_height: int,
) -> Tensor:
    """Write the recoloured foreground into `out`, which holds the composite, by the fastest kernel there is."""
    width = composite.shape[3]
    if composite.numel() == 0:
        return out
    if composite.is_cuda and apply_luts_triton is not None and _taken(composite, mask, knots, TRITON_DTYPES):
        return apply_luts_triton(composite, mask, knots, color_lut, out, strength, top, full_height)
    if composite.device.type == "cpu" and apply_luts_numba is not None and _taken(composite, mask, knots, NUMBA_DTYPES):
        tensors = composite, mask[:, 0], knots.contiguous(), color_lut.contiguous(), out
        arrays = (tensor.detach().numpy() for tensor in tensors)
        for photo, weights, photo_knots, photo_lut, target in zip(*arrays, strict=True):
            apply_luts_numba(
                photo,
                weights,
                photo_knots,
                photo_lut,
                target,
                strength,
                top,
                full_height,
                threads=torch.get_num_threads(),
            )
        return out
    for rows in _strips(composite, knots, color_lut):
        foreground = mask[:, :, rows].amax(dim=(0, 1, 2)).nonzero()
        if len(foreground):
            columns = slice(int(foreground[0]), int(foreground[-1]) + 1)
            positions = pixel_positions(full_height, width, slice(top + rows.start, top + rows.stop), columns, knots)
            block = slice(None), slice(None), rows, columns
            out[block] = _blend(composite[block], mask[block], knots, color_lut, strength, positions)
    return out


def _taken(composite: Tensor, mask: Tensor, knots: Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return composite.dtype in dtypes and mask.dtype in MASK_DTYPES and knots.dtype == torch.float32


def _interpolate(maps: Tensor, positions: Tensor) -> Tensor:
    """LUT maps (B, 3, N, h, w) at `positions` ((B, )H, W, 2) of the photo: (B, 3, N, H, W)."""
    channels, nodes = maps.shape[1:3]
    grid = positions.expand(maps.shape[0], -1, -1, -1)
    flat = F.grid_sample(maps.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=True)
    return flat.unflatten(1, (channels, nodes))


def _strips(composite: Tensor, knots: Tensor, color_lut: Tensor) -> Iterator[slice]:
    """The strips of rows a photo is worked through in."""
    batch, channels, height, width = composite.shape
    row_bytes = 4 * batch * channels * width * (knots.shape[2] + color_lut.shape[2])
    rows = max(1, STRIP_BYTES // row_bytes)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


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


def _check_out(out: Tensor, composite: Tensor, others: tuple[Tensor, ...]) -> None:
    if out.shape != composite.shape or out.dtype != composite.dtype or out.device != composite.device:
        raise ValueError(
            f"out has shape {tuple(out.shape)}, dtype {out.dtype} and device {out.device}; expected the composite's "
            f"{tuple(composite.shape)}, {composite.dtype} and {composite.device}"
        )
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (out, composite, *others)):
        raise ValueError("out is given and an input requires gradients; leave out `out`, or use torch.no_grad()")


__all__ = [
    "FULL_SCALE",
    "apply_luts",
    "apply_luts_reference",
    "knots_from_intervals",
    "look_up",
    "lut_gradients_reference",
    "sample_luts",
    "to_unit",
]
