import pytest
import torch

from aict_hf.model.levels import FULL_SCALE, to_unit


@pytest.mark.parametrize("dtype", FULL_SCALE, ids=str)
def test_full_scale_is_one(dtype):
    levels = torch.tensor([0, int(FULL_SCALE[dtype])], dtype=torch.int32).to(dtype)
    assert to_unit(levels).tolist() == [0, 1]


def test_floats_keep_their_value():
    values = torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(to_unit(values), values)
    assert to_unit(values, torch.float64).dtype == torch.float64
