import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from aict_hf import DEFAULT_CHECKPOINT, AICTConfig, AICTImageProcessor, AICTModel
from aict_hf.errors import InputError
from aict_hf.export.converter import convert_checkpoint
from aict_hf.pretrained import bundled_checkpoints, load_checkpoint


def test_a_trained_checkpoint_reproduces_its_check_values(shared, recipe, tmp_path):
    check = np.load(shared / "starter" / "check.npz")
    config = AICTConfig(patch_size=16, decoder_stride=4, norm_first=True)
    convert_checkpoint(shared / "starter" / "starter.safetensors", tmp_path / "starter", config=config)
    model, processor = load_checkpoint(tmp_path / "starter")
    photo, mask = recipe.make_input(int(check["input_seed"]), *map(int, check["size"]))
    with torch.no_grad():
        output = model(
            **processor(photo, mask, return_tensors="pt"),
            full_composites=torch.from_numpy(photo).permute(2, 0, 1)[None] / 255,
            full_masks=torch.from_numpy(mask)[None, None] / 255,
        )
    rows, columns = check["positions"].T
    ours = output.full_harmonized[0, :, rows, columns].T.numpy()
    np.testing.assert_allclose(ours, check["harmonized"], rtol=0, atol=1e-5)


def test_default_checkpoint_loads_as_the_readme_says():
    model = AICTModel.from_pretrained(DEFAULT_CHECKPOINT)
    assert model.dtype == torch.float32
    assert AICTImageProcessor.from_pretrained(DEFAULT_CHECKPOINT).size["height"] == model.config.image_size
    assert DEFAULT_CHECKPOINT in map(str, bundled_checkpoints().values())


def test_auto_classes_know_the_model():
    assert type(AutoConfig.from_pretrained(DEFAULT_CHECKPOINT)).__name__ == "AICTConfig"
    assert isinstance(AutoModel.from_pretrained(DEFAULT_CHECKPOINT), AICTModel)
    assert isinstance(AutoImageProcessor.from_pretrained(DEFAULT_CHECKPOINT), AICTImageProcessor)


def test_bundled_names_and_folders_load():
    for name in (None, *bundled_checkpoints(), DEFAULT_CHECKPOINT):
        model, _ = load_checkpoint(name)
        assert not model.training


def test_unknown_checkpoints_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("aict-huge", "nobody/nothing", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match="bundled: aict-small") as caught:
            load_checkpoint(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_checkpoint(tmp_path)


def test_weights_that_do_not_fit_are_an_error_not_a_random_model(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    load_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"num_intervals": 5}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=str(tmp_path)):
            load_checkpoint(tmp_path)
