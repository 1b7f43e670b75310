import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_inputs, run_afresh
from safetensors.numpy import load_file, save_file

from aict_hf import AICTConfig
from aict_hf.errors import InputError
from aict_hf.files.weights import weights_digest
from aict_hf.harmonize import onnx_network
from aict_hf.harmonize.onnx_network import GRAPH, ONNXNetwork, onnx_obstacle
from aict_hf.pretrained import DEFAULT_CHECKPOINT, load_checkpoint

pytest.importorskip("onnxruntime")
BUNDLED = Path(DEFAULT_CHECKPOINT)
PARTS = ("config.json", "preprocessor_config.json", "model.safetensors", GRAPH)
INPUTS = tuple(tensor.numpy() for tensor in make_inputs(1, 256).values())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the bundled checkpoint, whose own graph is the only one."""
    monkeypatch.setattr(onnx_network, "bundled_checkpoints", dict)
    for name in PARTS:
        (tmp_path / "mine").mkdir(exist_ok=True)
        shutil.copyfile(BUNDLED / name, tmp_path / "mine" / name)
    return tmp_path / "mine"


def edit(path, **fields):
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def predict(folder):
    return ONNXNetwork.from_folder(folder, threads=1)(*INPUTS)


def test_it_runs_without_torch(tmp_path):
    program = f"""
import sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["onnx"] = None
import numpy as np
from aict_hf.harmonize.onnx_network import ONNXNetwork
network = ONNXNetwork.from_folder({str(BUNDLED)!r})
height, width = network.size
pixel_values, mask = (np.ones((2, channels, height, width), np.float32) for channels in (3, 1))
sampling_intervals, knots, color_lut = network(pixel_values, mask)
assert sampling_intervals.shape == color_lut.shape == (2, 3, 8, 64, 64) and knots.shape == (2, 3, 9, 64, 64)
assert sampling_intervals.dtype == knots.dtype == color_lut.dtype == np.float32
"""
    run_afresh(program, tmp_path)


def test_the_digest_is_that_of_torchs_weights(folder):
    network = ONNXNetwork.from_folder(folder, threads=1)
    model, _ = load_checkpoint(folder)
    assert network.weights_digest == weights_digest((n, t.float().numpy()) for n, t in model.state_dict().items())


def test_weights_that_change_in_use_have_no_digest(folder):
    network = ONNXNetwork.from_folder(folder, threads=1)
    (folder / "model.safetensors").touch()
    with pytest.raises(InputError, match="has changed while it was in use"):
        network.weights_digest  # noqa: B018


def test_fine_tuned_weights_in_single_precision_need_no_graph_of_their_own(folder, tmp_path, monkeypatch):
    before = predict(folder)
    weights = load_file(folder / "model.safetensors")
    tuned = {name: values.astype(np.float32) for name, values in weights.items()}
    save_file(tuned, folder / "model.safetensors", metadata={"format": "pt"})
    for found, expected in zip(predict(folder), before, strict=True):
        assert np.array_equal(found, expected)
    tuned["color_lut_head.bias"] = tuned["color_lut_head.bias"] + np.float32(0.1)
    save_file(tuned, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", transformers_version="6.0", hidden_dropout_prob=0.3, auto_map={"AutoModel": "x.y"})
    edit(folder / "preprocessor_config.json", auto_map={"AutoImageProcessor": "x.y"})
    (folder / GRAPH).unlink()
    assert onnx_obstacle(folder) == "there is no network.onnx for this network"
    monkeypatch.setattr(onnx_network, "bundled_checkpoints", lambda: {BUNDLED.name: BUNDLED})
    changed = predict(folder)
    assert np.array_equal(changed[1], before[1])
    assert np.abs(changed[2] - before[2]).max() > 0.01


@pytest.mark.parametrize(
    ("file", "fields"),
    [
        ("config.json", {"num_attention_heads": 4}),  # the same names and shapes of weights
        ("config.json", {"norm_first": False}),
        ("config.json", {"layer_norm_eps": 1e-6}),
        ("config.json", {"layer_norm_eps": None}),  # left out, so that a default counts
        ("config.json", {"dtype": "float16"}),
        ("config.json", {"a_field_of_the_future": 1}),
        ("config.json", {"color_transform": ["interval", "color"]}),
        ("config.json", {"image_weight": "none"}),
        ("preprocessor_config.json", {"size": {"height": 128, "width": 256}}),
        ("preprocessor_config.json", {"do_resize": True}),
    ],
)
def test_a_graph_of_another_network_is_refused(file, fields, folder):
    assert onnx_obstacle(folder) is None
    edit(folder / file, **fields)
    assert onnx_obstacle(folder) == "network.onnx was made for another network"
    with pytest.raises(InputError, match=r"mine: cannot run in onnxruntime: network\.onnx was made for"):
        ONNXNetwork.from_folder(folder)


def test_fields_that_older_checkpoints_lack_change_nothing_at_their_defaults(folder):
    config = AICTConfig.from_pretrained(folder).to_dict()
    later = {name: config[name] for name in onnx_network._LATER_DEFAULTS}
    assert later == onnx_network._LATER_DEFAULTS
    edit(folder / "config.json", **later)
    assert onnx_obstacle(folder) is None


def test_weights_of_another_network_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    name = "sampling_intervals_head.bias"
    for others in (
        weights | {"more": weights[name]},
        weights | {name: weights[name][:-1]},
        {key: values for key, values in weights.items() if key != name},
    ):
        save_file(others, folder / "model.safetensors")
        assert onnx_obstacle(folder) == "network.onnx was made for another network"
    save_file(weights | {name: weights[name].astype(np.float64)}, folder / "model.safetensors")
    assert onnx_obstacle(folder) == "model.safetensors holds F64; expected F16, F32 or I64"


def test_the_version_of_the_network_counts(folder, monkeypatch):
    monkeypatch.setattr(onnx_network, "VERSION", 0)
    assert onnx_obstacle(folder) == "network.onnx was made for another network"


def test_a_damaged_graph_gives_no_other_numbers(folder):
    whole = (folder / GRAPH).read_bytes()
    flipped = bytearray(whole)
    for position in (100, len(whole) // 2, len(whole) - 60, len(whole) - 1):
        flipped[position] ^= 1
        (folder / GRAPH).write_bytes(flipped)
        assert onnx_obstacle(folder) == f"{folder / GRAPH} is damaged"
        flipped[position] ^= 1
    for length in (0, 1, 45, 5000, len(whole) - 45, len(whole) - 1):
        (folder / GRAPH).write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"network\.onnx is damaged$"):
            ONNXNetwork.from_folder(folder)
    (folder / GRAPH).write_bytes(whole + b"\n")
    assert onnx_obstacle(folder) == f"{folder / GRAPH} is damaged"


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_other_damaged_files_are_obstacles(name, folder):
    whole = (folder / name).read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"[1]", b"\xff\xfe" * 20, b"[" * 100_000):
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: cannot be read \([^\n]+\)$"):
            ONNXNetwork.from_folder(folder)
    (folder / name).unlink()
    assert f"{name}: cannot be read" in onnx_obstacle(folder)


@pytest.mark.parametrize("size", [256, None, {"height": 256}, {"height": "256", "width": 256}, [256, 256]])
def test_the_size_must_be_said_in_full(size, folder):
    edit(folder / "preprocessor_config.json", size=size)
    assert onnx_obstacle(folder).endswith("preprocessor_config.json: has no size with height and width")


def test_what_transformers_reads_besides_is_an_obstacle(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert onnx_obstacle(folder) == "adapter_config.json changes the checkpoint"


def test_missing_onnxruntime_is_said(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert onnx_obstacle(folder) == "onnxruntime is not installed; pip install 'aict_hf[fast]'"


def test_links_as_in_the_hubs_cache_and_read_only_folders_work(folder, tmp_path):
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(PARTS):
        shutil.move(folder / name, blobs / str(number))
        (blobs / str(number)).chmod(0o400)
        (snapshot / name).symlink_to(blobs / str(number))
    (tmp_path / "link").symlink_to(snapshot)
    snapshot.chmod(0o500)
    try:
        for found, expected in zip(predict(tmp_path / "link"), predict(BUNDLED), strict=True):
            assert np.array_equal(found, expected)
    finally:
        snapshot.chmod(0o700)


def test_inputs_of_another_shape_or_dtype_are_refused():
    network = ONNXNetwork.from_folder(BUNDLED, threads=1)
    pixel_values, mask = INPUTS
    assert network.size == (256, 256)
    with pytest.raises(ValueError, match=r"mask is float64 of shape .*; expected float32 of \(1, 1, 256, 256\)"):
        network(pixel_values, mask.astype(np.float64))
    with pytest.raises(ValueError, match=r"pixel_values is .*\(1, 3, 256, 255\); expected .*\(1, 3, 256, 256\)"):
        network(pixel_values[..., 1:], mask)
    with pytest.raises(ValueError, match=r"mask is .*\(2, 1, 256, 256\); expected .*\(1, 1, 256, 256\)"):
        network(pixel_values, np.repeat(mask, 2, axis=0))


def test_threads_are_those_that_torch_would_use(monkeypatch):
    made = []
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda graph, options, providers: made.append(options))
    for said, expected in (("3", 3), ("2,1", 2)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        ONNXNetwork.from_folder(BUNDLED)
        assert made[-1].intra_op_num_threads == expected
    for said in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        ONNXNetwork.from_folder(BUNDLED)
        assert made[-1].intra_op_num_threads >= 1
    ONNXNetwork.from_folder(BUNDLED, threads=5)
    assert made[-1].intra_op_num_threads == 5
