"""The backbone itself, and the network with one."""

import typing

import numpy as np
import pytest
import torch
from conftest import full_resolution, gradients_by_checkpointing, make_inputs
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch.nn import functional as F

from aict_hf import AICTConfig, AICTModel
from aict_hf.model.backbone_efficientnet import BACKBONES, EfficientNetLiteBackbone
from aict_hf.model.configuration_aict import Backbone

SKETCH = 1e-4  # what its check values promise


@pytest.fixture
def config():
    return AICTConfig(
        image_size=64,
        patch_size=16,
        decoder_stride=4,
        hidden_size=16,
        num_hidden_layers=1,
        intermediate_size=32,
        num_intervals=4,
        decoder_hidden_size=8,
        decoder_channels=6,
        backbone="efficientnet_lite0",
        color_statistics=True,
        statistics_dropout_prob=0.5,
        norm_first=True,
    )


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return AICTModel(config).eval()


def test_the_config_names_the_backbones_there_are():
    assert set(typing.get_args(Backbone)) == set(BACKBONES)


@pytest.mark.parametrize("name", BACKBONES)
def test_features_have_their_strides(name):
    features = EfficientNetLiteBackbone(name)(torch.rand(2, 3, 64, 96))
    for stride, number in ((4, 1), (8, 2), (16, 4), (32, 6)):
        channels = BACKBONES[name][number].channels
        assert getattr(features, f"stride{stride}").shape == (2, channels, 64 // stride, 96 // stride)


def test_strided_convolutions_pad_as_tensorflow_does():
    backbone = EfficientNetLiteBackbone("efficientnet_lite0")
    for conv, size in ((backbone.stem, 9), (backbone.stages[2][0].depthwise, 12)):
        channels, kernel = conv.conv.in_channels, conv.conv.kernel_size[0]
        image = torch.rand(1, channels, 2 * size, 2 * size)
        total = kernel - 2
        padded = F.pad(image, (total // 2, total - total // 2) * 2)
        expected = F.conv2d(padded, conv.conv.weight, conv.conv.bias, stride=2, groups=conv.conv.groups)
        assert expected.shape[2:] == (size, size)
        torch.testing.assert_close(conv(image), expected)


def test_output_shapes_are_a_quarter_of_the_image(config, model):
    output = model(**make_inputs(size=96))
    assert output.color_lut.shape == (2, 3, 4, 24, 24)
    assert output.knots.shape == (2, 3, 5, 24, 24)
    assert output.harmonized.shape == (2, 3, 96, 96)
    assert config.lut_size == 16


def test_a_new_model_leaves_the_composite_nearly_as_it_is(model):
    inputs = make_inputs(size=64)
    with torch.no_grad():
        change = model(**inputs).harmonized - inputs["pixel_values"]
    assert change.abs().mean() < 0.1


@pytest.mark.parametrize("statistics", [True, False])
def test_gradients_reach_every_parameter(config, statistics):
    config = AICTConfig.from_dict(config.to_dict() | {"color_statistics": statistics})
    torch.manual_seed(0)
    model = AICTModel(config)
    torch.nn.init.normal_(model.decoder.backbone_lateral.weight, std=0.01)  # zero at the start
    model(**make_inputs(size=64), **full_resolution([(40, 48), (64, 37)])).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    silent = [n for n, p in model.named_parameters() if not n.endswith("k_proj.bias") and p.grad.abs().max() == 0]
    assert silent == []


@pytest.mark.parametrize("mask", [torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)], ids=["empty", "full"])
def test_masks_of_one_region_give_finite_maps(model, mask):
    with torch.no_grad():
        output = model(torch.rand(1, 3, 64, 64), mask)
    assert all(value.isfinite().all() for value in output.values())


def test_gradient_checkpointing_changes_nothing(config):
    torch.manual_seed(0)
    model = AICTModel(config)
    torch.testing.assert_close(*gradients_by_checkpointing(model, model.backbone.stem.conv.weight, size=64))


def test_compiles_as_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    inputs = make_inputs(size=64)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).color_lut, model(**inputs).color_lut, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_loads_in_half_precision_with_float32_luts(model, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    half = AICTModel.from_pretrained(tmp_path, dtype=dtype)
    with torch.no_grad():
        output, exact = half(**make_inputs(size=64)), model(**make_inputs(size=64))
    assert output.knots.dtype == output.color_lut.dtype == torch.float32
    assert (output.harmonized - exact.harmonized).abs().mean() < 0.02


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
def test_saving_and_loading_gives_the_same_model(model, device_map, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AICTModel.from_pretrained(tmp_path, device_map=device_map)
    inputs = make_inputs(size=64)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).harmonized.cpu(), model(**inputs).harmonized)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": "resnet50"}, "backbone"),
        ({"patch_size": 8}, "needs 16 and 4"),
        ({"decoder_stride": 2}, "needs 16 and 4"),
        ({"image_size": 80}, "multiple of 32, which backbone efficientnet_lite0 needs"),
        ({"decoder_hidden_size": 0}, "at least 1"),
        ({"statistics_dropout_prob": 1.0}, "below 1"),
    ],
)
def test_impossible_fields_are_refused_by_name(config, fields, words):
    with pytest.raises(StrictDataclassError, match=words):
        AICTConfig(**(config.to_diff_dict() | fields))


