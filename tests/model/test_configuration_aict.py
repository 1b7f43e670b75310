import pytest
from huggingface_hub.errors import StrictDataclassError

from aict_hf import AICTConfig, AICTModel


def test_defaults_are_the_papers_network():
    config = AICTConfig()
    shape = (config.patch_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads)
    assert (*shape, config.intermediate_size, config.num_intervals, config.image_size) == (4, 256, 9, 2, 512, 8, 256)
    assert sum(parameter.numel() for parameter in AICTModel(config).parameters()) == 5_181_140


def test_decoder_stride_defaults_to_the_patch_size():
    assert AICTConfig(patch_size=8).decoder_stride == 8
    assert AICTConfig(patch_size=8).lut_size == 256
    assert AICTConfig(patch_size=16, decoder_stride=4).lut_size == 64


def test_saving_and_loading_keeps_every_field(config, tmp_path):
    config.save_pretrained(tmp_path)
    assert AICTConfig.from_pretrained(tmp_path).to_dict() == config.to_dict() | {
        "transformers_version": AICTConfig.from_pretrained(tmp_path).transformers_version
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"patch_size": 5}, "multiple of patch_size"),
        ({"image_size": 4}, "fewer than 2 x 2 patches of patch_size 4"),
        ({"num_attention_heads": 3}, "multiple of num_attention_heads"),
        ({"num_intervals": 1}, "at least 2 nodes"),
        ({"hidden_size": 0}, "at least 1"),
        ({"hidden_size": 2}, "need at least 4"),
        ({"hidden_act": "gelo"}, "expected one transformers knows"),
        ({"layer_norm_eps": -1.0}, "must be above 0"),
        ({"hidden_dropout_prob": 1.5}, "below 1"),
        ({"patch_size": "4"}, "patch_size"),
        ({"norm_first": "yes"}, "norm_first"),
        ({"color_transform": "pct"}, "color_transform is 'pct'; expected aict, curves, affine"),
        ({"color_transform": ["interval", "colour"]}, "lists 'colour'; expected a list of interval and color"),
        ({"color_transform": ["interval", "interval"]}, "without a colour LUT.*add color"),
        ({"color_transform": []}, "without a colour LUT"),
        ({"color_transform": "affine", "affine_inputs": "cubic"}, "affine_inputs"),
        ({"affine_inputs": "quadratic"}, "color_transform aict has none, so leave it out"),
        ({"color_transform": "filters", "image_weight": "channels"}, "no colour LUT to weigh"),
        ({"image_weight": "global"}, "image_weight"),
        ({"weighted_channels": "gr"}, "some of rgb in this order"),
        ({"weighted_channels": ""}, "image_weight none to weigh no channel"),
        ({"weighted_channels": "gb", "image_weight": "spatial"}, "weighs no channels"),
    ],
)
def test_impossible_fields_are_refused_by_name(fields, words):
    with pytest.raises(StrictDataclassError, match=words):
        AICTConfig(**fields)


@pytest.mark.parametrize(
    ("transform", "weighting", "kind", "chain"),
    [
        ("aict", "channels", "aict", ["interval", "color"]),
        ("curves", "channels", "chain", ["color"]),
        (["color", "interval"], "channels", "chain", ["color", "interval"]),
        ("affine", "none", "affine", []),
        ("filters", "none", "filters", []),
    ],
)
def test_image_weights_default_to_what_the_transform_has(transform, weighting, kind, chain):
    config = AICTConfig(color_transform=transform)
    assert (config.weighting, config.transform_kind, config.lut_chain) == (weighting, kind, chain)


def test_a_transform_changed_while_loading_is_checked_and_takes_its_own_weights(config, tmp_path):
    config.save_pretrained(tmp_path)
    for transform, weighting in (("affine", "none"), ("curves", "channels")):
        changed = AICTConfig.from_pretrained(tmp_path, color_transform=transform)
        assert changed.weighting == weighting
        AICTModel(changed).save_pretrained(tmp_path / transform)
        assert AICTModel.from_pretrained(tmp_path / transform).config.color_transform == transform
    for fields, words in (
        ({"color_transform": "curve"}, "color_transform is 'curve'; expected aict"),
        ({"color_transform": "affine", "image_weight": "channels"}, "no colour LUT to weigh"),
    ):
        with pytest.raises(StrictDataclassError, match=words):
            AICTModel(AICTConfig.from_pretrained(tmp_path, **fields))
