import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel
from aict_hf.errors import InputError
from aict_hf.export.converter import convert_checkpoint, convert_state_dict, official_shapes, read_official_checkpoint
from aict_hf.published import PublishedNetwork

FLOAT_TOLERANCE = 1e-5
LEVEL_TOLERANCE = 0.5 + 1e-3  # uint8 out, against the exact value: rounding alone


def test_golden_outputs_are_reproduced(shared, recipe):
    golden = np.load(shared / "reference" / "golden.npz")
    state = {
        name: torch.from_numpy(value) for name, value in recipe.fill_state_dict(int(golden["weights_seed"])).items()
    }
    model = AICTModel(AICTConfig()).eval()
    model.load_state_dict(convert_state_dict(state, model.config))
    processor = AICTImageProcessor()
    for case, (height, width) in enumerate(golden["sizes"]):
        expected = {key[2:]: golden[key] for key in golden if key.startswith(f"{case}_")}
        photo, mask = recipe.make_input(int(expected["input_seed"]), int(height), int(width))
        inputs = processor(photo, mask, return_tensors="pt")
        with torch.no_grad():
            output = model(
                **inputs,
                full_composites=torch.from_numpy(photo).permute(2, 0, 1)[None] / 255,
                full_masks=torch.from_numpy(mask)[None, None] / 255,
            )
        rows, columns = expected["lowres_positions"].T

        def at(maps, rows=rows, columns=columns):
            return np.moveaxis(maps[0, ..., rows, columns].numpy(), -1, 0)

        np.testing.assert_array_equal((at(inputs["pixel_values"]) * 255).round(), expected["lowres_image"])
        for ours, theirs in (
            (at(inputs["mask"])[:, 0], expected["lowres_mask"]),
            (at(output.sampling_intervals), expected["intervals"]),
            (at(output.color_lut), expected["lut"]),
            (output.image_weight.flatten().numpy(), expected["weights"]),
            (at(output.harmonized), expected["lowres_harmonized"]),
            (at(output.full_harmonized, *expected["positions"].T), expected["harmonized"]),
            (output.full_harmonized.mean(dim=(0, 2, 3)).numpy(), expected["fullres_mean"]),
            (output.full_harmonized.std(dim=(0, 2, 3)).numpy(), expected["fullres_std"]),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT_TOLERANCE)
        [result] = processor.post_process_harmonization(output, photo, mask)
        levels = result[tuple(expected["positions"].T)]
        np.testing.assert_allclose(levels, expected["harmonized"] * 255, rtol=0, atol=LEVEL_TOLERANCE)


def test_names_and_shapes_are_those_of_the_authors(recipe):
    assert official_shapes(AICTConfig()) == recipe.official_shapes()


def test_names_and_shapes_are_those_of_the_published_network(config):
    state = PublishedNetwork(config).state_dict()
    assert official_shapes(config) == {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.fixture
def checkpoint(config, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "authors.pth"
    torch.save({"model": PublishedNetwork(config).state_dict(), "epoch": 3, "optimizer": {}}, path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_converted_folder_loads_in_float32(config, checkpoint, tmp_path, dtype):
    convert_checkpoint(checkpoint, tmp_path / "deep" / "out", config=config, dtype=dtype)
    model = AICTModel.from_pretrained(tmp_path / "deep" / "out")
    assert model.dtype == torch.float32
    expected = convert_state_dict(read_official_checkpoint(checkpoint), config)
    for name, tensor in model.state_dict().items():
        stored = (
            expected[name] if "running_" in name else expected[name].to(getattr(torch, dtype)).to(expected[name].dtype)
        )
        assert torch.equal(tensor, stored), name
    assert AICTImageProcessor.from_pretrained(tmp_path / "deep" / "out").size["height"] == config.image_size
    weights = load_file(tmp_path / "deep" / "out" / "model.safetensors")
    assert weights["image_weight_head.norm1.running_var"].dtype == torch.float32


def test_safetensors_and_bare_state_dicts_are_read(config, checkpoint, tmp_path):
    state = read_official_checkpoint(checkpoint)
    save_file(state, tmp_path / "weights.safetensors")
    torch.save(state, tmp_path / "bare.pth")
    for path in (tmp_path / "weights.safetensors", tmp_path / "bare.pth"):
        assert read_official_checkpoint(path).keys() == state.keys()


def test_missing_extra_and_misshapen_tensors_are_named(config, checkpoint):
    state = read_official_checkpoint(checkpoint)
    name = "decoder.dec.weight"
    with pytest.raises(InputError, match=f"{name} is missing"):
        convert_state_dict({key: value for key, value in state.items() if key != name}, config)
    with pytest.raises(InputError, match=f"{name} has shape .* expected"):
        convert_state_dict(state | {name: state[name][:1]}, config)
    with pytest.raises(InputError, match=r"extra\.bias is not part"):
        convert_state_dict(state | {"extra.bias": state[name]}, config)


def test_bad_checkpoints_leave_nothing_behind(config, checkpoint, tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"weight": print}}, tmp_path / "code.pth")
    before = sorted(tmp_path.iterdir())
    for name, words in [
        ("nowhere.pth", "no such file"),
        ("text.pth", "not a checkpoint"),
        ("text.safetensors", "not a checkpoint"),
        ("empty.pth", "not a checkpoint"),
        ("list.pth", "holds no state dict"),
        ("code.pth", "not a checkpoint that can be read safely"),
        ("authors.pth", "authors.pth: tensor .* has shape"),
    ]:
        with pytest.raises(InputError, match=words):
            convert_checkpoint(tmp_path / name, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_existing_folders_are_not_overwritten(config, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        convert_checkpoint(checkpoint, tmp_path / "out", config=config)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
