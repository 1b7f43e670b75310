import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aict_hf.errors import InputError
from aict_hf.files.weights import read_weights, weight_layout, weights_digest


def save(folder, tensors):
    save_file(tensors, folder / "weights.safetensors")
    return folder / "weights.safetensors"


TENSORS = {"b": torch.tensor([[0.1, 6e-8], [65504, -3]]).half(), "a": torch.tensor([0.1]), "count": torch.tensor(7)}


def test_half_precision_is_read_as_torch_reads_it(tmp_path):
    path = save(tmp_path, TENSORS)
    found = read_weights(path)
    assert {values.dtype for values in found.values()} == {np.dtype("float32")}
    for name, tensor in TENSORS.items():
        assert np.array_equal(found[name], tensor.float().numpy())
    assert weight_layout(path) == {"a": ("F32", [1]), "b": ("F16", [2, 2]), "count": ("I64", [])}


def test_the_digest_is_of_names_and_values_not_of_their_order_or_storage(tmp_path):
    digest = weights_digest(read_weights(save(tmp_path, TENSORS)).items())
    assert digest == weights_digest((name, tensor.float().numpy()) for name, tensor in reversed(TENSORS.items()))
    assert digest != weights_digest((name, tensor.float().numpy() + 1) for name, tensor in TENSORS.items())
    assert digest != weights_digest((name + "x", tensor.float().numpy()) for name, tensor in TENSORS.items())
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert weights_digest([("a", columns)]) == weights_digest([("a", columns.copy())])


@pytest.mark.parametrize("read", [read_weights, weight_layout])
def test_files_that_are_missing_or_damaged_are_refused_in_one_line(read, tmp_path):
    path = save(tmp_path, TENSORS)
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole[:-1], whole[:60], b"\xff" * 50):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"weights\.safetensors: cannot be read \([^\n]+\)$"):
            read(path)
    path.unlink()
    for missing in (path, tmp_path):
        with pytest.raises(InputError, match=r"cannot be read"):
            read(missing)


def test_dtypes_are_named_as_safetensors_does(tmp_path):
    assert weight_layout(save(tmp_path, {"a": torch.zeros(2, dtype=torch.bfloat16)})) == {"a": ("BF16", [2])}
