import base64

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.files.images import ImageFile, write_image

PHOTO, MASK = make_photo()


def test_exif_orientation_of_files_is_applied(processor, tmp_path):
    photo, mask = make_photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(photo).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    result = processor(tmp_path / "turned.png", mask, return_tensors="np")
    np.testing.assert_array_equal(result["pixel_values"], processor(photo, mask, return_tensors="np")["pixel_values"])


def test_colour_files_of_16_bits_are_not_cut_silently(processor, tmp_path):
    write_image(tmp_path / "deep.png", ImageFile(PHOTO.astype(np.uint16) * 257))
    with pytest.raises(ValueError, match=r"deep\.png has 16 bits a channel, which Pillow would cut"):
        processor(tmp_path / "deep.png", MASK)


def test_a_missing_file_is_named(processor, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        processor(tmp_path / "nowhere.png", MASK)


def test_base64_and_data_addresses_are_files(processor, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    text = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
    expected = processor(PHOTO, MASK)["pixel_values"]
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    for given in (text, lines, text.rstrip("="), "data:image/png;base64," + text, "data:;base64," + text):
        assert np.array_equal(processor(given, MASK)["pixel_values"], expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("data:image/png;base64,AAAA", "data address .* cannot be read as an image"),
        ("data:image/png;base64,?!", "is damaged"),
        ("data:image/svg+xml,%3Csvg", "is not base64"),
        ("A" * 6000, "base64 A+... of 6000 characters cannot be read"),
        ("no such thing / " * 600, "is not a file, an address or base64 text"),
        ("http://127.0.0.1:9/photo.png", "cannot be downloaded .*check the address"),
        ("https://", "cannot be downloaded"),
    ],
)
def test_addresses_that_lead_nowhere_are_short_errors(processor, given, words):
    with pytest.raises(ValueError, match=words) as raised:
        processor(given, MASK)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)
