import numpy as np
import pytest
import torch

from aict_hf.model.levels import full_scale, to_eight_bits, to_unit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=str)
def test_full_scale_is_one(dtype):
    levels = np.array([0, np.iinfo(dtype).max], dtype)
    assert full_scale(levels) == full_scale(torch.from_numpy(levels)) == np.iinfo(dtype).max
    assert to_unit(levels).tolist() == [0, 1]
    assert to_unit(levels).dtype == np.float32


def test_floats_keep_their_value():
    values = np.array([0.0, 0.25, 1.0], np.float32)
    np.testing.assert_array_equal(to_unit(values), values)
    assert to_unit(values.astype(np.float64)).dtype == np.float32


def test_eight_bits_are_rounded():
    assert to_eight_bits(np.array([0, 128, 129, 65535], np.uint16)).tolist() == [0, 0, 1, 255]
    assert to_eight_bits(np.array([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]