def test_inputs_must_be_multiples_of_32(model):
    with pytest.raises(ValueError, match="H and W multiples of 32"):
        model(**make_inputs(size=48))


def test_weights_of_a_network_without_backbone_are_refused(model, config, tmp_path):
    plain = AICTModel(AICTConfig.from_dict(config.to_dict() | {"backbone": None, "color_statistics": False}))
    plain.save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="weights do not fit the config: missing keys"):
        AICTModel.from_pretrained(tmp_path)


SKETCH_NAMES = {
    "lateral": "stride16_proj",
    "top": "stride32_proj",
    "norm": "color_statistics.norm",
    "region.0": "color_statistics.fc1",
    "region.2": "color_statistics.fc2",
    "region_token": "color_statistics.token",
    "region_weight": "color_statistics.proj",
    "dec_proj": "decoder.encoder_proj",
    "lat4": "decoder.backbone_lateral",
    "lat_in": "decoder.image_lateral",
    "dec_out": "decoder.output",
}
PARTS = {".c.": ".conv.", ".dw.": ".depthwise.", ".proj.": ".project."}  # of the backbone


def from_sketch(name):
    if name.startswith("backbone."):
        for theirs, ours in PARTS.items():
            name = name.replace(theirs, ours)
        return name
    for theirs, ours in SKETCH_NAMES.items():
        if name.startswith(f"{theirs}."):
            return ours + name[len(theirs) :]
    return name


def test_the_sketchs_weights_give_its_check_values(shared):
    if not (shared / "encoder" / "weights.safetensors").is_file():
        pytest.skip("the encoder's weights (../shared/encoder) are not on this machine")
    model = AICTModel(
        AICTConfig(
            patch_size=16,
            decoder_stride=4,
            num_hidden_layers=4,
            norm_first=True,
            backbone="efficientnet_lite0",
            color_statistics=True,
        )
    ).eval()
    weights = load_file(shared / "encoder" / "weights.safetensors")
    weights = {from_sketch(name): value.float() for name, value in weights.items()}
    # The sketch's decoder has no norm. Its GELU returns 0 everywhere, so its output is the bias of its last layer.
    weights["decoder.output.weight"] = torch.zeros_like(weights["decoder.output.weight"])
    weights |= {f"decoder.norm.{name}": value for name, value in model.decoder.norm.state_dict().items()}
    model.load_state_dict(weights)
    check = np.load(shared / "encoder" / "check.npz")
    with torch.no_grad():
        output = model(torch.from_numpy(check["pixel_values"]), torch.from_numpy(check["mask"]))
    for name in ("knots", "color_lut"):
        np.testing.assert_allclose(getattr(output, name), check[name], rtol=0, atol=SKETCH)
