import pytest
import torch

from aict_hf import foreground_mse


def test_foreground_mse_counts_small_foregrounds_as_the_least_area():
    prediction, target = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 3, 4, 4)
    mask = torch.ones(1, 1, 4, 4)
    assert foreground_mse(prediction, target, mask, min_area=1).item() == pytest.approx(0.25)
    assert foreground_mse(prediction, target, mask, min_area=160).item() == pytest.approx(0.025)
