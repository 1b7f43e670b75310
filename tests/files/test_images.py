import io
import struct
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import pyvips
import tifffile
from conftest import make_photo
from PIL import ExifTags, Image, ImageCms

from aict_hf.errors import InputError
from aict_hf.files.images import ImageFile, in_profile, output_format, read_image, write_image

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_with(orientation=1):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.LensModel: "50 mm", ExifTags.Base.ExposureTime: 0.01})
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_upright_with_profile_and_exif(tmp_path, suffix, orientation):
    photo, _ = make_photo()
    turned = np.rot90(photo, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
    source = tmp_path / f"in{suffix}"
    options = {} if suffix == ".tif" else {"quality": 100}
    if suffix == ".tif":  # Pillow cannot write them all
        write_image(source, ImageFile(Image.fromarray(turned.copy()), PROFILE, exif_with(orientation).tobytes()))
    else:
        Image.fromarray(turned.copy()).save(source, exif=exif_with(orientation), icc_profile=PROFILE, **options)
    read = read_image(source)
    assert read.size == (photo.shape[1], photo.shape[0])
    assert np.abs(np.asarray(read.pixels).astype(int) - photo).mean() < 6
    for target in (".png", ".jpg", ".webp", ".tif"):
        write_image(tmp_path / f"out{target}", read)
        with Image.open(tmp_path / f"out{target}") as result:
            assert result.size == read.size
            assert result.info["icc_profile"] == PROFILE
            assert result.getexif()[ExifTags.Base.Artist] == "A. Photographer"
            assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1
            assert result.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "50 mm"
            assert result.getexif().get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
            assert np.abs(np.asarray(result.convert("RGB")).astype(int) - photo).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, suffix, bands):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, bands), dtype=np.uint16)
    values = values[..., 0] if bands == 1 else values
    exif = exif_with()
    profile = PROFILE if bands > 1 else None  # an RGB profile does not fit a gray image
    image = ImageFile(values, icc_profile=profile, exif=exif.tobytes())
    write_image(tmp_path / f"a{suffix}", image)
    read = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.asarray(read.pixels), values)
    assert read.icc_profile == profile
    assert b"A. Photographer" in read.exif
    assert b"50 mm" in read.exif
    if bands == 3:
        write_image(tmp_path / "a.jpg", read)
        with Image.open(tmp_path / "a.jpg") as result:
            assert (result.mode, result.size) == ("RGB", (30, 20))


def test_sixteen_bit_files_are_turned_upright(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    image = pyvips.Image.new_from_array(np.rot90(values).copy(), interpretation="rgb16").copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.write_to_file(str(tmp_path / "a.png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, values)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGBA", "RGBA"), ("CMYK", "RGB"), ("I;16", "I;16")],
)
def test_modes_that_lose_colour_are_widened(tmp_path, mode, expected):
    photo = Image.fromarray(make_photo()[0])
    photo = photo.quantize(32) if mode == "P" else photo.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(photo).astype(np.uint16) * 256)
    photo.save(tmp_path / "a.tif")
    read = read_image(tmp_path / "a.tif")
    assert (read.pixels.mode if isinstance(read.pixels, Image.Image) else "I;16") == expected


