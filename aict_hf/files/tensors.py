"""Read files of weights without running code from them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import InputError, one_line


def read_tensors(path: Path) -> Any:
    """Read a safetensors file or a pickle. Only tensors and plain containers are unpickled.

    Returns:
        the content of the file, usually a dict of tensors.
    Raises:
        InputError: if the file is missing, damaged or holds other objects.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a checkpoint")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # many types: damaged files fail anywhere in the reader
        raise InputError(f"{path}: not a checkpoint that can be read safely ({one_line(error)[:200]})") from error


__all__ = ["read_tensors"]
