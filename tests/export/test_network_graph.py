import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_inputs, save_small_checkpoint
from safetensors.torch import load_file, save_file

from aict_hf.errors import InputError
from aict_hf.export import network_graph
from aict_hf.export.network_graph import write_network_graph
from aict_hf.harmonize.onnx_network import GRAPH, OUTPUTS, ONNXNetwork, onnx_obstacle
from aict_hf.pretrained import bundled_checkpoints, load_checkpoint

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The small network, in half precision, with its graph."""
    folder = save_small_checkpoint(tmp_path_factory.mktemp("mine"))
    weights = load_file(folder / "model.safetensors")
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    assert onnx_obstacle(folder) == "there is no network.onnx for this network"
    write_network_graph(folder)
    return folder


def assert_as_torch(folder, batch=2, size=32):
    model, _ = load_checkpoint(folder)
    inputs = make_inputs(batch, size)
    with torch.no_grad():
        expected = model(**inputs, return_harmonized=False)
    found = ONNXNetwork.from_folder(folder, threads=1)(*(tensor.numpy() for tensor in inputs.values()))
    for name, maps in zip(OUTPUTS, found, strict=True):
        np.testing.assert_allclose(maps, expected[name], rtol=0, atol=1e-4, err_msg=name)
    return found


def test_the_graph_gives_the_maps_of_torch_and_holds_no_weights(written):
    assert_as_torch(written, batch=1)
    assert_as_torch(written, batch=4)
    assert not list(written.glob(".*"))
    largest = max(load_file(written / "model.safetensors").values(), key=torch.numel)
    assert largest.float().numpy().tobytes()[:64] not in (written / GRAPH).read_bytes()


@pytest.mark.parametrize("name", bundled_checkpoints())
def test_bundled_graphs_fit_their_weights(name):
    folder = bundled_checkpoints()[name]
    assert onnx_obstacle(folder) is None
    assert_as_torch(folder, size=256)
    assert (folder / GRAPH).stat().st_size < 200_000


def test_the_graph_serves_other_weights_of_the_same_network(written, tmp_path):
    before = assert_as_torch(written)
    tuned = tmp_path / "tuned"
    model, processor = load_checkpoint(written)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    model.save_pretrained(tuned)  # in single precision
    processor.save_pretrained(tuned)
    shutil.copyfile(written / GRAPH, tuned / GRAPH)
    after = assert_as_torch(tuned)
    assert np.abs(before[2] - after[2]).max() > 0.01


def test_other_programs_cannot_open_it_without_its_weights(written):
    import onnxruntime

    with pytest.raises(Exception, match=r"tensors of these names in model\.safetensors"):
        onnxruntime.InferenceSession(written / GRAPH, providers=["CPUExecutionProvider"])


def test_a_graph_that_differs_from_torch_is_not_written(written, tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    shutil.copytree(written, folder, ignore=shutil.ignore_patterns(GRAPH))
    graph = (written / GRAPH).read_bytes()
    monkeypatch.setattr(network_graph, "to_onnx", lambda program, outputs, optimize: SimpleNamespace(model=graph))
    monkeypatch.setattr(network_graph, "_without_weights", lambda model: model)
    real = network_graph.open_session
    monkeypatch.setattr(
        network_graph,
        "open_session",
        lambda graph, weights: real(graph, {name: 1.01 * values for name, values in weights.items()}),
    )
    with pytest.raises(InputError, match=r"network\.onnx: onnxruntime differs from torch by"):
        write_network_graph(folder)
    assert not [*folder.glob(".*"), *folder.glob("*.onnx")]


def test_what_has_no_graph_is_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        write_network_graph(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        write_network_graph(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"aict_hf\[onnx\]"):
        write_network_graph(tmp_path)
