import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf import Harmonizer
from aict_hf.errors import InputError
from aict_hf.harmonize.onnx_harmonizer import ONNXHarmonizer
from aict_hf.harmonize.runtime import open_harmonizer, usable_device

PROGRAM = """
import sys
from aict_hf import cli
sys.argv = ["aict", *{arguments!r}]
try:
    cli.main()
except SystemExit as stop:
    code = stop.code or 0
slow = {{"torch", "transformers", "sympy", "pandas", "matplotlib"}} & set(sys.modules)
sys.exit(f"{{sorted(slow)}} were imported" if slow else code)
"""


@pytest.fixture
def files(tmp_path):
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(np.dstack([photo, mask])).save(tmp_path / "cutout.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("harmonize", "photo.jpg", "mask.png", "-o", "out.jpg", "--report", "out.csv"), 0),
        (("compose", "cutout.png", "photo.jpg", "-o", "out.png", "--rotation", "20", "--scale", "0.7"), 0),
        (("score", "photo.jpg", "mask.png"), 0),
        (("info", "--quick"), 0),
        (("harmonize", "photo.jpg", "mask.png"), 1),
        (("harmonize", "nothing.jpg", "mask.png", "-o", "out.jpg"), 1),
        (("augment", "nothing", "out", "--objects", "many"), 1),
        (("export", "aict-small", "out", "--private"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_command_imports_no_torch(files, arguments, code):
    program = PROGRAM.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], cwd=files, capture_output=True, text=True, timeout=600)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert (files / "out.jpg").is_file() == ("--report" in arguments)


@pytest.mark.parametrize("command", ["harmonize", "score"])
def test_torch_does_the_same_in_a_process_of_its_own(files, command):
    """Nothing that keeps the other runtime quick may be in its way."""
    arguments = ["photo.jpg", "mask.png", *(["-o", "out.jpg"] if command == "harmonize" else []), "--device", "cpu:0"]
    options = {"cwd": files, "capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run([sys.executable, "-m", "aict_hf", command, *arguments], **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (files / "out.jpg").is_file() == (command == "harmonize")


def opened(*arguments, **options):
    said = []
    return open_harmonizer(*arguments, **options, say=said.append), said[0]


def test_onnxruntime_is_taken_where_it_can_be():
    for device in (None, "cpu"):
        harmonizer, said = opened(device=device)
        assert isinstance(harmonizer, ONNXHarmonizer)
        assert said == "the network runs in onnxruntime, the LUTs in numba, on the CPU"


def test_torch_is_taken_for_networks_without_a_graph(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    harmonizer, said = opened(tmp_path, device="cpu")
    assert isinstance(harmonizer, Harmonizer)
    assert said.startswith("torch runs on cpu, because there is no network.onnx")


@pytest.mark.parametrize("name", ["numba", "onnxruntime"])
def test_a_missing_library_is_named(monkeypatch, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == name else found(wanted))
    monkeypatch.setitem(sys.modules, name, None)
    harmonizer, said = opened()
    assert isinstance(harmonizer, Harmonizer)
    assert f"{name} is not installed; pip install 'aict_hf[fast]'" in said


def test_other_devices_are_torchs():
    harmonizer, said = opened(device="cpu:0")
    assert isinstance(harmonizer, Harmonizer)
    assert said == "torch runs on cpu:0, because the device is cpu:0"


def test_bad_names_and_devices_are_explained():
    with pytest.raises(InputError, match="nothing: is not a bundled checkpoint"):
        open_harmonizer("nothing")
    with pytest.raises(InputError, match="device warp cannot be used"):
        open_harmonizer(device="warp")
    assert usable_device("cpu").type == "cpu"
