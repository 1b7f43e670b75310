"""What the common test suites of transformers hold of every model, for this one, with and without a backbone."""

import copy
import inspect
import json
import logging
import pickle
from dataclasses import fields

import pytest
import torch
from conftest import full_resolution, make_inputs

from aict_hf import AICTConfig, AICTModel, AICTOutput

ATTENTIONS = ["eager", "sdpa"]


@pytest.fixture(params=["plain", "backbone"])
def any_config(request, config):
    """The small network as published, and the smallest with a backbone."""
    if request.param == "plain":
        return config
    changes = {"image_size": 64, "patch_size": 16, "decoder_stride": 4, "backbone": "efficientnet_lite0"}
    changes |= {"norm_first": True, "color_statistics": True, "decoder_hidden_size": 8}
    return AICTConfig.from_dict(config.to_dict() | changes)


@pytest.fixture
def any_model(any_config):
    torch.manual_seed(0)
    return AICTModel(any_config).eval()


def inputs_of(model, *, labels=False):
    inputs = make_inputs(size=model.config.image_size)
    return inputs | full_resolution([(40, 48), (64, 37)]) if labels else inputs


def tokens_of(config):
    return (config.image_size // config.patch_size) ** 2


def test_forward_signature():
    names = list(inspect.signature(AICTModel.forward).parameters)
    assert names[1] == AICTModel.main_input_name == "pixel_values"
    assert {"labels", "output_attentions", "output_hidden_states"} <= set(names)


def test_model_get_set_embeddings(any_model):
    assert any_model.get_input_embeddings() is any_model.patch_embeddings
    other = copy.deepcopy(any_model.patch_embeddings)
    any_model.set_input_embeddings(other)
    assert any_model.patch_embeddings is other
    assert any_model.get_output_embeddings() is None


def test_enable_input_require_grads(any_model):
    any_model.requires_grad_(False)
    any_model.enable_input_require_grads()
    assert any_model(**inputs_of(any_model)).color_lut.requires_grad
    any_model.disable_input_require_grads()
    assert not any_model(**inputs_of(any_model)).color_lut.requires_grad


@pytest.mark.parametrize("way", ["argument", "config"])
def test_hidden_states_output(any_model, way):
    config, inputs = any_model.config, inputs_of(any_model)
    with torch.no_grad():
        plain = any_model(**inputs)
        assert plain.hidden_states is None
        if way == "config":
            config.output_hidden_states = True
            assert any_model(**inputs, output_hidden_states=False).hidden_states is None
        output = any_model(**inputs, **({"output_hidden_states": True} if way == "argument" else {}))
    assert len(output.hidden_states) == config.num_hidden_layers + 1
    assert {tuple(state.shape) for state in output.hidden_states} == {(2, tokens_of(config), config.hidden_size)}
    assert torch.equal(output.color_lut, plain.color_lut)
    first, second = output.hidden_states[:2]
    assert torch.equal(any_model.layers[0](first)[0], second)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_outputs(any_model, attention):
    any_model.set_attn_implementation(attention)
    config, inputs = any_model.config, inputs_of(any_model)
    with torch.no_grad():
        plain = any_model(**inputs)
        assert plain.attentions is None
        output = any_model(**inputs, output_attentions=True, output_hidden_states=True)
        assert any_model(**inputs, output_attentions=True).hidden_states is None
    heads = (2, config.num_attention_heads, tokens_of(config), tokens_of(config))
    assert [tuple(weights.shape) for weights in output.attentions] == [heads] * config.num_hidden_layers
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(heads[:3]))
    torch.testing.assert_close(output.color_lut, plain.color_lut, rtol=0, atol=1e-5)
    # The outputs of both kinds stand at the end, so the places of the others in a tuple stay the same.
    assert list(output)[: len(plain)] == list(plain)
    assert list(output)[len(plain) :] == ["hidden_states", "attentions"]


def test_attention_outputs_from_the_config(any_model):
    any_model.set_attn_implementation("eager")  # transformers refuses the field for other implementations
    any_model.config.output_attentions = True
    with torch.no_grad():
        assert len(any_model(**inputs_of(any_model)).attentions) == any_model.config.num_hidden_layers
        assert any_model(**inputs_of(any_model), output_attentions=False).attentions is None


