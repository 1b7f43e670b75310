import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from test_lut import make_maps, make_pixels

from aict_hf import apply_luts
from aict_hf.model.lut_reference import apply_luts_reference

lut_numba = pytest.importorskip("aict_hf.model.lut_numba", exc_type=ImportError)

SIZES = [(37, 53), (1, 1), (1, 9), (9, 1), (5, 1023), (70, 300)]


def levels(image, dtype):
    return (image * {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)).round().to(dtype) if dtype else image


@pytest.mark.parametrize("mask_dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32], ids=str)
def test_every_dtype_size_and_layout_is_the_reference(dtype, mask_dtype):
    for size in SIZES:
        composite, mask = make_pixels(2, *size)
        composite = levels(composite, dtype) if dtype != torch.float32 else composite
        mask = levels(mask, mask_dtype) if mask_dtype != torch.float32 else mask
        maps = make_maps(2)
        expected = apply_luts_reference(composite, mask, *maps)
        layouts = {
            "planar": composite,
            "interleaved": composite.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
            "strided": composite.repeat_interleave(2, dim=3)[..., ::2],
        }
        for name, photo in layouts.items():
            result = apply_luts(photo, mask, *maps)
            difference = (result.double() - expected.double()).abs().max()
            assert difference <= (2e-6 if dtype == torch.float32 else 1), (name, size)
            if dtype != torch.float32:
                assert (result != expected).double().mean() < 0.002, (name, size)  # ties that round the other way


@pytest.mark.parametrize(("knots", "nodes"), [(2, 2), (3, 9), pytest.param(17, 16, marks=pytest.mark.slow)])
def test_any_number_of_nodes(knots, nodes):
    composite, mask = make_pixels()
    first, second = make_maps(intervals=knots - 1)[0], make_maps(intervals=nodes)[1]
    expected = apply_luts_reference(composite, mask, first, second)
    torch.testing.assert_close(apply_luts(composite, mask, first, second), expected, rtol=0, atol=2e-6)


def test_a_broadcast_mask_and_maps_of_one_node():
    composite, _ = make_pixels(2)
    mask = torch.tensor(0.5).expand(2, 1, 37, 53)
    for size in ((1, 1), (1, 6), (6, 1), (90, 80)):
        maps = make_maps(2, size=size)
        expected = apply_luts_reference(composite, mask, *maps)
        torch.testing.assert_close(apply_luts(composite, mask, *maps), expected, rtol=0, atol=2e-6)


def test_concurrent_threads_get_the_same_result():
    composite, mask = make_pixels(height=300, width=200)
    maps = make_maps()
    expected = apply_luts(composite, mask, *maps)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: apply_luts(composite, mask, *maps), range(64)):
            assert torch.equal(result, expected)


def recolor(queue, arguments, out):
    lut_numba.apply_luts_numba(*arguments, out, threads=2)
    if queue is not None:
        queue.put(out)


def test_a_forked_child_works_after_its_parent_did():
    """DataLoader and Ray workers: the parent's threads do not exist in the child."""
    arguments = [tensor.numpy() for tensor in (*make_pixels(height=200), *make_maps())]
    composite = arguments[0]
    expected = composite.copy()
    recolor(None, arguments, expected)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [
        context.Process(target=recolor, args=(queue, arguments, composite.copy()), daemon=True) for _ in range(3)
    ]
    for child in children:
        child.start()
    results = [queue.get(timeout=600) for _ in children]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert all(np.array_equal(result, expected) for result in results)


PROGRAM = """
import sys
assert "numba" not in sys.modules
import torch
from aict_hf import apply_luts
maps = torch.linspace(0, 1, 5).view(1, 1, 5, 1, 1).expand(1, 3, 5, 2, 2)
photo = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
assert torch.equal(apply_luts(photo, torch.ones(1, 1, 40, 50), maps, maps), photo)
"""


def test_nowhere_to_keep_compiled_code_is_no_failure(forks, tmp_path):
    forks.lines(["-c", PROGRAM], tmp_path, NUMBA_CACHE_DIR="/proc/nowhere", HOME="/proc/nowhere")


def test_without_numba_the_reference_does_it(forks, tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('hidden')\n")
    forks.lines(["-c", PROGRAM], tmp_path)
