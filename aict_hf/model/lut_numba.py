"""`apply_luts` on the CPU in one pass over the pixels, compiled by numba (`pip install "aict_hf[numba]"`).

Neighbouring pixels fall into one cell of the LUT maps and share its corners. The maps are therefore interpolated
vertically once per row of pixels. Within a cell, the curves on its left and right are sums of ramps: arithmetic on
registers, eight pixels at a time. A look-up per pixel would cost eight scattered reads.

The first call for a dtype compiles for a few seconds. numba keeps the compiled code on disk if it finds a writable
folder.
"""

# numba infers the types of what it compiles, and refuses annotations in overloads.
# mypy: allow-untyped-defs

import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .cpu_threads import cpu_threads
from .lut_positions import lut_cells

# In a try block, so that transformers does not require numba when this file is loaded from the Hub.
try:
    import numba
    from numba.extending import overload
except ImportError:
    raise

PLANAR, INTERLEAVED = (0, 1, 2), (1, 2, 0)  # order of the axes (3, H, W) in memory
BLOCK_ROWS = 32  # rows a thread takes at a time
FRAMES_PER_NODE = 200  # of Python's stack, at most, while numba compiles
VECTOR = 8  # pixels; a cell is computed in whole vectors, and the next cell overwrites the surplus

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_kernel_lock = threading.Lock()


