import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.export import Dim

from aict_hf import apply_luts
from aict_hf.model import lut, lut_reference
from aict_hf.model.lut_reference import FULL_SCALE, knots_from_intervals
from aict_hf.published import published_luts

TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.fixture(params=["numba", "reference"])
def kernel(request, monkeypatch):
    """What computes on the CPU: the tests that ask for it run with each."""
    if request.param == "reference":
        monkeypatch.setattr(lut, "apply_luts_numba", None)
    else:
        pytest.importorskip("numba")


def make_maps(batch=1, intervals=4, size=(5, 7), dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, intervals, *size, generator=generator, dtype=torch.float64)
    color_lut = torch.rand(batch, 3, intervals, *size, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    return knots_from_intervals(logits.softmax(2)).to(dtype), color_lut.to(dtype)


def make_pixels(batch=1, height=37, width=53, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    composite = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64) * 1.5 - 0.5
    return composite.to(dtype), mask.clamp(0, 1).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", [(37, 53), (1, 1), (1, 9), (9, 1), (2, 1023)], ids=str)
def test_result_is_the_published_one(dtype, size, kernel):
    composite, mask = make_pixels(2, *size, dtype=dtype)
    knots, color_lut = make_maps(2)
    expected = published_luts(composite.double(), mask.double(), knots.double(), color_lut.double())
    result = apply_luts(composite, mask, knots, color_lut)
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "full_scale"), [(torch.uint8, 255), (torch.uint16, 65535)], ids=str)
def test_integers_are_the_exact_result_rounded_to_nearest(dtype, full_scale, kernel):
    composite, mask = make_pixels(2)
    composite, mask = (full_scale * composite).round().to(dtype), (255 * mask).round().to(torch.uint8)
    maps = make_maps(2)
    exact = published_luts(composite.double() / full_scale, mask.double() / 255, *(m.double() for m in maps))
    result = apply_luts(composite, mask, *maps)
    assert result.dtype == dtype
    assert (result.double() - exact * full_scale).abs().max() <= 0.5 + full_scale * 5e-6


def test_identity_luts_return_the_input(kernel):
    composite, mask = make_pixels()
    nodes = torch.linspace(0, 1, 5).view(1, 1, 5, 1, 1).expand(1, 3, 5, 4, 4)
    torch.testing.assert_close(apply_luts(composite, mask, nodes, nodes), composite, rtol=0, atol=1e-6)
    levels = (composite * 255).round().to(torch.uint8)
    assert torch.equal(apply_luts(levels, mask, nodes, nodes), levels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32], ids=str)
def test_background_is_untouched(dtype, kernel):
    composite, mask = make_pixels()
    composite = (composite * FULL_SCALE.get(dtype, 1)).to(dtype)
    result = apply_luts(composite, mask, *make_maps())
    background = (mask == 0).expand_as(composite)
    assert background.any()
    assert torch.equal(result[background], composite[background])
    assert not torch.equal(result, composite)


def test_strength_blends_and_zero_returns_the_composite(kernel):
    composite, mask = make_pixels()
    maps = make_maps()
    full = apply_luts(composite, mask, *maps)
    assert torch.equal(apply_luts(composite, mask, *maps, strength=0.0), composite)
    torch.testing.assert_close(
        apply_luts(composite, mask, *maps, strength=0.25), composite + 0.25 * (full - composite), rtol=0, atol=1e-6
    )


def test_memory_layout_is_kept_and_makes_no_difference(kernel):
    composite, mask = make_pixels(2)
    maps = make_maps(2)
    permuted = composite.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    result = apply_luts(permuted, mask.expand(2, 1, -1, -1), *maps)
    assert result.stride() == permuted.stride()
    assert torch.equal(result, apply_luts(composite, mask, *maps))


def test_background_and_strength_zero_are_exact_whatever_the_luts_hold(kernel):
    composite, _ = make_pixels()
    composite[0, 0, 0, 1] = -0.0
    mask = torch.zeros(1, 1, 37, 53)
    mask[..., 0, 0] = mask[..., -1, -1] = 1  # everything lies between
    knots, color_lut = make_maps()
    color_lut[:, :, 1] = math.inf
    result = apply_luts(composite, mask, knots, color_lut)
    background = (mask == 0).expand_as(composite)
    assert torch.equal(result[background].view(torch.int32), composite[background].view(torch.int32))
    assert torch.equal(apply_luts(composite, mask, knots, color_lut, strength=0.0), composite)