def test_attention_weights_are_not_computed_unless_asked_for(model, monkeypatch):
    import aict_hf.model.layers_aict as layers

    calls = []
    eager = layers.eager_attention_forward
    monkeypatch.setattr(layers, "eager_attention_forward", lambda *args, **kw: calls.append(1) or eager(*args, **kw))
    with torch.no_grad():
        model(**make_inputs())
        assert model.config._attn_implementation == "sdpa"
        assert calls == []
        model(**make_inputs(), output_attentions=True)
    assert len(calls) == model.config.num_hidden_layers


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_retain_grad_hidden_states_attentions(any_model, attention):
    any_model.set_attn_implementation(attention)
    output = any_model(**inputs_of(any_model), output_hidden_states=True, output_attentions=True)
    kept = [output.hidden_states[0], output.attentions[0]]
    for tensor in kept:
        tensor.retain_grad()
    output[0].flatten()[0].backward(retain_graph=True)
    assert all(tensor.grad is not None and tensor.grad.abs().max() > 0 for tensor in kept)


def test_training(any_model):
    any_model.train()(**inputs_of(any_model, labels=True)).loss.backward()
    assert all(parameter.grad is not None for parameter in any_model.parameters())


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_training_gradient_checkpointing(any_model, use_reentrant):
    newest = hasattr(any_model, "activation_checkpointing_enable")  # transformers 5.23 renamed it
    enable = any_model.activation_checkpointing_enable if newest else any_model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})
    any_model.train()
    output = any_model(**inputs_of(any_model, labels=True), output_hidden_states=True, output_attentions=True)
    assert len(output.attentions) == any_model.config.num_hidden_layers
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in any_model.parameters())


def test_model_outputs_equivalence(any_model):
    inputs = inputs_of(any_model, labels=True)
    flags = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        named = any_model(**inputs, **flags)
        plain = any_model(**inputs, **flags, return_dict=False)
        any_model.config.return_dict = False
        from_config = any_model(**inputs, **flags)
    assert isinstance(plain, tuple)
    assert all(value is not None for value in plain)
    torch.testing.assert_close(plain, named.to_tuple(), rtol=0, atol=0)
    torch.testing.assert_close(from_config, plain, rtol=0, atol=0)


def test_determinism(any_model):
    inputs = inputs_of(any_model)
    with torch.no_grad():
        assert torch.equal(any_model(**inputs).harmonized, any_model(**inputs).harmonized)


def test_batching_equivalence(any_model):
    inputs = inputs_of(any_model)
    with torch.no_grad():
        both = any_model(**inputs).color_lut
        alone = [any_model(**{name: value[[row]] for name, value in inputs.items()}).color_lut for row in range(2)]
    torch.testing.assert_close(torch.cat(alone), both, rtol=0, atol=1e-5)


def test_save_load(any_model, tmp_path):
    any_model.save_pretrained(tmp_path)
    loaded = AICTModel.from_pretrained(tmp_path)
    inputs = inputs_of(any_model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).to_tuple(), any_model(**inputs).to_tuple(), rtol=0, atol=0)
    state, saved = any_model.state_dict(), loaded.state_dict()
    assert state.keys() == saved.keys()


def test_a_model_that_gave_hidden_states_is_pickled_and_copied(model):
    with torch.no_grad():
        model(**make_inputs(), output_hidden_states=True, output_attentions=True)
        expected = model(**make_inputs()).color_lut
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert torch.equal(other(**make_inputs()).color_lut, expected)


