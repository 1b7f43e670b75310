import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

PHOTO, MASK = make_photo()


def test_input_data_format_settles_ambiguous_layouts(processor):
    tall = np.zeros((3, 40, 3), np.uint8)
    tall[0] = 255
    first = processor(tall, np.zeros((40, 3), np.uint8), input_data_format="channels_first", return_tensors="np")
    last = processor(tall, np.zeros((3, 40), np.uint8), return_tensors="np")
    assert first["pixel_values"][0, 0].min() == 1
    assert last["pixel_values"][0, 0].min() == 0


@pytest.mark.parametrize(
    ("photo", "mask", "words"),
    [
        (PHOTO, MASK[:-1], "mask is 56 x 39, composite is 56 x 40; resize the mask"),
        (PHOTO, None, "no mask was given and the image has no alpha"),
        (PHOTO, (MASK > 9).astype(np.uint8), "holds only 0 and 1"),
        (PHOTO, MASK.astype(np.int64), "mask has dtype int64"),
        (PHOTO / np.float32(255) * 1.5, MASK, "floats must lie in"),
        (np.where(PHOTO > 128, np.nan, 0.5), MASK, "not be NaN"),
        (PHOTO[:, :, :1].repeat(5, axis=2), MASK, "expected 1, 2, 3 or 4 channels"),
        (PHOTO.astype(np.int32), MASK, "image has dtype int32"),
        (PHOTO > 3, MASK, "image has dtype bool"),
        (PHOTO.astype(complex), MASK, "complex128"),
        (np.zeros((0, 4, 3), np.uint8), MASK, "expected"),
        (Image.new("F", (56, 40)), MASK, "mode F has no fixed range"),
        (42, MASK, "image is a int"),
        ([], [], "no images were given"),
        ([PHOTO, PHOTO], [MASK], "2 images came with 1 masks"),
        (__file__, MASK, "cannot be read as an image"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(processor, photo, mask, words):
    with pytest.raises(ValueError, match=words):
        processor(photo, mask, return_tensors="pt")


def test_other_byte_orders_come_back_as_they_were(model, processor):
    outputs = model(**processor(PHOTO, MASK, return_tensors="pt"))
    native = PHOTO.astype(np.uint16) * 257
    [expected] = processor.post_process_harmonization(outputs, native, MASK)
    [swapped] = processor.post_process_harmonization(outputs, native.astype(">u2"), MASK)
    assert swapped.dtype == np.dtype(">u2")
    assert np.array_equal(swapped, expected)
    gray = Image.frombytes("I;16B", (56, 40), native[..., 0].astype(">u2").tobytes())
    [result] = processor.post_process_harmonization(outputs, gray, MASK)
    assert result.mode == "I;16B"
    assert np.array_equal(np.array(result)[MASK == 0], native[..., 0][MASK == 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_is_opaque_everywhere_is_no_mask(processor, mode):
    image = Image.fromarray(PHOTO).convert(mode)
    with pytest.raises(ValueError, match="alpha channel is opaque everywhere; pass a mask"):
        processor(image)
    processor(image, MASK)


def test_a_mask_of_the_unturned_photo_is_told_from_one_of_another_size(processor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTO).save(tmp_path / "phone.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"mask is 56 x 40, composite is 40 x 56; one of them is turned: .*EXIF"):
        processor(tmp_path / "phone.jpg", MASK)
