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


def flat(level, size=(40, 30)):
    return ImageFile(Image.new("RGB", size, (level, level, level)))


@pytest.mark.parametrize(
    "mask", [np.full((30, 40), 20000, np.uint16), np.full((30, 40), 60, np.uint8), np.zeros((30, 40))]
)
def test_a_mask_that_marks_nothing_is_named(mask):
    with pytest.raises(ValueError, match="the mask marks nothing to paste: its highest value is 0") as caught:
        paste_photo(flat(9), mask, flat(9), position=(20, 15))
    assert not isinstance(caught.value, NothingPastedError)
    clear = ImageFile(Image.new("RGBA", (40, 30)))
    with pytest.raises(ValueError, match="the alpha channel marks nothing to paste"):
        paste_photo(clear, None, flat(9), position=(20, 15))


def test_a_mask_of_numbers_is_named():
    with pytest.raises(ValueError, match="16 bits, where 65535 is foreground, but its highest level is 255"):
        paste_photo(flat(9), np.full((30, 40), 255, np.uint16), flat(9), position=(20, 15))
    with pytest.raises(ValueError, match="highest level is 3, where 255 is foreground"):
        paste_photo(flat(9), np.full((30, 40), 3, np.uint8), flat(9), position=(20, 15))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"feather": 500}, "a feather of 500 pixels leaves nothing"),
        ({"scale": 0.001}, "a scale of 0.001 leaves nothing of the cut-out of 40 x 30 pixels"),
        ({"position": (-99, 0)}, "outside the background of 40 x 30"),
    ],
)
def test_what_leaves_nothing_is_named(options, words):
    mask = np.pad(np.ones((20, 30), bool), 5)
    with pytest.raises(NothingPastedError, match=words):
        paste_photo(flat(9), mask, flat(9), **{"position": (20, 15)} | options)


@pytest.mark.parametrize("sixteen_bit", [False, True])
def test_the_backgrounds_alpha_is_kept(sixteen_bit):
    background = np.full((30, 40, 4), 50, np.uint8)
    background[..., 3] = np.array([0, 128, 255, 255], np.uint8).repeat(10)
    opacity = np.zeros((30, 40), np.uint8)
    opacity[:15, 5:25], opacity[15:20, 5:25] = 255, 128
    scale = 257 if sixteen_bit else 1
    pixels = background.astype(np.uint16) * 257 if sixteen_bit else Image.fromarray(background)
    composite, mask = paste_photo(flat(200), opacity, ImageFile(pixels), position=(20, 15))
    result = np.asarray(composite.pixels)
    assert result.dtype == (np.uint16 if sixteen_bit else np.uint8)
    untouched = mask == 0
    assert np.array_equal(result[untouched], background[untouched].astype(result.dtype) * scale)
    assert (result[:15, 5:25] == (200 * scale, 200 * scale, 200 * scale, 255 * scale)).all()
    clear, half, opaque = result[17, [7, 15, 22]] / scale
    assert clear == pytest.approx([200, 200, 200, 128], abs=1)  # no colour from under the transparent pixel
    assert half == pytest.approx([150.1, 150.1, 150.1, 191.7], abs=1)
    assert opaque == pytest.approx([125.3, 125.3, 125.3, 255], abs=1)