def test_formats_that_cannot_hold_the_image(tmp_path):
    photo, mask = make_photo()
    rgba = ImageFile(Image.fromarray(np.dstack([photo, mask])))
    with pytest.raises(InputError, match="JPEG cannot hold the alpha channel"):
        write_image(tmp_path / "a.jpg", rgba)
    write_image(tmp_path / "opaque.jpg", ImageFile(Image.fromarray(photo).convert("RGBA")))
    write_image(tmp_path / "gray.webp", ImageFile(Image.fromarray(mask), icc_profile=b"describes gray"))
    with Image.open(tmp_path / "gray.webp") as result:
        assert result.mode == "RGB"
        assert "icc_profile" not in result.info
    with pytest.raises(InputError, match="16383"):
        write_image(tmp_path / "wide.webp", ImageFile(Image.new("RGB", (16384, 1))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gray.webp", "opaque.jpg"]


def test_cmyk_becomes_srgb_and_keeps_its_blacks(tmp_path):
    inks = Image.new("CMYK", (8, 8), (0, 0, 0, 128))
    inks.save(tmp_path / "a.jpg", icc_profile=PROFILE)  # a profile that does not fit is passed over
    read = read_image(tmp_path / "a.jpg")
    assert read.pixels.mode == "RGB"
    assert read.icc_profile is None
    assert np.abs(np.asarray(read.pixels).astype(int) - 127).max() <= 3


def test_jpegs_have_quality_95(tmp_path):
    write_image(tmp_path / "a.jpg", ImageFile(Image.new("RGB", (8, 8))))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as ours, Image.open(tmp_path / "b.jpg") as expected:
        assert ours.quantization == expected.quantization


def test_exif_too_large_for_jpeg_is_left_out(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    write_image(tmp_path / "a.jpg", ImageFile(Image.new("RGB", (8, 8)), exif=exif.tobytes()))
    with Image.open(tmp_path / "a.jpg") as result:
        assert len(result.getexif()) == 0


def test_a_sixteen_bit_file_that_changed_is_read_anew(tmp_path):
    for value in (1000, 60000):
        write_image(tmp_path / "a.png", ImageFile(np.full((9, 9, 3), value, np.uint16)))
        assert read_image(tmp_path / "a.png").pixels.max() == value


def test_planar_and_gray_alpha_tiffs_keep_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "planar.tif", values.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif").pixels, values)
    write_image(tmp_path / "la.tif", ImageFile(values[..., :2].copy()))
    np.testing.assert_array_equal(read_image(tmp_path / "la.tif").pixels, values[..., [0, 0, 0, 1]])


def test_reading_in_threads_keeps_pillows_limit(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    limit = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read_image, [tmp_path / "a.png"] * 200))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_only_what_was_kept_is_written(tmp_path):
    photo = Image.fromarray(make_photo()[0])
    photo.info["exif"] = exif_with(6).tobytes()
    write_image(tmp_path / "a.png", ImageFile(photo))
    with Image.open(tmp_path / "a.png") as result:
        assert len(result.getexif()) == 0
    assert photo.info["exif"]


def test_unknown_extensions_and_unwritable_places(tmp_path):
    image = ImageFile(Image.new("RGB", (4, 4)))
    for name in ("a.xyz", "a"):
        with pytest.raises(InputError, match=r"cannot write .* use \.png"):
            output_format(tmp_path / name)
    with pytest.raises(InputError, match=r"nowhere/a\.png: cannot be written"):
        write_image(tmp_path / "nowhere" / "a.png", image)


def encoded(format_name, **options):
    buffer = io.BytesIO()
    Image.fromarray(make_photo(120, 160)[0]).save(buffer, format_name, **options)
    return buffer.getvalue()


HALF = {name: (whole := encoded(name))[: len(whole) // 2] for name in ("JPEG", "PNG", "TIFF", "WEBP")}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello", "is not an image"),
        ("half.jpg", HALF["JPEG"], "cannot be decoded"),
        ("half.png", HALF["PNG"], "cannot be decoded"),
        ("half.tif", HALF["TIFF"], "is not an image|cannot be decoded"),
        ("half.webp", HALF["WEBP"], "cannot be decoded|is not an image"),
        (
            "moving.gif",
            encoded("GIF", save_all=True, append_images=[Image.new("RGB", (160, 120))]),
            "holds several images",
        ),
    ],
)
def test_files_that_are_no_whole_image_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*({words})"):
        read_image(tmp_path / name)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.png: no such file"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"cannot be decoded|is not an image"):
        read_image(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_truncated_sixteen_bit_files_are_named(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 65536, (50, 60, 3), dtype=np.uint16)
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, values, photometric="rgb", rowsperstrip=5)  # its directory comes first
    else:
        write_image(tmp_path / name, ImageFile(values))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{name}: cannot be decoded"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(tmp_path, mode):
    Image.new(mode, (8, 8)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: has 32 bits a pixel"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiffs_of_unknown_kinds_are_told_from_other_files(tmp_path, bigtiff):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 3), np.float32), photometric="rgb", bigtiff=bigtiff)
    with pytest.raises(InputError, match=r"a\.tif: is a TIFF of a kind that cannot be read, such as 32 bits a channel"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"b\.tif: is a TIFF of a kind"):
        read_image("b.tif", content=(tmp_path / "a.tif").read_bytes())


def test_large_images_are_refused_before_decoding(tmp_path):
    Image.new("L", (1000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"1000 x 1000 pixels, over the limit of 0\.5 megapixels"):
        read_image(tmp_path / "a.png", max_megapixels=0.5)
    assert read_image(tmp_path / "a.png", max_megapixels=1).size == (1000, 1000)


def test_our_limit_replaces_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_heic_needs_its_plugin_and_raw_files_a_developer(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "phone.jpg").write_bytes(struct.pack(">I", 24) + b"ftypmif1\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(InputError, match=r"phone\.jpg: is HEIC, .* pip install 'aict_hf\[heif\]'"):
        read_image(tmp_path / "phone.jpg")
    photo = make_photo()[0]
    tags = [(ExifTags.Base.DNGVersion, 1, 4, bytes([1, 4, 0, 0]), True)]
    tifffile.imwrite(tmp_path / "a.tif", photo, subfiletype=1, extratags=tags)
    (tmp_path / "a.dng").write_bytes((tmp_path / "a.tif").read_bytes())
    for name in ("a.tif", "a.dng"):
        with pytest.raises(InputError, match=rf"{name}: is a camera raw file .* rawpy"):
            read_image(tmp_path / name)


def test_the_plugin_for_heic_is_registered_when_it_is_needed(tmp_path, monkeypatch):
    registered = []
    plugin = types.ModuleType("pillow_heif")
    plugin.register_heif_opener = lambda: registered.append(True)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    read_image(tmp_path / "a.png")
    assert not registered
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(InputError):
        read_image(tmp_path / "a.heic")
    assert registered


def test_chosen_formats_say_what_to_save_instead(tmp_path):
    (tmp_path / "a.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(InputError, match=r"a\.heic: is HEIC, which is not accepted here; save it as JPEG or PNG"):
        read_image(tmp_path / "a.heic", formats=("JPEG", "PNG"))
    (tmp_path / "a.pgm").write_bytes(b"P5\n3 2\n65535\n" + bytes(12))
    with pytest.raises(InputError, match=r"a\.pgm: is PPM with 16 bits a channel; save it as PNG or TIFF"):
        read_image(tmp_path / "a.pgm", formats=("PNG", "PPM"))


def test_a_damaged_profile_counts_as_missing():
    photo = ImageFile(Image.fromarray(make_photo()[0]), b"damaged" * 30)
    assert in_profile(photo) is photo.pixels
