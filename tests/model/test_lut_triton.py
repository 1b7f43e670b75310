"""Triton's kernels, on a GPU where there is one and in Triton's interpreter where there is none (see conftest.py)."""

import pytest
import torch
from test_lut import make_maps, make_pixels

from aict_hf import apply_luts
from aict_hf.model.lut_reference import apply_luts_reference, lut_gradients_reference

lut_triton = pytest.importorskip("aict_hf.model.lut_triton", exc_type=ImportError)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.uint8: 1, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def case(size, dtype, batch=1, maps=(5, 7)):
    composite, mask = make_pixels(batch, *size)
    if dtype == torch.uint8:
        composite, mask = (composite * 255).round(), (mask * 255).round().byte()
    return [t.to(DEVICE) for t in (composite.to(dtype), mask, *make_maps(batch, size=maps))]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [(21, 37), (1, 1), (1, 9), (9, 1)], ids=str)
def test_result_is_the_references(size, dtype):
    composite, mask, knots, color_lut = case(size, dtype, batch=2, maps=(2, 3))
    out = torch.empty_like(composite)
    assert lut_triton.apply_luts_triton(composite, mask, knots, color_lut, out, strength=0.75) is out
    expected = apply_luts_reference(composite, mask, knots, color_lut, strength=0.75)
    torch.testing.assert_close(out.double(), expected.double(), rtol=0, atol=TOLERANCE[dtype])
    kept = (mask == 0).expand_as(composite)
    assert torch.equal(out[kept], composite[kept])


@pytest.mark.parametrize("maps", [(1, 1), (1, 3), (3, 1), (4, 5)], ids=str)  # the last has more nodes than pixels
def test_maps_of_any_size(maps):
    composite, mask, knots, color_lut = case((2, 3), torch.float32, maps=maps)
    out = lut_triton.apply_luts_triton(composite, mask, knots, color_lut, composite.clone())
    expected = apply_luts_reference(composite, mask, knots, color_lut)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    gradient = torch.rand_like(composite)
    ours = lut_triton.lut_gradients_triton(gradient, composite, mask, knots, color_lut)
    theirs = lut_gradients_reference(gradient, composite, mask, knots, color_lut)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_strided_photos_masks_and_pieces():
    composite, mask, knots, color_lut = case((40, 21), torch.float32, maps=(3, 3))
    expected = apply_luts_reference(composite, mask[:, :, :1].expand_as(mask), knots, color_lut)
    photo = composite.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    out = lut_triton.apply_luts_triton(
        photo[:, :, 13:29],
        mask[:, :, :1].expand_as(mask)[:, :, 13:29],
        knots,
        color_lut,
        torch.zeros(1, 16, 3, 21, device=DEVICE).transpose(1, 2),
        top=13,
        full_height=40,
    )
    torch.testing.assert_close(out, expected[:, :, 13:29], rtol=0, atol=2e-6)


def test_cells_larger_than_a_program(monkeypatch):
    monkeypatch.setattr(lut_triton, "ROWS_PER_PROGRAM", 8)
    monkeypatch.setattr(lut_triton, "PIXELS", 64)
    composite, mask, knots, color_lut = case((20, 12), torch.float32, maps=(2, 2))
    mask[:, :, 8:12] = 0
    out = lut_triton.apply_luts_triton(composite, mask, knots, color_lut, torch.empty_like(composite))
    expected = apply_luts_reference(composite, mask, knots, color_lut)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    gradient = torch.rand_like(composite)
    ours = lut_triton.lut_gradients_triton(gradient, composite, mask, knots, color_lut)
    theirs = lut_gradients_reference(gradient, composite, mask, knots, color_lut)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_references_and_the_same_every_time():
    composite, mask, knots, color_lut = case((7, 9), torch.float32, batch=2, maps=(2, 3))
    gradient = torch.rand_like(composite)
    ours = lut_triton.lut_gradients_triton(gradient, composite, mask, knots, color_lut, strength=0.5)
    theirs = lut_gradients_reference(gradient, composite, mask, knots, color_lut, strength=0.5)
    again = lut_triton.lut_gradients_triton(gradient, composite, mask, knots, color_lut, strength=0.5)
    for mine, expected, repeated in zip(ours, theirs, again, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(mine, repeated)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from aict_hf.model import lut_triton
TYPES = {"mask": "*u8", "strength": "fp32", "first_rows": "*i32", "first_columns": "*i32"} | dict.fromkeys(
    ("composite", "out", "gradient", "sums", "knots", "color_lut", "row_fractions", "column_fractions"), "*fp32"
)
CONSTANTS = {"SCALE": 1.0, "MASK_SCALE": 255.0, "KNOTS": 9, "NODES": 8, "ROUND": False, "BLOCK_Y": 8, "BLOCK_X": 32}
for kernel in (lut_triton._blend_kernel, lut_triton._gradient_kernel):
    constants = {name: value for name, value in CONSTANTS.items() if name in kernel.arg_names}
    types = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
"""


def test_kernels_compile_for_a_gpu_that_is_not_there(forks, tmp_path):
    forks.lines(["-c", COMPILE], tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [(1023, 2049), (2048, 2048)], ids=str)
def test_large_photos_against_float64(size, dtype):
    composite, mask, knots, color_lut = case(size, dtype, maps=(64, 64))
    exact = apply_luts_reference(
        composite.cpu().double() / (255 if dtype == torch.uint8 else 1),
        *(t.cpu().double() for t in (mask.float() / (255 if dtype == torch.uint8 else 1), knots, color_lut)),
    )
    result = apply_luts(composite, mask, knots, color_lut).cpu().double() / (255 if dtype == torch.uint8 else 1)
    tolerance = {torch.uint8: 0.51 / 255, torch.float32: 5e-6}.get(dtype, TOLERANCE[dtype])
    torch.testing.assert_close(result, exact, rtol=0, atol=tolerance)


@pytest.mark.gpu
def test_more_than_two_to_the_31_numbers():
    composite = torch.randint(0, 256, (1, 3, 32768, 32768), dtype=torch.uint8, device="cuda")
    mask = torch.zeros(1, 1, 32768, 32768, dtype=torch.uint8, device="cuda")
    mask[..., -100:, -100:] = 255
    knots, color_lut = (m.cuda() for m in make_maps(size=(64, 64)))
    result = apply_luts(composite, mask, knots, color_lut)
    corner = apply_luts_reference(
        composite[:, :, -100:], mask[:, :, -100:], knots, color_lut, top=32668, full_height=32768
    )
    assert (result[:, :, -100:].int() - corner.int()).abs().max() <= 1
    assert torch.equal(result[:, :, :-100], composite[:, :, :-100])


@pytest.mark.gpu
def test_training_on_a_gpu_takes_the_kernels_gradients():
    composite, mask, knots, color_lut = case((301, 203), torch.float32, maps=(64, 64))
    gradients = []
    for function in (apply_luts, apply_luts_reference):
        maps = [m.clone().requires_grad_() for m in (knots, color_lut)]
        function(composite, mask, *maps).square().sum().backward()
        gradients.append([m.grad for m in maps])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
