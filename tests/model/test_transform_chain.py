import pytest
import torch
from conftest import make_inputs, small_config

from aict_hf import AICTConfig, AICTModel
from aict_hf.model.transform_chain import chain_pixels


def variant(**fields):
    torch.manual_seed(0)
    return AICTModel(AICTConfig.from_dict(small_config().to_dict() | fields)).eval()


def test_the_chain_of_an_interval_and_a_color_lut_is_aict():
    aict, chain = variant(), variant(color_transform=["interval", "color"])
    weights = aict.state_dict()
    for ours, theirs in (("0", "sampling_intervals_head"), ("1", "color_lut_head")):
        for kind in ("weight", "bias"):
            weights[f"transform_head.luts.{ours}.{kind}"] = weights.pop(f"{theirs}.{kind}")
    chain.load_state_dict(weights)
    with torch.no_grad():
        expected, found = aict(**make_inputs()), chain(**make_inputs())
    torch.testing.assert_close(found.harmonized, expected.harmonized, rtol=0, atol=2e-6)
    for ours, theirs in zip(found.maps, expected.maps, strict=True):
        assert ours.equal(theirs)


def test_a_pixel_goes_through_the_luts_in_their_order():
    colors = torch.full((1, 3, 1, 1), 0.5)
    halve = torch.tensor([0.0, 0.25, 0.5]).reshape(1, 1, 3, 1, 1).expand(1, 3, 3, 1, 1)
    invert = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1).expand(1, 3, 2, 1, 1)
    assert chain_pixels(colors, halve, invert).flatten().tolist() == [0.75] * 3
    assert chain_pixels(colors, invert, halve).flatten().tolist() == [0.25] * 3


@pytest.mark.parametrize("chain", [["color"], ["color", "color"], ["interval", "color", "interval", "color"]])
def test_each_lut_of_a_chain_has_the_nodes_of_its_kind(chain):
    model = variant(color_transform=chain)
    with torch.no_grad():
        output = model(**make_inputs())
    nodes = model.config.num_intervals
    assert [maps.shape[2] for maps in output.transform_maps] == [nodes + (kind == "interval") for kind in chain]
    assert output.image_weight.shape == (2, 3 * nodes * chain.count("color"), 1, 1)
    for kind, maps in zip(chain, output.transform_maps, strict=True):
        if kind == "interval":
            assert (maps.diff(dim=2) > 0).all()


def test_each_colour_lut_of_a_chain_has_weights_of_its_own():
    model = variant(color_transform=["color", "color"])
    nodes = 3 * model.config.num_intervals
    decoded = torch.rand(1, model.config.decoder_channels, 2, 2)
    weight = torch.cat([torch.ones(1, nodes, 1, 1), torch.zeros(1, nodes, 1, 1)], dim=1)
    first, second = model.transform_head(decoded, weight)
    assert first.abs().max() > 0
    assert second.abs().max() == 0


def test_curves_are_the_chain_of_one_colour_lut():
    with torch.no_grad():
        curves, chain = (variant(color_transform=name)(**make_inputs()) for name in ("curves", ["color"]))
    assert curves.harmonized.equal(chain.harmonized)
