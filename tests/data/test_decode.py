import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.data.decode import load_mask, load_photo, load_rgb
from aict_hf.errors import InputError
from aict_hf.files.photo_pools import MaskedPhoto


@pytest.fixture
def photo(tmp_path):
    for name, pixels in zip(("photo.png", "mask.png"), make_photo(60, 80), strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    return MaskedPhoto(tmp_path / "photo.png", tmp_path / "mask.png", "photo.png", "object")


def test_a_photo_and_its_mask_are_decoded(photo):
    image, mask = load_photo(photo)
    assert np.array_equal(image, make_photo(60, 80)[0])
    assert np.array_equal(mask, make_photo(60, 80)[1])


def test_a_mask_of_another_scale_gets_the_photos_size_and_a_turned_one_is_refused(photo):
    with Image.open(photo.mask) as mask:
        mask.resize((40, 30)).save(photo.mask)
    assert load_photo(photo)[1].shape == (60, 80)
    with Image.open(photo.mask) as mask:
        mask.resize((60, 80)).save(photo.mask)
    with pytest.raises(InputError, match=r"mask\.png: is turned against .*photo\.png; photos are turned upright"):
        load_photo(photo)


def test_masks_are_read_by_the_rules_of_all_masks(photo):
    expected = load_mask(photo.mask)
    levels = expected[..., None] / 255
    for given in (levels * [255, 0, 0], levels * [0, 0, 0, 255], expected.astype(np.uint16) * 257):
        kind = np.uint16 if given.ndim == 2 else np.uint8
        Image.fromarray(given.astype(kind)).save(photo.mask)
        assert np.array_equal(load_mask(photo.mask), expected)
    for given, words in (
        ((expected > 0).astype(np.uint8), "holds only 0 and 1"),
        ((expected > 0).astype(np.uint8) * 7, "highest level is 7"),
        (make_photo(60, 80)[0], "several colours"),
    ):
        Image.fromarray(given).save(photo.mask)
        with pytest.raises(InputError, match=rf"mask\.png: the mask.*{words}"):
            load_mask(photo.mask)


def test_photos_of_16_bits_are_refused(photo):
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(photo.image)
    with pytest.raises(InputError, match="has 16 bits a channel; training and evaluation take 8-bit photos"):
        load_rgb(photo.image)
