"""Metadata is kept, or named as lost: one test per row of the table in docs/guides/harmonize_files.md."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from conftest import make_photo
from PIL import ExifTags, Image, PngImagePlugin

from aict_hf.files.images import ImageFile, read_image, what_is_lost, write_image
from aict_hf.files.metadata import CREDENTIALS, GAIN_MAP

PHOTO = Image.fromarray(make_photo()[0])
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
    b'GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>'
)
CAPTION = b"\x1c\x02\x78\x00\x05a dog"
IPTC = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(CAPTION)) + CAPTION
THUMBNAIL = b"8BIM" + struct.pack(">HHI", 0x040C, 0, 4) + b"old!"
COLORS = {
    b"cICP": bytes([12, 13, 0, 1]),
    b"gAMA": struct.pack(">I", 100000),
    b"cHRM": struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
}


def put_chunk(path, kind, data):
    content = path.read_bytes()
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content[:33] + chunk + content[33:])


@pytest.mark.parametrize("source", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_resolution_goes_everywhere(tmp_path, source, target):
    PHOTO.save(tmp_path / f"a{source}", dpi=(300, 150))
    write_image(tmp_path / f"b{target}", read_image(tmp_path / f"a{source}"))
    read = read_image(tmp_path / f"b{target}")
    assert read.metadata.dpi == pytest.approx((300, 150), rel=1e-3)
    assert what_is_lost("c.jpg", read) == []


def test_no_resolution_is_made_up(tmp_path):
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        PHOTO.save(tmp_path / f"a{suffix}")
        assert read_image(tmp_path / f"a{suffix}").metadata.dpi is None
        write_image(tmp_path / f"b{suffix}", read_image(tmp_path / f"a{suffix}"))
        with Image.open(tmp_path / f"b{suffix}") as result:
            assert result.info.get("dpi", (1, 1)) == (1, 1)  # Pillow's own for TIFF


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_resolution_and_xmp(tmp_path, suffix):
    values = make_photo()[0].astype(np.uint16) * 257
    PHOTO.save(tmp_path / "a.jpg", dpi=(300, 300), xmp=XMP)
    source = read_image(tmp_path / "a.jpg")
    write_image(tmp_path / f"b{suffix}", ImageFile(values, metadata=source.metadata))
    read = read_image(tmp_path / f"b{suffix}")
    assert read.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    assert read.metadata.xmp == XMP
    assert np.array_equal(read.pixels, values)
    write_image(tmp_path / "none.png", ImageFile(values))
    assert read_image(tmp_path / "none.png").metadata.dpi is None


@pytest.mark.parametrize("target", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_xmp_goes_everywhere(tmp_path, target):
    PHOTO.save(tmp_path / "a.jpg", xmp=XMP)
    write_image(tmp_path / f"b{target}", read_image(tmp_path / "a.jpg"))
    assert read_image(tmp_path / f"b{target}").metadata.xmp == XMP


def test_xmp_calls_the_result_upright(tmp_path):
    PHOTO.save(tmp_path / "a.jpg", xmp=XMP.replace(b"GPano:Proj", b'tiff:Orientation="6" GPano:Proj'))
    read = read_image(tmp_path / "a.jpg")
    assert read.size == (40, 56)
    assert b'tiff:Orientation="1"' in read.metadata.xmp
    write_image(tmp_path / "b.jpg", read)
    assert read_image(tmp_path / "b.jpg").size == (40, 56)


@pytest.mark.parametrize("kind", COLORS)
def test_png_colour_spaces_stay_or_are_missed(tmp_path, kind):
    PHOTO.save(tmp_path / "a.png")
    put_chunk(tmp_path / "a.png", kind, COLORS[kind])
    read = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", read)
    assert read_image(tmp_path / "b.png").metadata.chunks == ((kind, COLORS[kind]),)
    assert what_is_lost("b.png", read) == []
    assert f"({kind.decode()})" in what_is_lost("b.jpg", read)[0]


def test_png_of_srgb_misses_nothing(tmp_path):
    PHOTO.save(tmp_path / "a.png")
    for kind, data in ((b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0")):
        put_chunk(tmp_path / "a.png", kind, data)
        assert what_is_lost("b.jpg", read_image(tmp_path / "a.png")) == []


def test_png_texts_and_comments(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a dog")
    texts.add_itxt("Title", "Hündchen", zip=True)
    PHOTO.save(tmp_path / "a.png", pnginfo=texts)
    read = read_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", read)
    with Image.open(tmp_path / "b.png") as result:
        assert result.text == {"parameters": "a dog", "Title": "Hündchen"}
    assert what_is_lost("b.jpg", read) == ["the PNG texts (Title, parameters)"]
    PHOTO.save(tmp_path / "a.jpg", comment="made by hand")
    for name in ("b.jpg", "b.png"):
        write_image(tmp_path / name, read_image(tmp_path / "a.jpg"))
    with Image.open(tmp_path / "b.jpg") as jpeg, Image.open(tmp_path / "b.png") as png:
        assert (jpeg.info["comment"], png.text["Comment"]) == (b"made by hand", "made by hand")


def test_iptc_stays_in_jpeg_and_tiff_without_the_old_thumbnail(tmp_path):
    extra = b"\xff\xed" + struct.pack(">H", 16 + len(THUMBNAIL + IPTC)) + b"Photoshop 3.0\0" + THUMBNAIL + IPTC
    PHOTO.save(tmp_path / "a.jpg", extra=extra)
    read = read_image(tmp_path / "a.jpg")
    assert read.metadata.photoshop == IPTC
    for name in ("b.jpg", "b.tif"):
        write_image(tmp_path / name, read)
        assert read_image(tmp_path / name).metadata.photoshop == IPTC
    with tifffile.TiffFile(tmp_path / "b.tif") as result:
        assert result.pages[0].tags["IPTCNAA"].value == CAPTION
    assert what_is_lost("b.png", read) == ["IPTC and Photoshop's resources"]


def test_units_of_resolution_stay(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", make_photo()[0], resolution=(118, 118), resolutionunit="centimeter")
    read = read_image(tmp_path / "a.tif")
    assert read.metadata.dpi == pytest.approx((299.72, 299.72))
    write_image(tmp_path / "b.tif", read)
    with Image.open(tmp_path / "b.tif") as result:
        assert (result.tag_v2[ExifTags.Base.ResolutionUnit], result.tag_v2[ExifTags.Base.XResolution]) == (3, 118)


def test_gain_maps_videos_and_credentials_are_named(tmp_path):
    ultra = XMP.replace(
        b"<rdf:Description ",
        b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" '
        b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1" ',
    )
    claims = b"JP\0\0\0jumb c2pa"
    PHOTO.save(tmp_path / "a.jpg", xmp=ultra, extra=b"\xff\xeb" + struct.pack(">H", 2 + len(claims)) + claims)
    read = read_image(tmp_path / "a.jpg")
    assert what_is_lost("b.jpg", read) == [GAIN_MAP, "the video (motion photo)", CREDENTIALS]
    assert b"hdrgm:Version" not in read.metadata.xmp
    assert b"MotionPhoto" not in read.metadata.xmp
    assert b"GPano:ProjectionType" in read.metadata.xmp
    PHOTO.save(tmp_path / "b.jpg", "MPO", save_all=True, append_images=[PHOTO.resize((28, 20))])
    assert what_is_lost("c.jpg", read_image(tmp_path / "b.jpg")) == ["the further pictures of the file (MPO)"]


def test_what_other_formats_cannot_hold_is_named(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    PHOTO.save(tmp_path / "a.jpg", xmp=XMP, exif=exif, icc_profile=b"profile", dpi=(300, 300))
    lost = what_is_lost("b.jp2", read_image(tmp_path / "a.jpg"))
    assert lost == ["the resolution (DPI)", "XMP", "EXIF", "the colour profile"]
    deep = ImageFile(np.zeros((8, 8, 3), np.uint16))
    assert what_is_lost("b.jpg", deep) == ["more than 8 bits a channel"]
    PHOTO.convert("CMYK").save(tmp_path / "inks.jpg", icc_profile=b"damaged" * 30)
    inks = read_image(tmp_path / "inks.jpg")
    assert inks.pixels.mode == "RGB"
    assert len(what_is_lost("b.jpg", inks)) == 2
    tifffile.imwrite(tmp_path / "layers.tif", make_photo()[0], extratags=[(37724, 7, 4, b"8BIM", True)])
    assert what_is_lost("b.tif", read_image(tmp_path / "layers.tif")) == ["the layers"]
