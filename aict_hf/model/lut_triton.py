"""`apply_luts` and its gradients on a GPU, in Triton: each pixel is read once and written once.

One program computes the pixels of one cell of the LUT maps, or a share of its rows. All of them use the same four
corners, so the nodes are scalars and the curves are sums of ramps. That is arithmetic in registers instead of a gather
of 8 numbers per pixel and channel.
"""

# Triton infers the types of what it compiles.
# mypy: allow-untyped-defs

import functools
from typing import Any

import torch
from torch import Tensor

from .lut_positions import lut_cells

# In a try block, so that transformers does not require Triton when this file is loaded from the Hub.
try:
    import triton
    import triton.language as tl
except ImportError:
    raise

PIXELS = 256  # in a tile; more pixels spill registers on sm_90 (seen in the compiled kernel)
ROWS_PER_PROGRAM = 64  # the rows of a larger cell are distributed over several programs


@triton.jit
def _blend_kernel(
    composite,
    mask,
    knots,
    color_lut,
    out,
    first_rows,
    row_fractions,
    first_columns,
    column_fractions,
    composite_strides_b,
    composite_strides_c,
    composite_strides_y,
    composite_strides_x,
    mask_strides_b,
    mask_strides_y,
    mask_strides_x,
    out_strides_b,
    out_strides_c,
    out_strides_y,
    out_strides_x,
    lut_rows,
    lut_columns,
    cell_rows,
    cell_columns,
    shares,
    strength,
    SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr,
    KNOTS: tl.constexpr,
    NODES: tl.constexpr,
    ROUND: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    program = tl.program_id(0)
    plane = lut_rows * lut_columns
    image, channel, share, top, bottom, left, right, corner, down, across = _cell_of(
        program, first_rows, first_columns, lut_rows, lut_columns, cell_rows, cell_columns, shares
    )
    first = knots + (image * 3 + channel) * KNOTS * plane + corner
    second = color_lut + (image * 3 + channel) * NODES * plane + corner
    for y_start in range(top + share * BLOCK_Y, bottom, shares * BLOCK_Y):
        for x_start in range(left, right, BLOCK_X):
            ys, xs = y_start + tl.arange(0, BLOCK_Y), x_start + tl.arange(0, BLOCK_X)
            inside = (ys < bottom)[:, None] & (xs < right)[None, :]
            rows, columns = ys.to(tl.int64)[:, None], xs.to(tl.int64)[None, :]
            mask_at = image * mask_strides_b + rows * mask_strides_y + columns * mask_strides_x
            weight = tl.load(mask + mask_at, mask=inside, other=0).to(tl.float32) * (strength / MASK_SCALE)
            read_at = image * composite_strides_b + rows * composite_strides_y + columns * composite_strides_x
            result = tl.load(composite + read_at + channel * composite_strides_c, mask=inside, other=0)
            if tl.max(weight) > 0:
                y = tl.load(row_fractions + ys, mask=ys < bottom, other=0.0)[:, None]
                x = tl.load(column_fractions + xs, mask=xs < right, other=0.0)[None, :]
                level = result.to(tl.float32)
                value = _curve(first, level / SCALE, x, y, plane, down, across, KNOTS)
                value = _curve(second, value, x, y, plane, down, across, NODES)
                value = tl.minimum(tl.maximum(value, 0.0), 1.0) * SCALE
                blended = weight * value + (1 - weight) * level
                if ROUND:
                    blended = (blended + 0.5).to(tl.int32)
                result = tl.where(weight > 0, blended.to(result.dtype), result)
            write_at = image * out_strides_b + rows * out_strides_y + columns * out_strides_x
            tl.store(out + write_at + channel * out_strides_c, result, mask=inside)


@triton.jit
def _cell_of(program, first_rows, first_columns, lut_rows, lut_columns, cell_rows, cell_columns, shares):
    """Image, channel and share of a program; pixels of its cell; offsets of its first node and the neighbours."""
    channel = program % 3
    cell_x = (program // 3) % cell_columns
    share = (program // 3 // cell_columns) % shares
    cell_y = (program // 3 // cell_columns // shares) % cell_rows
    image = (program // 3 // cell_columns // shares // cell_rows).to(tl.int64)
    top, bottom = tl.load(first_rows + cell_y), tl.load(first_rows + cell_y + 1)
    left, right = tl.load(first_columns + cell_x), tl.load(first_columns + cell_x + 1)
    corner = cell_y * lut_columns + cell_x
    down = tl.where(cell_y + 1 < lut_rows, lut_columns, 0)
    across = tl.where(cell_x + 1 < lut_columns, 1, 0)
    return image, channel, share, top, bottom, left, right, corner, down, across


@triton.jit
def _curve(nodes, value, x, y, plane, down, across, COUNT: tl.constexpr):
    """The piecewise-linear curve of `COUNT` nodes, interpolated between the cell's corners, as a sum of ramps."""
    position = tl.minimum(tl.maximum(value, 0.0), 1.0) * (COUNT - 1)
    a, b = tl.load(nodes), tl.load(nodes + across)
    c, d = tl.load(nodes + down), tl.load(nodes + down + across)
    result = a + x * (b - a) + y * ((c - a) + x * (d - c - b + a))
    for n in tl.static_range(1, COUNT):
        next_a, next_b = tl.load(nodes + n * plane), tl.load(nodes + n * plane + across)
        next_c, next_d = tl.load(nodes + n * plane + down), tl.load(nodes + n * plane + down + across)
        p, q, r, s = next_a - a, next_b - b, next_c - c, next_d - d
        ramp = tl.minimum(tl.maximum(position - (n - 1), 0.0), 1.0)
        result += ramp * (p + x * (q - p) + y * ((r - p) + x * (s - r - q + p)))
        a, b, c, d = next_a, next_b, next_c, next_d
    return result


@triton.jit
def _slope(nodes, value, x, y, plane, down, across, COUNT: tl.constexpr):
    """Derivative of `_curve` with respect to `value`; at a node the mean of both sides, as autograd has it."""
    position = tl.minimum(tl.maximum(value, 0.0), 1.0) * (COUNT - 1)
    result = tl.zeros_like(position)
    for n in tl.static_range(0, COUNT):
        a, b = tl.load(nodes + n * plane), tl.load(nodes + n * plane + across)
        c, d = tl.load(nodes + n * plane + down), tl.load(nodes + n * plane + down + across)
        node = a + x * (b - a) + y * ((c - a) + x * (d - c - b + a))
        distance = position - n
        sign = (distance > 0).to(tl.float32) - (distance < 0).to(tl.float32)
        result -= node * tl.where(tl.abs(distance) <= 1, sign, 0.0)
    return tl.where((value >= 0) & (value <= 1), result * (COUNT - 1), 0.0)


@triton.jit
def _share_out(sums, gradient, value, x, y, COUNT: tl.constexpr):
    """Add a tile's gradient to the sums of the cell's `COUNT` nodes at its four corners."""
    position = tl.minimum(tl.maximum(value, 0.0), 1.0) * (COUNT - 1)
    for n in tl.static_range(0, COUNT):
        part = gradient * tl.maximum(1 - tl.abs(position - n), 0.0)
        lower, upper = part * y, part * (1 - y)
        corners = (upper * (1 - x), upper * x, lower * (1 - x), lower * x)
        for corner in tl.static_range(4):
            tl.atomic_add(sums + n * 4 + corner, tl.sum(corners[corner]))


@triton.jit
def _gradient_kernel(
    gradient,
    composite,
    mask,
    knots,
    color_lut,
    sums,
    first_rows,
    row_fractions,
    first_columns,
    column_fractions,
    gradient_strides_b,
    gradient_strides_c,
    gradient_strides_y,
    gradient_strides_x,
    composite_strides_b,
    composite_strides_c,
    composite_strides_y,
    composite_strides_x,
    mask_strides_b,
    mask_strides_y,
    mask_strides_x,
    lut_rows,
    lut_columns,
    cell_rows,
    cell_columns,
    shares,
    strength,
    SCALE: tl.constexpr,
    MASK_SCALE: tl.constexpr,
    KNOTS: tl.constexpr,
    NODES: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_X: tl.constexpr,
):
    program = tl.program_id(0)
    plane = lut_rows * lut_columns
    image, channel, share, top, bottom, left, right, corner, down, across = _cell_of(
        program, first_rows, first_columns, lut_rows, lut_columns, cell_rows, cell_columns, shares
    )
    first = knots + (image * 3 + channel) * KNOTS * plane + corner
    second = color_lut + (image * 3 + channel) * NODES * plane + corner
    own = sums + program.to(tl.int64) * (KNOTS + NODES) * 4  # written by this program only: the sums are deterministic
    for y_start in range(top + share * BLOCK_Y, bottom, shares * BLOCK_Y):
        for x_start in range(left, right, BLOCK_X):
            ys, xs = y_start + tl.arange(0, BLOCK_Y), x_start + tl.arange(0, BLOCK_X)
            inside = (ys < bottom)[:, None] & (xs < right)[None, :]
            rows, columns = ys.to(tl.int64)[:, None], xs.to(tl.int64)[None, :]
            mask_at = image * mask_strides_b + rows * mask_strides_y + columns * mask_strides_x
            weight = tl.load(mask + mask_at, mask=inside, other=0).to(tl.float32) * (strength / MASK_SCALE)
            if tl.max(weight) > 0:
                y = tl.load(row_fractions + ys, mask=ys < bottom, other=0.0)[:, None]
                x = tl.load(column_fractions + xs, mask=xs < right, other=0.0)[None, :]
                read_at = image * composite_strides_b + rows * composite_strides_y + columns * composite_strides_x
                level = tl.load(composite + read_at + channel * composite_strides_c, mask=inside, other=0)
                intensity = level.to(tl.float32) / SCALE
                gradient_at = image * gradient_strides_b + rows * gradient_strides_y + columns * gradient_strides_x
                above = tl.load(gradient + gradient_at + channel * gradient_strides_c, mask=inside, other=0)
                redistributed = _curve(first, intensity, x, y, plane, down, across, KNOTS)
                output = _curve(second, redistributed, x, y, plane, down, across, NODES)
                passed = tl.where((output >= 0) & (output <= 1), above.to(tl.float32) * weight, 0.0)
                _share_out(own + KNOTS * 4, passed, redistributed, x, y, NODES)
                slope = _slope(second, redistributed, x, y, plane, down, across, NODES)
                _share_out(own, passed * slope, intensity, x, y, KNOTS)


def apply_luts_triton(
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
    """Write the harmonized photos into `out`, foreground and background.

    Args:
        composite: RGB, uint8 or float, shape (B, 3, H, W), any strides.
        mask: foreground, uint8 0..255 or float 0..1, shape (B, 1, H, W), any strides.
        knots: float32, shape (B, 3, K + 1, h, w).
        color_lut: float32, shape (B, 3, N, h, w).
        out: shape and dtype of `composite`; may be the composite itself.
        strength, top, full_height: see `apply_luts`.
    Returns:
        `out`.
    """
    grid, cells, tile, constants = _plan(composite, mask, knots, color_lut, top, full_height)
    _blend_kernel[grid](
        composite,
        mask,
        knots.contiguous(),
        color_lut.contiguous(),
        out,
        *cells,
        *composite.stride(),
        mask.stride(0),
        *mask.stride()[2:],
        *out.stride(),
        *tile,
        float(strength),
        **constants,
        ROUND=not composite.dtype.is_floating_point,
    )
    return out


def lut_gradients_triton(
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
    """Gradients of `apply_luts` with respect to `knots` and `color_lut`; deterministic, without memory per pixel.

    Each program sums the share of its cell for the four corners. The sums are added up at the nodes afterwards.

    Args:
        gradient: gradient of the result, shape (B, 3, H, W).
        composite, mask, knots, color_lut, strength, top, full_height: the arguments of `apply_luts`.
    Returns:
        gradients of `knots` and of `color_lut`, float32, in their shapes.
    """
    grid, cells, tile, constants = _plan(composite, mask, knots, color_lut, top, full_height)
    batch, _, knot_count, lut_rows, lut_columns = knots.shape
    nodes = knot_count + color_lut.shape[2]
    _, _, cell_rows, cell_columns, shares = tile
    sums = torch.zeros(batch, cell_rows, shares, cell_columns, 3, nodes, 4, device=knots.device)
    _gradient_kernel[grid](
        gradient,
        composite,
        mask,
        knots.contiguous(),
        color_lut.contiguous(),
        sums,
        *cells,
        *gradient.stride(),
        *composite.stride(),
        mask.stride(0),
        *mask.stride()[2:],
        *tile,
        float(strength),
        **constants,
    )
    corners = sums.sum(dim=2).permute(5, 0, 3, 4, 1, 2)  # (4, B, 3, nodes, cell rows, cell columns)
    maps = torch.zeros(batch, 3, nodes, cell_rows + 1, cell_columns + 1, device=knots.device)
    for corner, (down, across) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        maps[:, :, :, down : down + cell_rows, across : across + cell_columns] += corners[corner]
    maps = maps[:, :, :, :lut_rows, :lut_columns]  # maps of a single row or column have no second corner
    return maps[:, :, :knot_count].contiguous(), maps[:, :, knot_count:].contiguous()


def _plan(
    composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor, top: int, full_height: int | None
) -> tuple[tuple[int], tuple[Tensor, ...], tuple[int, ...], dict[str, Any]]:
    """Number of programs, cells of the photo, sizes for the kernel, and its compile-time constants."""
    batch, _, height, width = composite.shape
    lut_rows, lut_columns = knots.shape[3:]
    rows = _cells(height + top if full_height is None else full_height, lut_rows, top, height, composite.device)
    columns = _cells(width, lut_columns, 0, width, composite.device)
    cell_rows, cell_columns = len(rows[0]) - 1, len(columns[0]) - 1
    block_x = min(128, triton.next_power_of_2(-(-width // cell_columns)))
    block_y = max(1, min(PIXELS // block_x, triton.next_power_of_2(-(-height // cell_rows))))
    shares = max(1, -(-height // cell_rows) // ROWS_PER_PROGRAM)
    constants = {
        "SCALE": 255.0 if composite.dtype == torch.uint8 else 1.0,
        "MASK_SCALE": 255.0 if mask.dtype == torch.uint8 else 1.0,
        "KNOTS": knots.shape[2],
        "NODES": color_lut.shape[2],
        "BLOCK_Y": block_y,
        "BLOCK_X": block_x,
        "num_warps": 4 if block_x * block_y >= 256 else 1,
    }
    grid = (batch * cell_rows * shares * cell_columns * 3,)
    return grid, (*rows, *columns), (lut_rows, lut_columns, cell_rows, cell_columns, shares), constants


@functools.lru_cache(maxsize=64)
def _cells(pixels: int, nodes: int, top: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first row of each cell within rows `top` to `top + count`, and the position of each row in its cell."""
    above, distance = (torch.from_numpy(values)[top : top + count] for values in lut_cells(pixels, nodes))
    first = torch.searchsorted(above.contiguous(), torch.arange(max(nodes - 1, 1), dtype=torch.int32))
    first = torch.cat([first, torch.tensor([count])]).int()
    return first.to(device), distance.to(device)


__all__ = ["apply_luts_triton", "lut_gradients_triton"]