def apply_luts_numba(
    composite: np.ndarray,
    mask: np.ndarray,
    knots: np.ndarray,
    color_lut: np.ndarray,
    out: np.ndarray,
    *,
    strength: float = 1.0,
    top: int = 0,
    full_height: int | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Write the recoloured foreground into `out`; the background of `out` is left as it is.

    Args:
        composite: RGB, uint8, uint16 or float32, shape (B, 3, H, W), any strides.
        mask: foreground, uint8 0..255 or float32 0..1, shape (B, 1, H, W), any strides.
        knots: float32, shape (B, 3, K + 1, h, w).
        color_lut: float32, shape (B, 3, N, h, w).
        out: shape and dtype of `composite`; may be the composite itself.
        strength, top, full_height: see `apply_luts`.
        threads: number of blocks of rows at a time; `cpu_threads` if left out.
    Returns:
        `out`.
    """
    full_height = composite.shape[2] + top if full_height is None else full_height
    threads = cpu_threads() if threads is None else threads
    arrays = composite, mask[:, 0], np.ascontiguousarray(knots), np.ascontiguousarray(color_lut), out
    for photo, weights, photo_knots, photo_lut, target in zip(*arrays, strict=True):
        _recolor_photo(photo, weights, photo_knots, photo_lut, target, strength, top, full_height, threads)
    return out


def _recolor_photo(
    composite: np.ndarray,
    mask: np.ndarray,
    knots: np.ndarray,
    color_lut: np.ndarray,
    out: np.ndarray,
    strength: float,
    top: int,
    full_height: int,
    threads: int,
) -> None:
    """One photo of the batch, (3, H, W), with `threads` blocks of rows at a time."""
    height, width = mask.shape
    rows = lut_cells(full_height, knots.shape[2])
    rows = rows[0][top : top + height], rows[1][top : top + height]
    columns = lut_cells(width, knots.shape[3])
    cells = max(knots.shape[3] - 1, 1)
    first_columns = np.append(np.searchsorted(columns[0], np.arange(cells)), width).astype(np.uintp)
    fractions = np.append(columns[1], np.zeros(VECTOR, np.float32))
    layout = next((axes for axes in (PLANAR, INTERLEAVED) if _is_contiguous(axes, composite, out)), None)
    run = _kernel(composite.dtype.name, mask.dtype.name, knots.shape[1], color_lut.shape[1], layout == INTERLEAVED)

    def block(top: int, bottom: int) -> None:
        lines = [values[top:bottom] for values in rows]
        weights = np.ascontiguousarray(mask[top:bottom])
        maps = knots, color_lut, *lines, first_columns, fractions, np.float32(strength)
        if layout is not None:
            run(composite.transpose(layout), weights, out.transpose(layout), top, *maps)
            return
        pixels, target = (image[:, top:bottom].copy() for image in (composite, out))
        run(pixels, weights, target, 0, *maps)
        out[:, top:bottom] = target

    edges = [*range(0, height, BLOCK_ROWS), height]
    if threads == 1 or height <= BLOCK_ROWS:
        for top, bottom in itertools.pairwise(edges):
            block(top, bottom)
    else:
        list(_threads(threads).map(block, edges[:-1], edges[1:]))


def _is_contiguous(axes: tuple[int, int, int], *images: np.ndarray) -> bool:
    return all(image.transpose(axes).flags.c_contiguous for image in images)


def _threads(count: int) -> ThreadPoolExecutor:
    global _pool
    with _pool_lock:
        if _pool is None or _pool._max_workers < count:
            _pool = ThreadPoolExecutor(count, thread_name_prefix="aict-lut")
        return _pool


def _forget_threads() -> None:
    """Make a new pool in a forked child: it has no threads of its parent, and may have inherited a locked lock."""
    global _pool, _pool_lock, _kernel_lock
    _pool, _pool_lock, _kernel_lock = None, threading.Lock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _read_scalars(values, like):
    """`values[: len(like)]` as a tuple of scalars, which stay in registers."""
    raise NotImplementedError


@overload(_read_scalars)
def _(values, like):
    if len(like) == 0:
        return lambda values, like: ()
    last = len(like) - 1

    def unrolled(values, like):
        return (*_read_scalars(values, like[:last]), values[last])

    return unrolled


def _ramps(position, left, right):
    """Sums over n of clamp(position - n, 0, 1) times left[n] and right[n], written out at compile time."""
    raise NotImplementedError


@overload(_ramps, jit_options={"fastmath": True})
def _(position, left, right):
    if len(left) == 0:
        return lambda position, left, right: (np.float32(0), np.float32(0))
    last = len(left) - 1
    number = np.float32(last)

    def unrolled(position, left, right):
        ramp = min(max(position - number, np.float32(0)), np.float32(1))
        on_left, on_right = _ramps(position, left[:last], right[:last])
        return on_left + ramp * left[last], on_right + ramp * right[last]

    return unrolled


def _recolor_cell(intensity, x, left, right, output, start, stop, knots, nodes):
    """Both look-ups for one channel of a row's pixels between two LUT columns.

    `left` and `right` hold the heights of the ramps at the two columns. Only the lengths of the tuples `knots` and
    `nodes` are read: they are the numbers of nodes.
    """
    raise NotImplementedError


@overload(_recolor_cell, jit_options={"fastmath": True})
def _(intensity, x, left, right, output, start, stop, knots, nodes):
    first, second = len(knots), len(knots) + 1  # the colour LUT's value at 0, and where its ramps begin
    intervals, steps = np.float32(len(knots) - 1), np.float32(len(nodes) - 1)
    zero, one = np.float32(0), np.float32(1)

    def unrolled(intensity, x, left, right, output, start, stop, knots, nodes):
        a, b = _read_scalars(left, knots + nodes), _read_scalars(right, knots + nodes)
        for i in range(start, stop):
            p, q = _ramps(intensity[i] * intervals, a[1:first], b[1:first])
            p, q = p + a[0], q + b[0]
            value = min(max(p + x[i] * (q - p), zero), one) * steps
            p, q = _ramps(value, a[second:], b[second:])
            p, q = p + a[first], q + b[first]
            output[i] = min(max(p + x[i] * (q - p), zero), one)

    return unrolled


def load_kernel(knot_count: int, lut_count: int) -> None:
    """Load the kernel for most photos, interleaved RGB of 8 bits, so that the first photo does not wait for it.

    Args:
        knot_count: nodes of the first LUT.
        lut_count: nodes of the colour LUT.
    """
    _kernel("uint8", "uint8", knot_count, lut_count, True)


def _kernel(*kind: Any) -> Callable:
    """The arguments are those of `_compiled_kernel`. One thread at a time compiles; the others wait for it."""
    with _kernel_lock:
        return _compiled_kernel(*kind)


@functools.cache
def _compiled_kernel(dtype: str, mask_dtype: str, knot_count: int, lut_count: int, interleaved: bool) -> Callable:
    """The compiled loop over rows, for one kind of photo and mask and one number of nodes.

    All indices are unsigned. numba then does not check for negative ones, and LLVM vectorises the loops.
    """
    scale = np.float32({"uint8": 255, "uint16": 65535, "float32": 1}[dtype])
    to_unit = np.float32(1 / scale)
    mask_to_unit = np.float32({"uint8": 1 / 255, "float32": 1}[mask_dtype])
    integer = dtype != "float32"
    level = getattr(np, dtype)
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    first, step, vector = np.uintp(1), np.uintp(3 if interleaved else 1), np.uintp(VECTOR)
    nodes = knot_count + lut_count
    knots_like, lut_like = (0,) * knot_count, (0,) * lut_count

    def recolor_rows(
        composite,
        mask,
        out,
        first_row,
        knots,
        color_lut,
        row_cells,
        row_fractions,
        first_columns,
        fractions,
        strength,
    ):
        width, cells = np.uintp(mask.shape[1]), np.uintp(len(first_columns) - 1)
        lut_rows, lut_columns = knots.shape[2], np.uintp(knots.shape[3])
        source, target = composite.reshape(-1), out.reshape(-1)
        plane = np.uintp(1) if step == 3 else np.uintp(composite.shape[1]) * width  # from channel to channel
        # Heights of the ramps at the LUT columns: for all LUT rows this block lies between, and for one row of pixels.
        first_map, last_map = row_cells[0], min(row_cells[-1] + 1, lut_rows - 1)
        all_heights = np.empty((last_map - first_map + 1, 3, lut_columns, nodes), np.float32)
        ready = False
        heights = np.empty((3, lut_columns, nodes), np.float32)
        weight = np.empty(width, np.float32)
        intensity = np.zeros((3, width + vector), np.float32)
        output = np.zeros((3, width + vector), np.float32)
        active = np.empty(cells, np.bool_)
        for y in range(mask.shape[0]):
            left, right = cells, np.uintp(0)  # the cells from the first with foreground to the last
            for cell in range(cells):
                any_foreground = False
                for x in range(first_columns[cell], first_columns[cell + first]):
                    any_foreground |= mask[y, x] > 0
                active[cell] = any_foreground
                if any_foreground:
                    left, right = min(left, cell), cell + first  # type: ignore[arg-type]
            if left >= right:
                continue
            start, stop = first_columns[left], first_columns[right]
            if not ready:
                for row in range(all_heights.shape[0]):
                    for channel in range(3):
                        for n in range(nodes):
                            second = n >= knot_count
                            k = n - knot_count if second else n
                            maps = color_lut if second else knots
                            for j in range(lut_columns):
                                before = maps[channel, k - 1, first_map + row, j] if k > 0 else zero
                                all_heights[row, channel, j, n] = maps[channel, k, first_map + row, j] - before
                ready = True

            above, t = row_cells[y] - first_map, row_fractions[y]
            below, last = min(above + 1, all_heights.shape[0] - 1), min(right + first, lut_columns)
            for channel in range(3):
                for j in range(left, last):
                    for n in range(nodes):
                        low, high = all_heights[above, channel, j, n], all_heights[below, channel, j, n]
                        heights[channel, j, n] = low + t * (high - low)

            begins = np.uintp(first_row + y) * width * step  # the row, in the flat arrays
            for x in range(start, stop):
                weight[x] = np.float32(mask[y, x]) * mask_to_unit * strength
                intensity[0, x] = np.float32(source[begins + step * x]) * to_unit
                intensity[1, x] = np.float32(source[begins + step * x + plane]) * to_unit
                intensity[2, x] = np.float32(source[begins + step * x + plane + plane]) * to_unit
            for cell in range(left, right):
                if active[cell]:
                    begin = first_columns[cell]
                    whole = begin + (first_columns[cell + first] - begin + vector - first) // vector * vector
                    for channel in range(np.uintp(3)):
                        _recolor_cell(
                            intensity[channel],
                            fractions,
                            heights[channel, cell],
                            heights[channel, min(cell + first, lut_columns - first)],
                            output[channel],
                            begin,
                            whole,
                            knots_like,
                            lut_like,
                        )
            for x in range(start, stop):
                for channel in range(np.uintp(3)):
                    place = begins + step * x + plane * channel
                    before = np.float32(source[place])
                    blended = weight[x] * (output[channel, x] * scale) + (one - weight[x]) * before
                    after = level(np.int32(blended + half)) if integer else level(blended)
                    target[place] = after if weight[x] > zero else target[place]

    photo, maps, positions = f"{dtype}[:, :, ::1]", "float32[:, :, :, ::1]", "int32[::1], float32[::1]"
    signature = (
        f"void({photo}, {mask_dtype}[:, ::1], {photo}, int64, {maps}, {maps}, {positions}, uintp[::1], float32[::1], "
        "float32)"
    )

    def compiled() -> Callable:
        try:
            return numba.njit(signature, nogil=True, cache=True)(recolor_rows)
        except (RuntimeError, OSError):  # nowhere to keep compiled code
            return numba.njit(signature, nogil=True)(recolor_rows)

    # numba calls itself for each node, up to Python's limit of recursion. In a thread of its own, the stack is empty.
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(max(limit, FRAMES_PER_NODE * nodes))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(compiled).result()
    finally:
        sys.setrecursionlimit(limit)


__all__ = ["apply_luts_numba", "load_kernel"]
