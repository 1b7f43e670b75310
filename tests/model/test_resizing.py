import cv2
import numpy as np
import pytest
import torch

from aict_hf.model.resizing import resize_image, resize_mask

SIZES = [(300, 421), (37, 53), (1023, 777), (512, 512), (3, 5), (1, 300), (1, 1)]


MASK_TOLERANCE = 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_image_resize_is_opencvs_bit_for_bit(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    ours = resize_image(torch.from_numpy(image).permute(2, 0, 1), (64, 96)).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_resize_is_opencvs_and_stays_soft(size):
    mask = np.random.default_rng(0).random(size, dtype=np.float32)
    expected = cv2.resize(mask, (96, 64), interpolation=cv2.INTER_LINEAR)
    ours = resize_mask(torch.from_numpy(mask)[None], (64, 96))[0].numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=MASK_TOLERANCE)
