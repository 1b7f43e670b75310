"""Choose what runs the network of a command: onnxruntime and numba, which start at once, or torch."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..pretrained import checkpoint_location
from .onnx_network import onnx_obstacle
from .photo_luts import IdentifiedPredictor

if TYPE_CHECKING:
    import torch


def open_harmonizer(
    name: str | os.PathLike | None = None,
    *,
    device: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> IdentifiedPredictor:
    """Open a checkpoint with the runtime that starts fastest.

    onnxruntime and numba (`pip install "aict_hf[fast]"`) do the work on the CPU for checkpoints that have a graph.
    torch does it otherwise. The results differ by at most one level.

    Args:
        name: a bundled checkpoint's name, a folder or a Hub repository. The default checkpoint if left out.
        device: "cpu", "cuda", "mps" and so on. If left out, the CPU if onnxruntime does the work, else CUDA if it is
            available.
        say: called with one line that names the runtime, and why it is torch.
    Raises:
        InputError: if there is no such checkpoint, its weights do not fit its config, or the device cannot be used.
    """
    obstacle = _obstacle(checkpoint_location(name), device)
    if obstacle is None:
        from .onnx_harmonizer import ONNXHarmonizer

        say("the network runs in onnxruntime, the LUTs in numba, on the CPU")
        return ONNXHarmonizer.from_folder(checkpoint_location(name))
    from .harmonizer import Harmonizer

    chosen = usable_device(device)
    say(f"torch runs on {chosen}, because {obstacle}")
    return Harmonizer.from_pretrained(name, device=chosen)


def usable_device(name: str | None = None) -> "torch.device":
    """The torch device of a name; CUDA, if it is available, or else the CPU if there is no name.

    Raises:
        InputError: if the device cannot be used.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name} cannot be used ({reason}); leave it out or say cpu") from error
    return chosen


def _obstacle(folder: str, device: str | None) -> str | None:
    """What keeps a checkpoint from onnxruntime and numba, in one clause; None if nothing does."""
    if device not in (None, "cpu"):
        return f"the device is {device}"
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed; pip install 'aict_hf[fast]'"
    if not Path(folder).is_dir():
        return f"{folder} is not a folder"
    return onnx_obstacle(folder)


__all__ = ["open_harmonizer", "usable_device"]
