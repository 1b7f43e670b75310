import io

import numpy as np
import pytest
import tifffile
from conftest import make_photo
from PIL import ExifTags, Image

from aict_hf.files import exif as exif_module
from aict_hf.files.exif import append_exif, exif_block
from aict_hf.files.images import read_image, write_image


@pytest.fixture
def block():
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.LensModel: "50 mm", ExifTags.Base.ExposureTime: 0.01})
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R98"}
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif.tobytes()


@pytest.mark.parametrize(("bigtiff", "byteorder"), [(False, "<"), (False, ">"), (True, "<")])
def test_a_tiff_gets_tags_and_keeps_its_pixels(block, bigtiff, byteorder, tmp_path):
    pixels, _ = make_photo(30, 50)
    path = tmp_path / "a.tif"
    options = {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "iccprofile": b"profile"}
    tifffile.imwrite(path, pixels, bigtiff=bigtiff, byteorder=byteorder, **options)
    append_exif(path, block)
    with tifffile.TiffFile(path) as file:
        assert (file.is_bigtiff, file.byteorder) == (bigtiff, byteorder)
        assert np.array_equal(file.asarray(), pixels)
        assert file.pages[0].tags["InterColorProfile"].value == b"profile"
        assert file.pages[0].tags["ExifTag"].value["LensModel"] == "50 mm"
        assert file.pages[0].tags["GPSTag"].value["GPSLatitudeRef"] == "N"
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), pixels)
        assert image.getexif()[ExifTags.Base.Artist] == "A. Photographer"
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] == pytest.approx(0.01)
        assert ExifTags.IFD.Interop not in image.getexif().get_ifd(ExifTags.IFD.Exif)  # an offset into the old block


def test_the_block_of_a_bigtiff_can_be_read_and_written_again(block, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_photo(30, 50)[0], photometric="rgb", bigtiff=True)
    append_exif(tmp_path / "a.tif", block)
    for suffix in (".tif", ".png", ".jpg"):
        write_image(tmp_path / f"b{suffix}", read_image(tmp_path / "a.tif"))
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.getexif()[ExifTags.Base.Artist] == "A. Photographer"
            assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "50 mm"


def test_files_it_cannot_point_into_are_refused_untouched(block, tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make_photo(30, 50)[0], bigtiff=True, byteorder=">")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="big-endian BigTIFF"):
        append_exif(path, block)
    assert path.read_bytes() == before
    tifffile.imwrite(path, make_photo(30, 50)[0])
    before = path.read_bytes()
    monkeypatch.setattr(exif_module, "MAX_SIZE", 1000)
    with pytest.raises(ValueError, match="too large to add EXIF to"):
        append_exif(path, block)
    assert path.read_bytes() == before


def test_the_block_leaves_out_orientation_and_survives_damage(block):
    file = io.BytesIO()
    turned = Image.Exif()
    turned.load(block)
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (8, 8)).save(file, format="JPEG", exif=turned)
    with Image.open(file) as image:
        kept = exif_block(image)
    tags = Image.Exif()
    tags.load(kept)
    assert ExifTags.Base.Orientation not in tags
    assert tags[ExifTags.Base.Artist] == "A. Photographer"
    damaged = Image.new("RGB", (8, 8))
    damaged.info["exif"] = b"Exif\0\0MM\0\0garbage"
    assert exif_block(damaged) is None