def test_an_empty_batch_is_no_error(kernel):
    knots, color_lut = make_maps()
    empty = apply_luts(torch.zeros(0, 3, 8, 8), torch.zeros(0, 1, 8, 8), knots[:0], color_lut[:0])
    assert empty.shape == (0, 3, 8, 8)


def test_input_is_not_changed(kernel):
    composite, mask = make_pixels()
    copy = composite.clone()
    apply_luts(composite, mask, *make_maps())
    assert torch.equal(composite, copy)


@pytest.mark.parametrize("strip_bytes", [1, 2**23])
def test_a_foreground_in_a_corner_is_the_published_result(monkeypatch, strip_bytes, kernel):
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", strip_bytes)
    composite, mask = make_pixels(2)
    mask[:, :, :, :40] = 0
    mask[:, :, :20] = 0
    mask[1] = 0
    maps = make_maps(2)
    expected = published_luts(composite, mask, *maps)
    torch.testing.assert_close(apply_luts(composite, mask, *maps), expected, rtol=0, atol=5e-6)


def test_batch_equals_loop(kernel):
    composite, mask = make_pixels(3)
    knots, color_lut = make_maps(3)
    singles = [apply_luts(*(t[i : i + 1] for t in (composite, mask, knots, color_lut))) for i in range(3)]
    assert torch.equal(apply_luts(composite, mask, knots, color_lut), torch.cat(singles))


@pytest.mark.parametrize("strip_bytes", [1, 2**23])
def test_gradients_are_those_of_the_published_formulation(strip_bytes, monkeypatch):
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", strip_bytes)
    composite, mask = make_pixels(2, 6, 5, dtype=torch.float64)
    weights = torch.rand(composite.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = []
    for function in (apply_luts, published_luts):
        maps = [m.requires_grad_() for m in make_maps(2, size=(3, 4), dtype=torch.float64)]
        (function(composite, mask, *maps) * weights).sum().backward()
        gradients.append([m.grad for m in maps])
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_gradients_of_mask_and_composite_are_the_references():
    composite, mask = make_pixels(2, 6, 5, dtype=torch.float64)
    mask = mask.clamp(min=0.1)  # where it is 0 the result is the composite, whatever the mask's neighbourhood
    weights = torch.rand(composite.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = []
    for function in (apply_luts, published_luts):
        leaves = [t.clone().requires_grad_() for t in (mask, *make_maps(2, size=(3, 4), dtype=torch.float64))]
        (function(composite, *leaves) * weights).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_operator_passes_torchs_own_checks():
    pixels = make_pixels(1, 5, 6)
    maps = [m.requires_grad_() for m in make_maps(size=(2, 3))]
    torch.library.opcheck(lut._apply_luts, (*pixels, *maps, 0.5, 0, 5))
    gradient = torch.rand(1, 3, 5, 6)
    torch.library.opcheck(lut._lut_gradients, (gradient, *pixels, *(m.detach() for m in maps), 0.5, 0, 5))


def test_gradcheck():
    composite, mask = make_pixels(1, 4, 5, dtype=torch.float64)
    maps = [m.requires_grad_() for m in make_maps(size=(2, 3), dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *m: apply_luts(composite, mask, *m), maps)


def test_intensity_is_detached_before_the_look_up():
    composite, mask = make_pixels(1, 4, 5, dtype=torch.float64)
    composite.requires_grad_()
    result = apply_luts(composite, mask, *make_maps(dtype=torch.float64))
    (gradient,) = torch.autograd.grad(result.sum(), composite)
    torch.testing.assert_close(gradient, (1 - mask).expand_as(composite))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_a_photo_in_pieces_is_the_whole(dtype, kernel):
    composite, mask = make_pixels(2)
    composite = (composite * FULL_SCALE.get(dtype, 1)).to(dtype)
    maps = make_maps(2)
    whole = apply_luts(composite, mask, *maps)
    pieces = [
        apply_luts(composite[:, :, top : top + 10], mask[:, :, top : top + 10], *maps, top=top, full_height=37)
        for top in range(0, 37, 10)
    ]
    assert torch.equal(torch.cat(pieces, dim=2), whole)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32], ids=str)
def test_out_takes_the_result_and_may_be_the_composite(dtype, kernel):
    composite, mask = make_pixels()
    composite = (composite * FULL_SCALE.get(dtype, 1)).to(dtype)
    maps = make_maps()
    expected = apply_luts(composite, mask, *maps)
    out = torch.zeros(1, 37, 53, 3, dtype=dtype).permute(0, 3, 1, 2)
    assert apply_luts(composite, mask, *maps, out=out) is out
    assert torch.equal(out, expected)
    assert apply_luts(composite, mask, *maps, out=composite) is composite
    assert torch.equal(composite, expected)


UNIT = st.floats(0, 1, width=32)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), UNIT, st.sampled_from([torch.uint8, torch.float32]))
def test_output_is_in_range_and_the_background_is_kept(height, width, seed, strength, dtype):
    composite, mask = make_pixels(height=height, width=width, seed=seed)
    composite = (composite * FULL_SCALE.get(dtype, 1)).round().to(dtype)
    result = apply_luts(composite, mask, *make_maps(seed=seed), strength=strength)
    assert (result >= 0).all()
    assert (result <= FULL_SCALE.get(dtype, 1)).all()
    kept = (mask == 0).expand_as(composite)
    assert torch.equal(result[kept], composite[kept])


