import json

import pytest
import torch
from conftest import full_resolution, gradients_by_checkpointing, make_inputs
from torch.nn import functional as F

from aict_hf import AICTConfig, AICTModel, apply_luts
from aict_hf.export.converter import convert_state_dict
from aict_hf.model.lut_reference import knots_from_intervals
from aict_hf.published import PublishedNetwork, published_luts

TOLERANCE = 2e-5  # float32, against the published formulation


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("decoder_stride", [4, 2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_network_is_the_published_one(config, norm_first, decoder_stride, attention):
    config = AICTConfig.from_dict(config.to_dict() | {"norm_first": norm_first, "decoder_stride": decoder_stride})
    torch.manual_seed(0)
    published = PublishedNetwork(config).eval()
    model = AICTModel._from_config(config, attn_implementation=attention).eval()
    model.load_state_dict(convert_state_dict(published.state_dict(), config))
    inputs = make_inputs()
    with torch.no_grad():
        output = model(**inputs)
        intervals, color_lut = published(inputs["pixel_values"], inputs["mask"])
        knots = knots_from_intervals(intervals)
        harmonized = published_luts(inputs["pixel_values"], inputs["mask"], knots, color_lut)
    assert model.config._attn_implementation == attention
    for ours, theirs in (
        (output.sampling_intervals, intervals),
        (output.color_lut, color_lut),
        (output.harmonized, harmonized),
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)


def test_output_shapes_and_ranges(config, model):
    output = model(**make_inputs())
    nodes = (2, 3, config.num_intervals, config.lut_size, config.lut_size)
    assert output.sampling_intervals.shape == output.color_lut.shape == nodes
    assert output.knots.shape == (2, 3, config.num_intervals + 1, *nodes[3:])
    assert output.image_weight.shape == (2, 3 * config.num_intervals, 1, 1)
    assert output.harmonized.shape == (2, 3, 32, 32)
    assert (output.sampling_intervals > 0).all()
    torch.testing.assert_close(output.knots[:, :, -1], torch.ones(2, 3, *nodes[3:]))
    assert output.loss is None
    assert output.full_harmonized is None
    assert model(**make_inputs(), return_dict=False)[1].equal(output.knots)


def test_the_low_resolution_result_can_be_left_out(model):
    with torch.no_grad():
        output = model(**make_inputs(), return_harmonized=False)
        assert torch.equal(output.color_lut, model(**make_inputs()).color_lut)
    assert output.harmonized is None
    with pytest.raises(ValueError, match="the loss needs the low-resolution result"):
        model(**make_inputs(), **full_resolution([(40, 48)] * 2), return_harmonized=False)


def test_other_low_resolutions_work(model):
    assert model(**make_inputs(size=48)).harmonized.shape == (2, 3, 48, 48)


def test_a_new_model_leaves_the_composite_nearly_as_it_is(config):
    torch.manual_seed(0)
    inputs = make_inputs()
    with torch.no_grad():
        change = AICTModel(config).eval()(**inputs).harmonized - inputs["pixel_values"]
    assert change.abs().mean() < 0.1


def test_full_resolution_tensor_and_list_agree(model):
    given = full_resolution([(40, 48), (40, 48)])
    stacked = {name: torch.stack(images) for name, images in given.items()}
    inputs = make_inputs()
    with torch.no_grad():
        from_list, from_tensor = model(**inputs, **given), model(**inputs, **stacked)
    torch.testing.assert_close(torch.stack(from_list.full_harmonized), from_tensor.full_harmonized)
    torch.testing.assert_close(from_list.loss, from_tensor.loss)


def test_loss_is_the_papers(model):
    given = full_resolution([(40, 48), (64, 37)])
    inputs = make_inputs()
    with torch.no_grad():
        output = model(**inputs, **given)
    expected = 0.0
    for index, (photo, mask, label) in enumerate(zip(*given.values(), strict=True)):
        maps = output.knots[index : index + 1], output.color_lut[index : index + 1]
        full = apply_luts(photo[None], mask[None], *maps)[0]
        assert torch.equal(full, output.full_harmonized[index])
        expected += ((full - label) ** 2).sum() / (3 * max(mask.sum(), 1000)) / 2
        levels = (label * 255).round()[None]
        small = (F.interpolate(levels, size=(32, 32), mode="bilinear") / 255)[0]
        low = ((output.harmonized[index] - small) ** 2).sum() / (3 * max(inputs["mask"][index].sum(), 100))
        expected += 0.01 * low / 2
    torch.testing.assert_close(output.loss, expected, rtol=1e-3, atol=0)  # the labels' copy is rounded to uint8


def test_gradients_flow_through_both_resolutions(model):
    inputs = make_inputs()
    output = model(**inputs, **full_resolution([(40, 48), (64, 37)]))
    output.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for n, p in model.named_parameters() if not n.endswith("k_proj.bias"))
    model.zero_grad()
    model(**inputs).harmonized.sum().backward()
    assert model.decoder.weight.grad.abs().max() > 0


@pytest.mark.parametrize("part", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_is_for_training_alone(config, part):
    fields = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} | {part: 0.5}
    torch.manual_seed(0)
    model = AICTModel(AICTConfig.from_dict(config.to_dict() | fields))
    inputs = make_inputs()

    def twice():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return [model(**inputs).color_lut for _ in "12"]

    assert torch.equal(*(model.eval() and twice()))
    assert not torch.equal(*(model.train() and twice()))


def test_misspelt_arguments_are_an_error(model):
    with pytest.raises(TypeError, match="label"):
        model(**make_inputs(), label=1)


def test_gradient_checkpointing_changes_nothing(model):
    torch.testing.assert_close(*gradients_by_checkpointing(model, model.patch_embeddings.weight))


def test_compiles_as_one_graph(model):
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    inputs = make_inputs()
    photos = torch.rand(2, 3, 40, 48)
    masks = torch.ones(2, 1, 40, 48)
    with torch.no_grad():
        expected = model(**inputs, full_composites=photos, full_masks=masks)
        result = compiled(**inputs, full_composites=photos, full_masks=masks)
    torch.testing.assert_close(result.full_harmonized, expected.full_harmonized, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_loads_in_half_precision_with_float32_luts(model, tmp_path, dtype):
    model.save_pretrained(tmp_path)
    half = AICTModel.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype
    with torch.no_grad():
        output, exact = half(**make_inputs()), model(**make_inputs())
    assert output.knots.dtype == output.color_lut.dtype == torch.float32
    assert (output.harmonized - exact.harmonized).abs().mean() < 0.05


def test_saving_and_loading_gives_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AICTModel.from_pretrained(tmp_path, device_map="cpu")
    with torch.no_grad():
        assert torch.equal(loaded(**make_inputs()).harmonized, model(**make_inputs()).harmonized)


def test_device_map_auto_loads(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = AICTModel.from_pretrained(tmp_path, device_map="auto")
    assert loaded(**make_inputs()).harmonized.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixel_values": torch.zeros(2, 3, 30, 32)}, "multiples of 4 for this network"),
        ({"pixel_values": torch.zeros(2, 4, 32, 32)}, r"expected \(B, 3, H, W\)"),
        ({"mask": torch.zeros(2, 3, 32, 32)}, r"expected \(2, 1, 32, 32\)"),
        ({"full_composites": torch.zeros(2, 3, 8, 8)}, "belong together"),
        ({"pixel_values": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}, "pixel_values has dtype torch.uint8"),
        ({"mask": torch.zeros(2, 1, 32, 32, dtype=torch.bool)}, r"mask torch.bool; expected floats in \[0, 1\]"),
        ({"labels": torch.zeros(2, 3, 8, 8)}, "labels need"),
        (
            {"full_composites": [torch.zeros(3, 8, 8)], "full_masks": [torch.zeros(1, 8, 8)]},
            "full_composites holds 1 images",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, change, words):
    with pytest.raises(ValueError, match=words):
        model(**(make_inputs() | change))


def test_labels_must_fit_and_be_floats(model):
    given = full_resolution([(40, 48), (64, 37)])
    with pytest.raises(ValueError, match="label 1 has shape"):
        model(**make_inputs(), **(given | {"labels": [given["labels"][0]] * 2}))
    with pytest.raises(ValueError, match="must be floats"):
        model(**make_inputs(), **(given | {"full_composites": [(p * 255).byte() for p in given["full_composites"]]}))


def test_color_statistics_reach_every_output_and_are_finite(config):
    config = type(config)(**(config.to_dict() | {"color_statistics": True}))
    torch.manual_seed(0)
    model = AICTModel(config).eval()
    assert sum(p.numel() for p in model.color_statistics.parameters()) > 0
    image = torch.rand(3, 3, 32, 32)
    masks = torch.stack([torch.zeros(1, 32, 32), torch.ones(1, 32, 32), torch.rand(1, 32, 32)])
    image[0] = 0.5  # no spread at all
    outputs = model(image, masks)
    assert all(value.isfinite().all() for value in outputs.values())
    sum(value.sum() for value in outputs.values()).backward()
    assert all(p.grad.abs().max() > 0 for p in model.color_statistics.parameters())


def test_a_checkpoint_loads_whole_or_not_at_all(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    AICTModel.from_pretrained(tmp_path)
    for change, words in (
        ({"num_hidden_layers": 3}, "missing keys layers.2"),
        ({"num_hidden_layers": 1}, "unexpected keys layers.1"),
        ({"color_statistics": True}, "missing keys color_statistics"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=words):
            AICTModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_intervals": 5}))
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AICTModel.from_pretrained(tmp_path)
    AICTModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("way", ["plain", "variant", "config", "subfolder"])
def test_weights_outside_the_folder_are_not_read(model, way, tmp_path):
    inner = tmp_path / "mine" / ("sub" if way == "subfolder" else "")
    model.save_pretrained(inner, max_shard_size="20KB")
    options = {"variant": "fp16"} if way == "variant" else {"subfolder": "sub"} if way == "subfolder" else {}
    index = inner / "model.safetensors.index.json"
    first = json.loads(index.read_text())["weight_map"]["decoder.weight"]
    (inner / first).rename(tmp_path / first)
    index.write_text(index.read_text().replace(first, f"../{first}"))
    if way == "variant":
        index.rename(inner / "model.safetensors.index.fp16.json")
    if way == "config":
        index.rename(inner / "other.safetensors.index.json")
        config = json.loads((inner / "config.json").read_text())
        (inner / "config.json").write_text(
            json.dumps(config | {"transformers_weights": "other.safetensors.index.json"})
        )
    with pytest.raises(ValueError, match="outside its folder"):
        AICTModel.from_pretrained(tmp_path / "mine", **options)
    for file in inner.glob("*index*"):
        file.write_text("[]")
    with pytest.raises(ValueError, match="is not an index of weights"):
        AICTModel.from_pretrained(tmp_path / "mine", **options)


def test_pickles_are_not_read(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        AICTModel.from_pretrained(tmp_path)
