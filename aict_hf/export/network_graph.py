"""Write `network.onnx` beside the weights of a checkpoint: the graph with which onnxruntime runs it without torch.

The graph names its weights, and `aict_hf.harmonize.onnx_network` takes them from `model.safetensors`. So it is no
second copy of them, fits every checkpoint of the same network, and no byte offsets can point at wrong weights. Writing
needs `pip install "aict_hf[onnx]"`.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from ..errors import InputError
from ..files.atomic_write import atomic_file
from ..files.weights import read_weights
from ..harmonize.onnx_network import (
    GRAPH,
    NETWORK_ENTRY,
    OUTPUTS,
    SEAL_ENTRY,
    WEIGHTS,
    network_digest,
    open_session,
    seal,
)
from ..pretrained import load_checkpoint
from .graphs import MAX_BATCH, ParameterNetwork, check_agreement, check_onnx_is_installed, to_onnx

# The file that the weights are declared to be in. There is none, so other programs refuse the graph without weights.
NO_FILE = f"the tensors of these names in {WEIGHTS}"


def write_network_graph(folder: str | os.PathLike) -> Path:
    """Write the graph of a checkpoint's network into its folder.

    The inputs are `pixel_values` (B, 3, h, w) and `mask` (B, 1, h, w), the outputs `sampling_intervals`, `knots` and
    `color_lut`, all float32. (h, w) is the size of the image processor. The graph is compared with torch in onnxruntime
    before the file appears.

    Args:
        folder: folder with `config.json`, `preprocessor_config.json` and `model.safetensors`.
    Returns:
        the file.
    Raises:
        InputError: if the checkpoint cannot be loaded, a library for ONNX is missing, the file cannot be written, or
            onnxruntime does not reproduce the result of torch.
    """
    check_onnx_is_installed()
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected the folder of a checkpoint")
    network = network_digest(folder)
    model, processor = load_checkpoint(folder)
    size = (processor.size["height"], processor.size["width"])
    generator = torch.Generator().manual_seed(0)
    pixel_values, mask = (torch.rand(3, channels, *size, generator=generator) for channels in (3, 1))
    mask[0], mask[1] = 0, (mask[1] > 0.5).float()  # no foreground, a hard one and a soft one
    maps = ParameterNetwork(model.float(), OUTPUTS).eval()
    with torch.no_grad():
        batch = Dim("batch", max=MAX_BATCH)
        program = torch.export.export(maps, (pixel_values, mask), dynamic_shapes=({0: batch}, {0: batch}))
        expected = maps(pixel_values, mask)
    graph = _without_weights(to_onnx(program, OUTPUTS, optimize=False).model)
    graph += _metadata(NETWORK_ENTRY, network.encode())
    graph += _metadata(SEAL_ENTRY, seal(graph))
    session = open_session(graph, read_weights(folder / WEIGHTS))
    found = session.run(OUTPUTS, {"pixel_values": pixel_values.numpy(), "mask": mask.numpy()})
    check_agreement(GRAPH, found, expected)
    with atomic_file(folder / GRAPH) as partial:
        partial.write_bytes(graph)
    return folder / GRAPH


def _without_weights(model: Any) -> bytes:
    """Simplify a graph around its weights, and name them as the checkpoint does instead of holding them."""
    import onnx_ir
    from onnxscript import optimizer

    prefix = "model."  # the attribute of ParameterNetwork
    weights = [value for name, value in model.graph.initializers.items() if name.startswith(prefix)]
    for value in weights:  # as inputs while the graph is simplified, so that no weight is folded into a constant
        del model.graph.initializers[value.name]
        model.graph.inputs.append(value)
    tensors = [value.const_value for value in weights]
    for value in weights:
        value.const_value = None
    optimizer.optimize(model)
    for value, tensor in zip(weights, tensors, strict=True):
        model.graph.inputs.remove(value)
        value.name = value.name.removeprefix(prefix)
        value.const_value = onnx_ir.ExternalTensor(
            NO_FILE, 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name
        )
        model.graph.initializers[value.name] = value
    model.graph.name = "aict"
    for part in (model, model.graph, *model.graph):
        part.doc_string = None
        part.metadata_props.clear()
        for value in part.outputs if isinstance(part, onnx_ir.Node) else ():
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    return onnx_ir.to_proto(model).SerializeToString()


def _metadata(key: str, value: bytes) -> bytes:
    """An entry of metadata that can be put at the end of an ONNX file, for protobuf merges what follows one another."""
    import onnx

    entry = onnx.StringStringEntryProto(key=key, value=value.decode())
    return onnx.ModelProto(metadata_props=[entry]).SerializeToString()


__all__ = ["write_network_graph"]