@settings(max_examples=50, deadline=None)
@given(st.lists(UNIT, min_size=2, max_size=60), st.integers(0, 99), st.sampled_from([torch.uint8, torch.float32]))
def test_monotone_luts_keep_the_order(values, seed, dtype):
    """All pixels of one place: the same map column, many rows of one map row."""
    values = (torch.tensor(sorted(values)) * FULL_SCALE.get(dtype, 1)).to(dtype)
    composite = values.view(1, 1, 1, -1).expand(1, 3, 1, -1)
    knots, color_lut = make_maps(size=(1, 1), seed=seed)
    result = apply_luts(composite, torch.ones(1, 1, *composite.shape[2:]), knots, color_lut.sort(dim=2).values)
    steps = result[..., 1:].double() - result[..., :-1].double()
    assert steps.numel() == 0 or steps.min() >= -1e-6


def test_export_takes_any_height_and_width():
    class Apply(torch.nn.Module):
        def forward(self, composite, mask, knots, color_lut):
            return apply_luts(composite, mask, knots, color_lut)

    height, width = Dim("height", min=2, max=10000), Dim("width", min=2, max=10000)
    sizes = {2: height, 3: width}
    program = torch.export.export(
        Apply(),
        (*make_pixels(), *make_maps()),
        dynamic_shapes={"composite": sizes, "mask": sizes, "knots": None, "color_lut": None},
    )
    other = make_pixels(height=64, width=11)
    torch.testing.assert_close(
        program.module()(*other, *make_maps()), apply_luts(*other, *make_maps()), rtol=0, atol=1e-6
    )


def test_fullgraph_compile_traces():
    compiled = torch.compile(apply_luts, fullgraph=True, backend="aot_eager")
    pixels, maps = make_pixels(), make_maps()
    torch.testing.assert_close(compiled(*pixels, *maps), apply_luts(*pixels, *maps), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"composite": torch.zeros(3, 8, 8)}, r"composite has shape \(3, 8, 8\)"),
        ({"composite": torch.zeros(1, 4, 8, 8)}, r"expected \(B, 3, H, W\)"),
        ({"composite": torch.zeros(1, 3, 8, 8, dtype=torch.int32)}, "expected uint8"),
        ({"mask": torch.zeros(1, 1, 8, 9)}, "resize the mask to the composite"),
        ({"mask": torch.zeros(1, 1, 8, 8, dtype=torch.bool)}, "mask has dtype torch.bool"),
        ({"knots": torch.zeros(2, 3, 5, 4, 4)}, r"knots has shape .* expected \(1, 3, nodes, h, w\)"),
        ({"color_lut": torch.zeros(1, 3, 1, 4, 4)}, "nodes >= 2"),
        ({"strength": 1.5}, "strength is 1.5"),
        ({"strength": math.nan}, "strength is nan"),
        ({"out": torch.zeros(1, 3, 8, 9)}, "out has shape .* expected the composite's"),
        ({"out": torch.zeros(1, 3, 8, 8), "knots": torch.zeros(1, 3, 5, 4, 4, requires_grad=True)}, "leave out `out`"),
        ({"top": 1, "full_height": 8}, "composite has 8 rows from 1 on, beyond the 8 rows of the photo; check top"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, words):
    maps = torch.zeros(1, 3, 5, 4, 4)
    arguments = {
        "composite": torch.zeros(1, 3, 8, 8),
        "mask": torch.zeros(1, 1, 8, 8),
        "knots": maps,
        "color_lut": maps,
    }
    with pytest.raises(ValueError, match=words):
        apply_luts(**(arguments | change))
