import pytest
import torch
from conftest import small_config

from aict_hf import AICTConfig
from aict_hf.model.transform_adaint_seplut import VERTICES, AdaIntSepLUTHead, adaint_seplut_pixels

COLORS = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = AdaIntSepLUTHead(AICTConfig.from_dict(small_config().to_dict()))
    with torch.no_grad():
        head.init_basis()
    return head


def luts(head, values):
    with torch.no_grad():
        return head(values, COLORS)


def test_values_of_zero_are_the_identity(head):
    found = adaint_seplut_pixels(COLORS, *luts(head, torch.zeros(1, head.global_outputs, 1, 1)))
    torch.testing.assert_close(found, COLORS, rtol=0, atol=1e-5)


def test_the_3d_lut_is_read_trilinearly_between_its_vertices(head):
    """A LUT that is linear in each channel is reproduced, wherever its vertices lie."""
    values = torch.randn(1, head.global_outputs, 1, 1, generator=torch.Generator().manual_seed(1))
    curves, vertices, _ = luts(head, values)
    matrix = torch.tensor([[0.5, 0.2, 0.1], [0.0, 0.6, 0.3], [0.2, 0.1, 0.4]])
    levels = [vertices[0, channel, :, 0, 0] for channel in range(3)]
    grid = torch.stack(torch.meshgrid(*levels, indexing="ij")).flatten(1)
    lut = (matrix @ grid)[None, ..., None, None]
    identity = torch.linspace(0, 1, curves.shape[2]).reshape(1, 1, -1, 1, 1).expand_as(curves)
    found = adaint_seplut_pixels(COLORS, identity, vertices, lut)
    torch.testing.assert_close(found, torch.einsum("oc,bchw->bohw", matrix, COLORS), rtol=0, atol=1e-5)


def test_vertices_grow_from_0_to_1_and_follow_the_intervals(head):
    values = torch.zeros(1, head.global_outputs, 1, 1)
    values[0, 3 * 17] = 3.0  # the first interval of red
    _, vertices, _ = luts(head, values)
    assert (vertices.diff(dim=2) > 0).all()
    torch.testing.assert_close(vertices[:, :, -1], torch.ones(1, 3, 1, 1))
    assert vertices[0, 0, 1] > 0.5
    assert vertices[0, 1, 1, 0, 0] == pytest.approx(1 / (VERTICES - 1))


def test_every_basis_lut_learns(head):
    colors = adaint_seplut_pixels(COLORS, *head(torch.full((1, head.global_outputs, 1, 1), 0.1), COLORS))
    colors.sum().backward()
    assert (head.basis.grad.abs().amax(dim=(1, 2)) > 0).all()
