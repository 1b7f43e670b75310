"""Convert the authors' AICT checkpoints (ViT variant) to folders that `AICTModel.from_pretrained` loads."""

import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files.atomic_write import atomic_folder
from ..files.tensors import read_tensors
from ..model.configuration_aict import AICTConfig
from ..model.image_processing_aict import AICTImageProcessor
from ..model.modeling_aict import AICTModel
from .options import StoredDtype

STORED_DTYPES: dict[StoredDtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def read_official_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read the state dict of one of the authors' files, or of a safetensors file with their names.

    Only tensors and plain containers are unpickled.

    Returns:
        tensors by the authors' names.
    Raises:
        InputError: if the file is missing or is not such a checkpoint.
    """
    path = Path(path)
    content = read_tensors(path)
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict; expected one, or a dict whose entry 'model' is one")
    return state


def official_shapes(config: AICTConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in the authors' state dict for a network of this configuration."""
    width, feed_forward, stride = config.hidden_size, config.intermediate_size, config.decoder_stride
    nodes = 3 * config.num_intervals
    shapes: dict[str, tuple] = {
        "encoder.patch_to_embedding.1.weight": (width, 4 * config.patch_size**2),
        "encoder.patch_to_embedding.1.bias": (width,),
        "decoder.dec.weight": (width, config.decoder_channels, stride, stride),
        "decoder.dec.bias": (config.decoder_channels,),
        "class_layer.weight": (nodes, width // 4),
        "class_layer.bias": (nodes,),
    }
    for index in range(config.num_hidden_layers):
        layer = f"encoder.transformer_enc.layers.{index}."
        shapes[layer + "self_attn.in_proj_weight"] = (3 * width, width)
        shapes[layer + "self_attn.in_proj_bias"] = (3 * width,)
        shapes[layer + "self_attn.out_proj.weight"] = (width, width)
        shapes[layer + "linear1.weight"] = (feed_forward, width)
        shapes[layer + "linear1.bias"] = (feed_forward,)
        shapes[layer + "linear2.weight"] = (width, feed_forward)
        for name in ("self_attn.out_proj.bias", "linear2.bias", *(f"norm{n}.{p}" for n in "12" for p in _AFFINE)):
            shapes[layer + name] = (width,)
    for conv, norm, channels_in, channels_out in ((0, 1, width, width // 2), (4, 5, width // 2, width // 4)):
        shapes[f"bottom_convs.{conv}.weight"] = (channels_out, channels_in, 3, 3)
        shapes[f"bottom_convs.{conv}.bias"] = (channels_out,)
        for name in (*_AFFINE, "running_mean", "running_var"):
            shapes[f"bottom_convs.{norm}.{name}"] = (channels_out,)
        shapes[f"bottom_convs.{norm}.num_batches_tracked"] = ()
    for name in ("colors_layer", "params_layer"):
        shapes[f"{name}.weight"] = (nodes, config.decoder_channels, 1, 1)
        shapes[f"{name}.bias"] = (nodes,)
    return shapes


def convert_state_dict(official: dict[str, Tensor], config: AICTConfig) -> dict[str, Tensor]:
    """Rename the authors' weights to the names of this package.

    Args:
        official: state dict with the authors' names.
        config: configuration of the network; `AICTConfig()` for the authors' checkpoint.
    Returns:
        state dict of `AICTModel(config)`, with the dtypes of `official`.
    Raises:
        InputError: if a tensor is missing, unexpected or of the wrong shape; the message names the first one.
    """
    expected = official_shapes(config)
    for name, shape in expected.items():
        if name not in official:
            raise InputError(f"tensor {name} is missing; expected shape {shape}")
        if tuple(official[name].shape) != shape:
            raise InputError(f"tensor {name} has shape {tuple(official[name].shape)}; expected {shape}")
    for name in official:
        if name not in expected:
            raise InputError(
                f"tensor {name} is not part of this network; check that the checkpoint is of the ViT variant"
            )

    patch = config.patch_size
    columns = official["encoder.patch_to_embedding.1.weight"]  # ordered row, column, channel
    state = {
        "patch_embeddings.weight": columns.unflatten(1, (patch, patch, 4)).permute(0, 3, 1, 2).contiguous(),
        "patch_embeddings.bias": official["encoder.patch_to_embedding.1.bias"],
    }
    for index in range(config.num_hidden_layers):
        theirs, ours = f"encoder.transformer_enc.layers.{index}.", f"layers.{index}."
        for parameter in _AFFINE:
            in_proj = official[f"{theirs}self_attn.in_proj_{parameter}"]
            for name, part in zip(("q_proj", "k_proj", "v_proj"), in_proj.chunk(3), strict=True):
                state[f"{ours}attention.{name}.{parameter}"] = part.clone()
            for name, their_name in (
                ("attention.o_proj", "self_attn.out_proj"),
                ("fc1", "linear1"),
                ("fc2", "linear2"),
                ("attention_norm", "norm1"),
                ("feed_forward_norm", "norm2"),
            ):
                state[f"{ours}{name}.{parameter}"] = official[f"{theirs}{their_name}.{parameter}"]
    modules = {
        "decoder": "decoder.dec",
        "sampling_intervals_head": "colors_layer",
        "color_lut_head": "params_layer",
        "image_weight_head.conv1": "bottom_convs.0",
        "image_weight_head.norm1": "bottom_convs.1",
        "image_weight_head.conv2": "bottom_convs.4",
        "image_weight_head.norm2": "bottom_convs.5",
        "image_weight_head.proj": "class_layer",
    }
    for name, their_name in modules.items():
        prefix = their_name + "."
        state |= {f"{name}.{key[len(prefix) :]}": official[key] for key in expected if key.startswith(prefix)}
    return state


def convert_checkpoint(
    checkpoint: str | os.PathLike,
    out_dir: str | os.PathLike,
    *,
    config: AICTConfig | None = None,
    dtype: StoredDtype = "float32",
) -> None:
    """Write a folder with weights, config and image processor from one of the authors' checkpoints.

    Args:
        checkpoint: the authors' file, or a safetensors file with their names.
        out_dir: folder to write. It must be new or empty.
        config: configuration of the network; None means the network of the paper.
        dtype: dtype of the stored weights: float32, float16 or bfloat16. Batch-norm statistics are always float32.
            The weights are loaded as float32.
    Raises:
        InputError: if the checkpoint does not fit `config`, or `out_dir` cannot be written. No partial folder is left.
    """
    config = config or AICTConfig()
    try:
        state = convert_state_dict(read_official_checkpoint(checkpoint), config)
    except InputError as error:
        raise InputError(str(error) if str(checkpoint) in str(error) else f"{checkpoint}: {error}") from error
    model = AICTModel(config)
    model.load_state_dict(state)
    with atomic_folder(Path(out_dir)) as partial:
        model.save_pretrained(partial, state_dict=stored_state_dict(model, dtype))
        AICTImageProcessor(size=config.image_size).save_pretrained(partial)


def stored_state_dict(model: AICTModel, dtype: StoredDtype) -> dict[str, Tensor]:
    """Weights of a model in `dtype`, except the batch-norm statistics.

    Args:
        model: the model.
        dtype: float32, float16 or bfloat16.
    Returns:
        state dict for `save_pretrained(..., state_dict=...)`.
    """
    return {
        name: tensor.to(STORED_DTYPES[dtype]) if tensor.is_floating_point() and "running_" not in name else tensor
        for name, tensor in model.state_dict().items()
    }


_AFFINE = ("weight", "bias")


__all__ = [
    "convert_checkpoint",
    "convert_state_dict",
    "official_shapes",
    "read_official_checkpoint",
    "stored_state_dict",
]
