"""The checkpoints of the package, and loading of any checkpoint."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError, one_line

if TYPE_CHECKING:
    import torch

    from .model.image_processing_aict import AICTImageProcessor
    from .model.modeling_aict import AICTModel

WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors")
_BUNDLE = Path(__file__).parent / "checkpoints"

DEFAULT_CHECKPOINT = str(_BUNDLE / "aict-small")
"""Folder of the default checkpoint, for `from_pretrained`."""


def bundled_checkpoints() -> dict[str, Path]:
    """Name and folder of every bundled checkpoint."""
    return {folder.name: folder for folder in sorted(_BUNDLE.iterdir()) if (folder / "config.json").is_file()}


def checkpoint_location(name: str | os.PathLike | None) -> str:
    """The folder of a bundled checkpoint (the default if `name` is None), or else `name` itself."""
    return DEFAULT_CHECKPOINT if name is None else str(bundled_checkpoints().get(str(name), name))


def load_checkpoint(
    name: str | os.PathLike | None = None, *, device: "torch.device | str" = "cpu"
) -> "tuple[AICTModel, AICTImageProcessor]":
    """Load a model, ready for inference, and its image processor.

    `aict_hf.Harmonizer.from_pretrained` holds both in one object.

    Args:
        name: a bundled checkpoint's name, a folder or a Hub repository. The default checkpoint if left out.
        device: where the model runs.
    Raises:
        InputError: if there is no such checkpoint, or its weights do not fit its config.
    """
    location = checkpoint_location(name)
    bundled = ", ".join(bundled_checkpoints())
    if Path(location).suffix.lower() in WEIGHT_SUFFIXES and not Path(location).is_dir():
        raise InputError(
            f"{location}: is a file of weights; expected a folder. Convert the authors' weights with "
            f"aict convert {Path(location).name} FOLDER, or give the folder of a converted checkpoint"
        )
    if not Path(location).exists() and location.count("/") != 1:  # a Hub repository's name has one slash
        raise InputError(f"{location}: is not a bundled checkpoint, a folder or a Hub model; bundled: {bundled}")
    from .model.image_processing_aict import AICTImageProcessor
    from .model.modeling_aict import AICTModel

    try:
        model = AICTModel.from_pretrained(location)
        processor = AICTImageProcessor.from_pretrained(location)
    except Exception as error:  # no folder, no network, no such repository, broken files, bad config
        kind = "cannot be loaded" if Path(location).is_dir() else "is not a bundled checkpoint, a folder or a Hub model"
        raise InputError(f"{location}: {kind} ({one_line(error)[:200]}); bundled: {bundled}") from error
    return model.to(device).eval(), processor


__all__ = ["DEFAULT_CHECKPOINT", "bundled_checkpoints", "checkpoint_location", "load_checkpoint"]
