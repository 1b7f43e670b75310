"""Export AICT as two graphs that run without this package, in ONNX or torch.export format.

`parameter_network` computes the LUT maps from low-resolution composites and masks. `apply_luts` computes the harmonized
photos from photos of any size and the maps. ONNX needs `pip install "aict_hf[onnx]"`.
"""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import InputError
from ..files.atomic_write import atomic_folder
from ..model.lut_reference import apply_luts_reference
from ..model.modeling_aict import AICTModel
from ..pretrained import load_checkpoint
from .options import GraphFormat

MAX_BATCH, MAX_SIDE = 1024, 65536


class ParameterNetwork(nn.Module):
    """Computes LUT maps from low-resolution composites (B, 3, h, w) and masks (B, 1, h, w).

    Args:
        model: the network.
        outputs: names of the maps in `AICTOutput`.
    Raises:
        InputError: if the network's colour transformation is not AICT's.
    """

    def __init__(self, model: AICTModel, outputs: Sequence[str] = ("knots", "color_lut")) -> None:
        super().__init__()
        if model.config.transform_kind != "aict":
            raise InputError(
                f"color_transform is {model.config.color_transform}; graphs exist for aict alone, so use torch"
            )
        self.model = model
        self.outputs = outputs

    def forward(self, pixel_values: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(pixel_values, mask, return_harmonized=False)
        return tuple(outputs[name] for name in self.outputs)


class LUTApplication(nn.Module):
    """`apply_luts` for float photos in [0, 1], made of operators that every runtime has."""

    def forward(self, composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor) -> Tensor:
        return apply_luts_reference(composite, mask, knots, color_lut)


def export_graphs(checkpoint: str | os.PathLike | None, out_dir: str | os.PathLike, *, format: GraphFormat) -> Path:
    """Write `parameter_network` and `apply_luts` as `.onnx` files, or as `.pt2` files of torch.export.

    The batch size is dynamic in both graphs, height and width in `apply_luts`. All tensors are float32. ONNX files are
    compared with torch in onnxruntime before the folder appears.

    Args:
        checkpoint: name of a bundled checkpoint, folder or Hub repository; None means the default checkpoint.
        out_dir: folder to write. It must be new or empty.
        format: "onnx" (opset 18 or later) or "torch".
    Returns:
        `out_dir`.
    Raises:
        InputError: if the checkpoint cannot be loaded or its colour transformation is not AICT's, a library for ONNX is
            missing, `out_dir` cannot be written, or onnxruntime does not reproduce the result of torch.
    """
    if format not in ("onnx", "torch"):
        raise InputError(f"format is {format!r}; expected onnx or torch")
    if format == "onnx":
        check_onnx_is_installed()
    model, processor = load_checkpoint(checkpoint)
    inputs, programs = _programs(model.float(), (processor.size["height"], processor.size["width"]))
    with atomic_folder(Path(out_dir)) as partial:
        processor.to_json_file(partial / "preprocessor_config.json")  # holds the input size of the network
        for name, program in programs.items():
            if format == "torch":
                torch.export.save(program, partial / f"{name}.pt2")
            else:
                _save_onnx(program, inputs[name], partial / f"{name}.onnx")
    return Path(out_dir)


def _programs(
    model: AICTModel, size: tuple[int, int]
) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, ExportedProgram]]:
    """Example inputs and exported programs by name."""
    batch, height, width = Dim("batch", max=MAX_BATCH), Dim("height", max=MAX_SIDE), Dim("width", max=MAX_SIDE)
    generator = torch.Generator().manual_seed(0)
    small = tuple(torch.rand(2, channels, *size, generator=generator) for channels in (3, 1))
    photo = tuple(torch.rand(2, channels, 75, 90, generator=generator) for channels in (3, 1))
    network = ParameterNetwork(model).eval()
    with torch.no_grad():
        maps = network(*small)
        inputs = {"parameter_network": small, "apply_luts": (*photo, *maps)}
        photos = {0: batch, 2: height, 3: width}
        programs = {
            "parameter_network": torch.export.export(network, small, dynamic_shapes=({0: batch}, {0: batch})),
            "apply_luts": torch.export.export(
                LUTApplication(), inputs["apply_luts"], dynamic_shapes=(photos, photos, {0: batch}, {0: batch})
            ),
        }
    return inputs, programs


def _save_onnx(program: ExportedProgram, inputs: tuple[Tensor, ...], path: Path) -> None:
    import onnxruntime

    outputs = ["harmonized"] if path.stem == "apply_luts" else ["knots", "color_lut"]
    to_onnx(program, outputs).save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = program.graph_signature.user_inputs
    found = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = program.module()(*inputs)
    check_agreement(path.stem, found, [expected] if isinstance(expected, Tensor) else expected)


def check_onnx_is_installed() -> None:
    """Raise an InputError if a library that writes or runs ONNX is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}; pip install 'aict_hf[onnx]'") from error


def to_onnx(program: ExportedProgram, outputs: Sequence[str], *, optimize: bool = True) -> Any:
    """Translate a program, quietly.

    Args:
        program: the program. Its inputs keep their names.
        outputs: names for its outputs.
        optimize: fold constants and merge operators.
    Returns:
        a `torch.onnx.ONNXProgram`.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is missing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own code
            return torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(program.graph_signature.user_inputs),
                output_names=list(outputs),
                optimize=optimize,
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def check_agreement(name: str, found: Sequence[np.ndarray], expected: Sequence[Tensor]) -> None:
    """Raise an InputError if the outputs of a graph in onnxruntime differ from those of torch by more than 1e-4."""
    for ours, theirs in zip(found, expected, strict=True):
        difference = float((torch.from_numpy(ours) - theirs).abs().max())
        if not difference <= 1e-4:
            raise InputError(
                f"{name}: onnxruntime differs from torch by {difference:.1e}, expected at most 1e-4; "
                "export with format torch, or try other versions of onnx and onnxruntime"
            )


__all__ = [
    "LUTApplication",
    "ParameterNetwork",
    "check_agreement",
    "check_onnx_is_installed",
    "export_graphs",
    "to_onnx",
]
