"""The colour transformation of AICT: two position-dependent look-up tables (LUTs) per colour channel.

`apply_luts` checks its arguments and calls the fastest kernel that takes them: Triton's on a GPU (lut_triton), numba's
on a CPU (lut_numba), or plain torch (lut_reference).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

from .lut_reference import apply_luts_in_strips, apply_luts_reference, lut_gradients_reference

try:
    from .lut_numba import apply_luts_numba
except ImportError:  # numba is an extra
    apply_luts_numba = None  # type: ignore[assignment]
try:
    from .lut_triton import apply_luts_triton, lut_gradients_triton
except ImportError:  # Triton comes with torch for CUDA
    apply_luts_triton = lut_gradients_triton = None  # type: ignore[assignment]

# The dtypes that the kernels take; the reference takes the others.
NUMBA_DTYPES = (torch.uint8, torch.uint16, torch.float32)
TRITON_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
MASK_DTYPES = (torch.uint8, torch.float32)


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

    The intensity v of each channel is looked up in `knots` (v -> v'), and v' in `color_lut`. Both curves are linear
    between nodes at equal distances from 0 to 1. Both maps are interpolated bilinearly over the photo, with their
    corners on its corners. The result is `mask * strength` parts LUT output, and the rest composite. Pixels with mask 0
    keep their exact value.

    The arithmetic is float32 (float64 for a float64 composite). Memory beyond the result does not grow with the photo.
    Rows and columns without foreground cost next to nothing. The function is differentiable in `knots` and `color_lut`
    for a float composite, and in `mask` and `composite` through the slower reference. The intensity is detached before
    its look-up, as in the authors' code. torch.compile and torch.export see one operator, which `torch.onnx.export`
    replaces by the reference.

    Args:
        composite: RGB, uint8 0..255, uint16 0..65535 or float 0..1, shape (B, 3, H, W), any strides (a permuted HWC
            array is fine).
        mask: foreground, uint8 0..255 or float 0..1, shape (B, 1, H, W).
        knots: nodes of the first LUT, 0 to 1 and increasing, shape (B, 3, K + 1, h, w).
        color_lut: nodes of the colour LUT, shape (B, 3, N, h, w).
        strength: share of the change to apply, 0 (the composite itself) to 1.
        out: tensor to write the result to, shape and dtype of `composite`. It may be the composite itself. Not for
            gradients.
        top: number of the first row of `composite` in the photo, if `composite` holds only some of its rows.
        full_height: rows of that photo.
    Returns:
        the harmonized photo, shape, dtype and memory layout of `composite`; integers are rounded to nearest.
    Raises:
        ValueError: if shapes, dtypes or `strength` do not fit.
    Examples:
        >>> import torch
        >>> photo, mask = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 1, 8, 8)
        >>> identity = torch.linspace(0, 1, 5).reshape(1, 1, 5, 1, 1).expand(1, 3, 5, 2, 2)
        >>> darker = apply_luts(photo, mask, identity, 0.5 * identity)
        >>> round(darker.mean().item(), 4)
        0.25

    Source: AICT (NeurIPS 2024), sections 3.2 and 3.3.
    """
    full_height = composite.shape[2] + top if full_height is None else full_height
    _check_arguments(composite, mask, knots, color_lut, strength)
    check_place(composite, top, full_height)
    dtype = torch.promote_types(torch.float32, composite.dtype)
    knots, color_lut = knots.to(dtype), color_lut.to(dtype)
    if out is not None:
        check_out(out, composite, (mask, knots, color_lut))
        if out is not composite:
            out.copy_(composite)
        return _recolor(composite, mask, knots, color_lut, out, strength, top, full_height)
    if torch.is_grad_enabled() and (composite.requires_grad or mask.requires_grad):
        return apply_luts_reference(
            composite, mask, knots, color_lut, strength=strength, top=top, full_height=full_height
        )
    return _apply_luts(composite, mask, knots, color_lut, float(strength), top, full_height)


# The operators that torch.compile and torch.export see. Each loaded copy of this file (the package's, one from the Hub)
# has its own namespace: of two operators with one name, the second would silently replace the first. transformers names
# a copy after its folder, whose name may hold characters that names of operators may not.
_NAMESPACE = "".join(c if c.isascii() and c.isalnum() else "_" if c in "._" else f"_{ord(c):x}_" for c in __name__)


@torch.library.custom_op(f"{_NAMESPACE}::apply_luts", mutates_args=())
def _apply_luts(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, top: int, full_height: int
) -> Tensor:
    return _recolor(composite, mask, knots, color_lut, composite.clone(), strength, top, full_height)


