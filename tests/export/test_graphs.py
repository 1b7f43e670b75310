import json
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo, save_small_checkpoint, small_config
from PIL import Image

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, apply_luts
from aict_hf.errors import InputError
from aict_hf.export.graphs import export_graphs
from aict_hf.model.lut_reference import apply_luts_reference

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_numpy.py"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with the network of `model`."""
    return save_small_checkpoint(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def onnx_folder(mine, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    return export_graphs(mine, tmp_path_factory.mktemp("graphs") / "onnx", format="onnx")


def inputs(batch, side=32):
    generator = torch.Generator().manual_seed(batch)
    return tuple(torch.rand(batch, channels, side, side, generator=generator) for channels in (3, 1))


def photos(batch, height, width):
    generator = torch.Generator().manual_seed(height)
    return tuple(torch.rand(batch, channels, height, width, generator=generator) for channels in (3, 1))


def test_other_colour_transformations_have_no_graphs(tmp_path):
    model = AICTModel(AICTConfig.from_dict(small_config().to_dict() | {"color_transform": "curves"}))
    model.save_pretrained(tmp_path / "curves")
    AICTImageProcessor(size=32).save_pretrained(tmp_path / "curves")
    with pytest.raises(InputError, match="color_transform is curves; graphs exist for aict alone, so use torch"):
        export_graphs(tmp_path / "curves", tmp_path / "out", format="torch")
    assert not (tmp_path / "out").exists()


def test_onnx_graphs_agree_with_torch_at_other_sizes(model, onnx_folder):
    import onnxruntime

    network, luts = (
        onnxruntime.InferenceSession(onnx_folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("parameter_network", "apply_luts")
    )
    for batch, height, width in ((1, 37, 53), (3, 128, 41)):
        pixel_values, mask = inputs(batch)
        with torch.no_grad():
            ours = model(pixel_values, mask, return_harmonized=False)
        knots, color_lut = network.run(None, {"pixel_values": pixel_values.numpy(), "mask": mask.numpy()})
        np.testing.assert_allclose(knots, ours.knots, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(color_lut, ours.color_lut, rtol=0, atol=TOLERANCE)
        composite, foreground = photos(batch, height, width)
        names = ("composite", "mask", "knots", "color_lut")
        tensors = (composite.numpy(), foreground.numpy(), knots, color_lut)
        [harmonized] = luts.run(None, dict(zip(names, tensors, strict=True)))
        expected = apply_luts_reference(composite, foreground, ours.knots, ours.color_lut)
        np.testing.assert_allclose(harmonized, expected, rtol=0, atol=TOLERANCE)


def test_half_precision_and_the_processors_size(model, processor, tmp_path):
    model.half().save_pretrained(tmp_path / "half")
    processor.size = {"height": 64, "width": 32}
    processor.save_pretrained(tmp_path / "half")
    folder = export_graphs(tmp_path / "half", tmp_path / "programs", format="torch")
    network = torch.export.load(folder / "parameter_network.pt2").module()
    knots, _ = network(torch.rand(1, 3, 64, 32), torch.rand(1, 1, 64, 32))
    assert knots.dtype == torch.float32
    with pytest.raises(InputError, match="format is 'ONNX'; expected onnx or torch"):
        export_graphs(tmp_path / "half", tmp_path / "graphs", format="ONNX")


def test_torch_programs_run_where_the_package_is_not(model, mine, forks, tmp_path):
    folder = export_graphs(mine, tmp_path / "programs", format="torch")
    pixel_values, mask = inputs(3)
    composite, foreground = photos(3, 37, 53)
    torch.save((pixel_values, mask, composite, foreground), tmp_path / "inputs.pt")
    code = f"""
import sys
sys.modules["aict_hf"] = None
import torch
names = ("parameter_network", "apply_luts")
network, luts = (torch.export.load({str(folder)!r} + f"/{{name}}.pt2").module() for name in names)
pixel_values, mask, composite, foreground = torch.load({str(tmp_path / "inputs.pt")!r})
torch.save(luts(composite, foreground, *network(pixel_values, mask)), {str(tmp_path / "out.pt")!r})
"""
    forks.lines(["-c", code], tmp_path)
    with torch.no_grad():
        ours = model(pixel_values, mask, return_harmonized=False)
    expected = apply_luts_reference(composite, foreground, ours.knots, ours.color_lut)
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, rtol=0, atol=1e-5)


def test_the_example_needs_numpy_pillow_and_onnxruntime_alone(model, processor, onnx_folder, tmp_path, monkeypatch):
    photo, foreground = make_photo(61, 83)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(foreground).save(tmp_path / "mask.png")
    paths = [str(tmp_path / name) for name in ("photo.png", "mask.png", "out.png")]
    for hidden in ("torch", "transformers", "aict_hf", "cv2"):
        monkeypatch.setitem(sys.modules, hidden, None)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(onnx_folder), *paths])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    monkeypatch.undo()
    with torch.no_grad():
        outputs = model(**processor(photo, foreground, return_tensors="pt"))
    expected = processor.post_process_harmonization(outputs, photo, foreground)[0].astype(int)
    difference = np.abs(np.asarray(Image.open(paths[2]), int) - expected)
    assert difference.max() <= 1
    assert not np.array_equal(expected, photo)


def test_the_folder_says_the_networks_size_and_is_whole(onnx_folder, monkeypatch, tmp_path):
    assert json.loads((onnx_folder / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}
    names = {"parameter_network.onnx", "apply_luts.onnx", "preprocessor_config.json"}
    assert {path.name for path in onnx_folder.iterdir()} == names
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"aict_hf\[onnx\]"):
        export_graphs(None, tmp_path / "other", format="onnx")
    assert not (tmp_path / "other").exists()


class Recolor(torch.nn.Module):
    """A user's module that recolours."""

    def forward(self, composite, mask, knots, color_lut):
        return apply_luts(composite, mask, knots, color_lut)


def export_inputs(height, width):
    generator = torch.Generator().manual_seed(height)
    shapes = (1, 3, height, width), (1, 1, height, width), (1, 3, 4, 6, 5), (1, 3, 3, 6, 5)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


SIDES = {2: torch.export.Dim("height", max=4096), 3: torch.export.Dim("width", max=4096)}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch warns about its own code
def test_torch_export_keeps_one_operator():
    photos = export_inputs(20, 30)
    program = torch.export.export(Recolor(), photos)
    for way in (program, program.run_decompositions()):
        operators = " ".join(str(node.target) for node in way.graph.nodes if node.op == "call_function")
        assert operators.count("apply_luts.default") == 1
        assert "grid_sampler" not in operators
        torch.testing.assert_close(way.module()(*photos), apply_luts(*photos))


def onnx_results(module, given, path, others=None, **options):
    """Outputs of onnxruntime for the graph of a module, for other inputs than the ones it was made with."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own code
        torch.onnx.export(module, given, dynamo=True, verbose=False, **options).save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [wanted.name for wanted in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, others or given, strict=True)})


@pytest.mark.slow
def test_onnx_takes_the_reference_in_place_of_the_operator(tmp_path):
    others, shapes = export_inputs(31, 17), (SIDES, SIDES, None, None)
    [found] = onnx_results(Recolor(), export_inputs(20, 30), tmp_path / "luts.onnx", others, dynamic_shapes=shapes)
    np.testing.assert_allclose(found, apply_luts(*others), rtol=0, atol=1e-5)


def test_the_whole_model_is_exported_to_onnx_in_the_usual_way(model, tmp_path):
    found = onnx_results(model, inputs(2), tmp_path / "model.onnx")
    with torch.no_grad():
        expected = model(*inputs(2)).to_tuple()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
