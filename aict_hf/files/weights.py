"""Weights as NumPy arrays: read without torch, and told apart by a digest."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import safe_open

from ..errors import InputError, one_line


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file.

    Args:
        path: a file of float32, float16 and integer tensors.
    Returns:
        float32 arrays by the tensors' names.
    Raises:
        InputError: if the file is missing or damaged, or holds a dtype that NumPy does not have, such as bfloat16.
    """
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name).astype(np.float32, copy=False) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # many types: no file, no header, a cut file, a dtype that NumPy does not have
        raise InputError(f"{path}: cannot be read ({one_line(error)[:200]})") from error


def weight_layout(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Read what tensors a safetensors file holds, without their values.

    Returns:
        dtypes, as safetensors names them (F16, BF16), and shapes by the tensors' names.
    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (part.get_dtype(), list(part.get_shape())) for name, part in slices.items()}
    except Exception as error:  # many types
        raise InputError(f"{path}: cannot be read ({one_line(error)[:200]})") from error


def weights_digest(weights: Iterable[tuple[str, np.ndarray]]) -> str:
    """A hash of weights: the same for the same float32 values, however they are stored.

    Args:
        weights: names and float32 arrays, in any order.
    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name, values in sorted(weights, key=lambda named: named[0]):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


__all__ = ["read_weights", "weight_layout", "weights_digest"]