@_apply_luts.register_fake
def _(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, top: int, full_height: int
) -> Tensor:
    return torch.empty_like(composite)


def _reference_for_onnx(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float, top: int, full_height: int
) -> Tensor:
    return apply_luts_reference(composite, mask, knots, color_lut, strength=strength, top=top, full_height=full_height)


# ONNX has no such operator. torch.onnx.export replaces operators by the entries of this table; torch.compile,
# torch.export and ExportedProgram.run_decompositions() have tables of their own, and leave the operator whole.
decomposition_table[getattr(torch.ops, _NAMESPACE).apply_luts.default] = _reference_for_onnx


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
    kernel = lut_gradients_reference
    if composite.is_cuda and lut_gradients_triton is not None and _takes(TRITON_DTYPES, composite, mask, knots):
        kernel = lut_gradients_triton
    return kernel(gradient, composite, mask, knots, color_lut, strength=strength, top=top, full_height=full_height)


@_lut_gradients.register_fake
def _(
    gradient: Tensor,
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    strength: float,
    top: int,
    full_height: int,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(knots), torch.empty_like(color_lut)


def _save_inputs(ctx: Any, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.strength, ctx.top, ctx.full_height = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _lut_gradients(gradient, *ctx.saved_tensors, ctx.strength, ctx.top, ctx.full_height)
    return None, None, *gradients, None, None, None


_apply_luts.register_autograd(_backward, setup_context=_save_inputs)


def _recolor(
    composite: Tensor,
    mask: Tensor,
    knots: Tensor,
    color_lut: Tensor,
    out: Tensor,
    strength: float,
    top: int,
    full_height: int,
) -> Tensor:
    """Write the recoloured foreground into `out`, which holds the composite, with the fastest kernel there is."""
    if composite.numel() == 0:
        return out
    kernel: Callable[..., Tensor] = apply_luts_in_strips
    if composite.is_cuda and apply_luts_triton is not None and _takes(TRITON_DTYPES, composite, mask, knots):
        kernel = apply_luts_triton
    elif (
        composite.device.type == "cpu" and apply_luts_numba is not None and _takes(NUMBA_DTYPES, composite, mask, knots)
    ):
        arrays = (tensor.detach().numpy() for tensor in (composite, mask, knots, color_lut, out))
        threads = torch.get_num_threads()
        apply_luts_numba(*arrays, strength=strength, top=top, full_height=full_height, threads=threads)
        return out
    return kernel(composite, mask, knots, color_lut, out, strength=strength, top=top, full_height=full_height)


def _takes(dtypes: tuple[torch.dtype, ...], composite: Tensor, mask: Tensor, knots: Tensor) -> bool:
    return composite.dtype in dtypes and mask.dtype in MASK_DTYPES and knots.dtype == torch.float32


def _check_arguments(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, strength: float) -> None:
    check_images(composite, mask, strength)
    for name, maps in (("knots", knots), ("color_lut", color_lut)):
        if maps.ndim != 5 or maps.shape[0] != composite.shape[0] or maps.shape[1] != 3 or maps.shape[2] < 2:
            raise ValueError(
                f"{name} has shape {tuple(maps.shape)}; expected ({composite.shape[0]}, 3, nodes, h, w), nodes >= 2"
            )


def check_images(composite: Tensor, mask: Tensor, strength: float) -> None:
    """Refuse photos, masks and strengths that `apply_luts` does not take, with ValueError."""
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
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; expected 0 (the composite itself) to 1 (fully harmonized)")


def check_place(composite: Tensor, top: int, full_height: int) -> None:
    """Refuse rows that the photo does not have, with ValueError."""
    if not torch.compiler.is_compiling() and not 0 <= top <= full_height - composite.shape[2]:
        raise ValueError(
            f"composite has {composite.shape[2]} rows from {top} on, beyond the {full_height} rows of the photo; "
            "check top and full_height"
        )


def check_out(out: Tensor, composite: Tensor, others: tuple[Tensor, ...]) -> None:
    """Refuse an `out` that does not fit, with ValueError."""
    if out.shape != composite.shape or out.dtype != composite.dtype or out.device != composite.device:
        raise ValueError(
            f"out has shape {tuple(out.shape)}, dtype {out.dtype} and device {out.device}; expected the composite's "
            f"{tuple(composite.shape)}, {composite.dtype} and {composite.device}"
        )
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (out, composite, *others)):
        raise ValueError("out is given and an input requires gradients; leave out `out`, or use torch.no_grad()")


__all__ = ["apply_luts", "check_images", "check_out", "check_place"]