def test_compiles_as_one_graph_with_hidden_states_and_attentions(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    flags = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        output, expected = compiled(**make_inputs(), **flags), model(**make_inputs(), **flags)
    torch.testing.assert_close(output.attentions, expected.attentions)
    torch.testing.assert_close(output.hidden_states, expected.hidden_states)


def test_attention_implementations(any_config):
    assert AICTModel._supports_flex_attn
    model = AICTModel._from_config(any_config, attn_implementation="flex_attention")
    assert model.config._attn_implementation == "flex_attention"


def test_config_common_properties(any_config, tmp_path):
    assert {"hidden_size", "num_attention_heads", "num_hidden_layers"} <= set(any_config.to_dict())
    any_config.save_pretrained(tmp_path / "config")
    assert AICTConfig.from_pretrained(tmp_path / "config").to_dict() == any_config.to_dict()
    any_config.to_json_file(tmp_path / "config.json")
    assert AICTConfig.from_json_file(tmp_path / "config.json").to_dict() == any_config.to_dict()
    assert "keys_to_ignore_at_inference" not in any_config.to_dict()
    assert set(any_config.keys_to_ignore_at_inference) < {field.name for field in fields(AICTOutput)}
    assert len(AICTConfig(num_labels=3).id2label) == 3


class WithOneMoreLayer(AICTModel):
    """A user's network: ours and another layer."""

    def __init__(self, config):
        super().__init__(config)
        self.more = torch.nn.Linear(2, 2)
        self.post_init()


class OtherConfig(AICTConfig):
    """A user's configuration."""


def test_a_subclass_starts_from_a_checkpoint(model, tmp_path, caplog):
    model.save_pretrained(tmp_path)
    logger = logging.getLogger("transformers.modeling_utils")
    caplog.set_level(logging.WARNING, logger.name)  # others' tests may have silenced it
    logger.addHandler(caplog.handler)
    loaded = WithOneMoreLayer.from_pretrained(tmp_path)
    logger.removeHandler(caplog.handler)
    assert "more.weight" in caplog.text
    assert torch.equal(loaded.decoder.weight, model.decoder.weight)
    _, loading = WithOneMoreLayer.from_pretrained(tmp_path, output_loading_info=True)
    assert set(loading["missing_keys"]) == {"more.weight", "more.bias"}


def test_loading_info_is_reported_instead_of_raised(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="pass output_loading_info=True to see all names and go on"):
        AICTModel.from_pretrained(tmp_path)
    loaded, loading = AICTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert len(loaded.layers) == 3
    assert all(name.startswith("layers.2.") for name in loading["missing_keys"])
    assert not loading["unexpected_keys"]


def test_files_that_loading_does_not_read_may_be_called_index(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "faiss.index.json").write_text("[]")
    (tmp_path / "photos.index.json").write_text("no JSON at all")
    (tmp_path / "search" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other"}}')
    AICTModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("way", ["file", "object"])
def test_an_index_that_the_config_names_is_checked_in_any_folder(model, config, way, tmp_path):
    model.save_pretrained(tmp_path)
    index = tmp_path / "parts" / "mine.safetensors.index.json"
    index.parent.mkdir()
    index.write_text('{"weight_map": {"decoder.weight": "../../other.safetensors"}}')
    options = {}
    if way == "file":
        saved = json.loads((tmp_path / "config.json").read_text())
        changed = saved | {"transformers_weights": "parts/mine.safetensors.index.json"}
        (tmp_path / "config.json").write_text(json.dumps(changed))
    else:
        config.transformers_weights = "parts/mine.safetensors.index.json"
        options = {"config": config}
    with pytest.raises(ValueError, match="outside its folder"):
        AICTModel.from_pretrained(tmp_path, **options)


def test_saving_a_subclass_copies_no_code(model, config, tmp_path):
    assert AICTModel._auto_class == "AutoModel"
    model.save_pretrained(tmp_path / "ours")
    assert (tmp_path / "ours" / "modeling_aict.py").is_file()
    assert WithOneMoreLayer._auto_class is OtherConfig._auto_class is None
    WithOneMoreLayer(OtherConfig.from_dict(config.to_dict())).save_pretrained(tmp_path / "theirs")
    assert {path.name for path in (tmp_path / "theirs").iterdir()} == {"config.json", "model.safetensors"}
    assert "auto_map" not in json.loads((tmp_path / "theirs" / "config.json").read_text())
    WithOneMoreLayer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "fitted")
    fitted = json.loads((tmp_path / "fitted" / "config.json").read_text())
    assert fitted["auto_map"] == {"AutoConfig": "configuration_aict.AICTConfig"}  # the class of its config is ours
