"""A result is compressed like its input: one test per row of the table in docs/guides/harmonize_files.md."""

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, JpegImagePlugin

from aict_hf.files.encoding import DEFAULTS
from aict_hf.files.images import read_image, write_image

PHOTO = Image.fromarray(make_photo()[0])


def again(path, **options):
    """The file saved, read and written once more."""
    photo = options.pop("photo", PHOTO)
    photo.save(path, **options)
    written = path.with_stem("again")
    write_image(written, read_image(path))
    return written


@pytest.mark.parametrize("quality", [60, 95, 100])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_jpegs_keep_tables_sampling_and_order(tmp_path, quality, sampling):
    written = again(tmp_path / "a.jpg", quality=quality, subsampling=sampling, progressive=quality == 60)
    with Image.open(tmp_path / "a.jpg") as before, Image.open(written) as after:
        assert after.quantization == before.quantization
        assert JpegImagePlugin.get_sampling(after) == sampling
        assert bool(after.info.get("progressive")) == (quality == 60)
        if sampling == 0:
            assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).mean() < 0.5


def test_a_jpeg_on_its_side_keeps_its_quality(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    written = again(tmp_path / "a.jpg", quality=50, subsampling=1, exif=exif)
    with Image.open(tmp_path / "a.jpg") as before, Image.open(written) as after:
        table = np.reshape(before.quantization[0], (8, 8))
        assert np.array_equal(np.reshape(after.quantization[0], (8, 8)), table.T)
        assert JpegImagePlugin.get_sampling(after) == 0
        turned = np.rot90(np.asarray(before), 3).astype(int)
        assert np.abs(np.asarray(after) - turned).mean() < 3


def test_gray_and_rgb_jpegs(tmp_path):
    with Image.open(again(tmp_path / "gray.jpg", photo=PHOTO.convert("L"), quality=70)) as gray:
        assert gray.mode == "L"
    written = again(tmp_path / "rgb.jpg", quality=90, keep_rgb=True)
    with Image.open(written) as rgb:
        assert rgb.info["adobe_transform"] == 0


def test_a_jpeg_made_of_another_format_has_all_colours(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    write_image(tmp_path / "b.jpg", read_image(tmp_path / "a.png"))
    with Image.open(tmp_path / "b.jpg") as result:
        assert JpegImagePlugin.get_sampling(result) == 0


@pytest.mark.parametrize("extended", [False, True])
def test_lossless_webp_stays_lossless_also_where_it_is_transparent(tmp_path, extended):
    photo = PHOTO.copy()
    photo.putalpha(Image.fromarray(make_photo()[1]))
    options = {"icc_profile": b"profile"} if extended else {}
    written = again(tmp_path / "a.webp", photo=photo, lossless=True, exact=True, **options)
    with Image.open(written) as after:
        assert np.array_equal(np.asarray(after), np.asarray(photo))


def test_webp_with_loss_stays_small(tmp_path):
    written = again(tmp_path / "a.webp", quality=80)
    assert b"VP8 " in written.read_bytes()
    assert b"VP8L" not in written.read_bytes()


@pytest.mark.parametrize("kind", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "jpeg"])
def test_tiffs_keep_their_compression(tmp_path, kind):
    written = again(tmp_path / "a.tif", compression=kind)
    with Image.open(tmp_path / "a.tif") as before, Image.open(written) as after:
        assert after.info["compression"] == kind
        assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).max() <= (0 if kind != "jpeg" else 40)


def test_fax_tiffs_become_deflate(tmp_path):
    with Image.open(again(tmp_path / "a.tif", photo=PHOTO.convert("1"), compression="group4")) as after:
        assert after.info["compression"] == DEFAULTS["TIFF"]["compression"]


def test_lossless_jpeg_2000_stays_lossless(tmp_path):
    with Image.open(again(tmp_path / "a.jp2")) as after:
        assert np.array_equal(np.asarray(after), np.asarray(PHOTO))
    assert read_image(tmp_path / "a.jp2").encoding.options == {"irreversible": False}
    PHOTO.save(tmp_path / "b.jp2", irreversible=True)
    assert read_image(tmp_path / "b.jp2").encoding.options == {"irreversible": True}


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_avif_keeps_its_sampling(tmp_path, sampling):
    written = again(tmp_path / "a.avif", subsampling=sampling)
    assert read_image(written).encoding.options == {"quality": 95, "subsampling": sampling}
