import cv2
import numpy as np
import pytest
import torch

from aict_hf.model.resizing import foreground_cells, low_resolution_copies, resize_image, resize_mask

SIZES = [(300, 421), (37, 53), (1023, 777), (512, 512), (3, 5), (1, 300), (1, 1)]


MASK_TOLERANCE = 1e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_image_resize_is_opencvs_bit_for_bit(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    ours = resize_image(image.transpose(2, 0, 1), (64, 96)).transpose(1, 2, 0)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tensors_are_resized_as_arrays_are(size, dtype):
    image = np.random.default_rng(0).random((2, 3, *size))
    image = (image * (1 if dtype == np.float32 else np.iinfo(dtype).max)).astype(dtype)
    ours = resize_image(torch.from_numpy(image), (64, 96))
    np.testing.assert_array_equal(ours.numpy(), resize_image(image, (64, 96)))
    if dtype != np.uint16:
        ours = resize_mask(torch.from_numpy(image[:, :1]), (64, 96))
        np.testing.assert_allclose(ours.numpy(), resize_mask(image[:, :1], (64, 96)), rtol=0, atol=MASK_TOLERANCE)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_resize_is_opencvs_and_stays_soft(size):
    mask = np.random.default_rng(0).random(size, dtype=np.float32)
    expected = cv2.resize(mask, (96, 64), interpolation=cv2.INTER_LINEAR)
    ours = resize_mask(mask[None], (64, 96))[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=MASK_TOLERANCE)


@pytest.mark.parametrize(
    ("size", "box"),
    [((3000, 400), (1003, 1006, 209, 211)), ((700, 40), (555, 556, 7, 8)), ((900, 900), (101, 102, 0, 900))],
    ids=["object", "pixel", "line"],
)
@pytest.mark.parametrize("level", [255, 60])
def test_no_foreground_falls_between_the_samples(size, box, level):
    top, bottom, left, right = box
    mask = np.zeros((1, *size), np.uint8)
    mask[0, top:bottom, left:right] = level
    image = np.full((3, *size), 90, np.uint8)
    image[:, top:bottom, left:right] = 200
    copy = resize_mask(mask, (32, 32))
    assert copy.max().item() == pytest.approx(level / 255)
    rows, columns = (range(first * 32 // n, (last - 1) * 32 // n + 1) for first, last, n in
                     ((top, bottom, size[0]), (left, right, size[1])))  # fmt: skip
    assert {tuple(cell) for cell in np.argwhere(copy[0]).tolist()} == {
        (row, column) for row in rows for column in columns
    }
    seen, small_mask = low_resolution_copies(image, mask, (32, 32))
    np.testing.assert_array_equal(small_mask, copy)
    np.testing.assert_array_equal(resize_mask(torch.from_numpy(mask), (32, 32)).numpy(), copy)
    np.testing.assert_allclose(seen[:, copy[0] > 0], 200 / 255, rtol=1e-6)
    np.testing.assert_allclose(seen[:, copy[0] == 0], 90 / 255, rtol=1e-6)


def test_cells_of_strips_add_up():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (3, 50, 30), dtype=np.uint8)
    mask = random.integers(0, 256, (1, 50, 30), dtype=np.uint8)
    whole = foreground_cells(image, mask, (8, 8))
    strips = [(slice(0, 13), 0), (slice(13, 40), 13), (slice(40, 50), 40)]
    first, second, third = (
        foreground_cells(image[:, rows], mask[:, rows], (8, 8), top=top, full_height=50) for rows, top in strips
    )
    total = first + second + third
    for name in ("weight", "color", "highest"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-6)
