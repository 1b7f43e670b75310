"""Files of weights, read without running code."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import InputError, one_line


def read_tensors(path: Path) -> Any:
    """What a safetensors file or a pickle holds; nothing but tensors and plain containers is unpickled.

    Raises:
        InputError: if the file is missing, damaged or holds anything else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: damaged files trip the reader anywhere
        raise InputError(f"{path}: not a checkpoint that can be read safely ({one_line(error)[:200]})") from error


__all__ = ["read_tensors"]
