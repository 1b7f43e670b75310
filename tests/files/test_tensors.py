import sys

import pytest
import torch
from safetensors.torch import save_file

from aict_hf.errors import InputError
from aict_hf.files.tensors import read_tensors

TENSORS = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.float16)}


def test_safetensors_and_pickles_of_tensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "one.safetensors")
    torch.save(TENSORS, tmp_path / "two.pth")
    for name in ("one.safetensors", "two.pth"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


def test_code_in_a_pickle_is_not_run_and_damage_is_named(tmp_path):
    class Evil:
        def __reduce__(self):
            return (sys.exit, (3,))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"broken")
    for name in ("evil.pth", "broken.pth", "broken.safetensors"):
        with pytest.raises(InputError, match=f"{name}: not a checkpoint that can be read safely"):
            read_tensors(tmp_path / name)
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file"):
        read_tensors(tmp_path / "nowhere.pth")
