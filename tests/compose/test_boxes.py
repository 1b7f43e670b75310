import numpy as np
import pytest

from aict_hf.compose.boxes import half_extent, mask_box


def test_mask_boxes_are_tight():
    mask = np.zeros((9, 9), bool)
    assert mask_box(mask) is None
    mask[2:5, 3:8] = True
    assert mask_box(mask) == (3, 2, 8, 5)
    mask[1, 1] = True
    assert mask_box(mask) == (1, 1, 8, 5)


def test_rotated_rectangles_have_the_box_around_their_corners():
    assert half_extent(6, 4, 0) == (3, 2)
    assert half_extent(6, 4, 90) == pytest.approx((2, 3))
    assert half_extent(2, 2, -45) == pytest.approx((2**0.5, 2**0.5))
