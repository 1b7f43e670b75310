import pytest
import torch
from test_lut import make_maps, make_pixels

from aict_hf import apply_luts
from aict_hf.model import lut, lut_reference
from aict_hf.model.lut_reference import apply_luts_reference, look_up, lut_gradients_reference, sample_luts


@pytest.fixture(autouse=True)
def reference_alone(monkeypatch):
    monkeypatch.setattr(lut, "apply_luts_numba", None)


def test_memory_is_bounded_by_strips(monkeypatch):
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", 2**16)
    sizes = []
    monkeypatch.setattr(
        lut_reference, "look_up", lambda nodes, values: sizes.append(nodes.numel()) or look_up(nodes, values)
    )
    composite, mask = make_pixels(height=200, width=100)
    maps = [m.requires_grad_() for m in make_maps()]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        result = apply_luts(composite, mask, *maps)
    assert sum(saved) < 3 * composite.numel()
    result.sum().backward()
    assert max(sizes) * 4 <= 2**16


def test_strips_equal_the_whole(monkeypatch):
    composite, mask = make_pixels()
    mask[:, :, 10:25] = 0
    maps = make_maps()
    whole = apply_luts(composite, mask, *maps)
    monkeypatch.setattr(lut_reference, "STRIP_BYTES", 1)
    torch.testing.assert_close(apply_luts(composite, mask, *maps), whole, rtol=0, atol=1e-6)


def test_gradients_at_the_nodes_are_autograds():
    """Black, white and every node's intensity in between, where a piecewise-linear curve has two slopes."""
    composite = torch.linspace(0, 1, 5, dtype=torch.float64).repeat(1, 3, 3, 1)
    mask = torch.ones(1, 1, 3, 5, dtype=torch.float64)
    nodes = torch.linspace(0, 1, 5, dtype=torch.float64).view(1, 1, 5, 1, 1).repeat(1, 3, 1, 2, 2)
    gradient = torch.rand(composite.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    maps = nodes.clone().requires_grad_(), nodes.flip(2).clone().requires_grad_()
    apply_luts_reference(composite, mask, *maps).backward(gradient)
    ours = lut_gradients_reference(gradient, composite, mask, *(m.detach() for m in maps))
    for mine, expected in zip(ours, maps, strict=True):
        torch.testing.assert_close(mine, expected.grad, rtol=0, atol=1e-12)


def test_samples_are_the_pixels_of_the_whole():
    composite, _ = make_pixels(2)
    maps = make_maps(2)
    whole = apply_luts(composite, torch.ones(2, 1, 37, 53), *maps)
    rows, columns = torch.randint(0, 37, (2, 200)), torch.randint(0, 53, (2, 200))
    positions = torch.stack([columns / 52 * 2 - 1, rows / 36 * 2 - 1], dim=-1)
    pick = [(slice(None), rows[i], columns[i]) for i in range(2)]
    samples = sample_luts(torch.stack([composite[i][pick[i]] for i in range(2)]), positions, *maps)
    expected = torch.stack([whole[i][pick[i]] for i in range(2)])
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-5)


def test_look_up_interpolates_between_nodes_and_clamps():
    nodes = torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 3, 1, 1).expand(1, 3, 3, 1, 4)
    values = torch.tensor([-1.0, 0.25, 0.75, 2.0]).expand(1, 3, 1, 4)
    expected = torch.tensor([0.0, 0.5, 0.75, 0.5]).expand(1, 3, 1, 4)
    torch.testing.assert_close(look_up(nodes, values), expected)
