import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.compose.paste import paste
from aict_hf.compose.photos import paste_photo
from aict_hf.errors import NothingPastedError
from aict_hf.files.images import ImageFile


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_result_is_the_background_with_the_cutout_pasted(dtype):
    (photo, alpha), (there, _) = make_photo(), make_photo(60, 90, seed=1)
    there = there.astype(dtype) * (257 if dtype == np.uint16 else 1)
    background = ImageFile(there if dtype == np.uint16 else Image.fromarray(there), None, b"exif")
    options = {"position": (30, 20), "scale": 0.5, "feather": 2}
    composite, mask = paste_photo(ImageFile(Image.fromarray(photo)), alpha, background, **options)
    expected = paste(photo, alpha, there, **options)
    assert np.array_equal(np.asarray(composite.pixels), expected.image)
    assert np.array_equal(mask, expected.mask)
    assert (composite.size, composite.exif) == ((90, 60), b"exif")
    assert isinstance(composite.pixels, np.ndarray if dtype == np.uint16 else Image.Image)


def test_a_cutout_outside_the_background_is_an_error_with_the_size():
    photo, alpha = map(Image.fromarray, make_photo())
    with pytest.raises(NothingPastedError, match="outside the background of 56 x 40") as caught:
        paste_photo(ImageFile(photo), alpha, ImageFile(photo), position=(-500, 0))
    assert caught.value.size == (56, 40)
