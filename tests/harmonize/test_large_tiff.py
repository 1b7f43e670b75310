import numpy as np
import pytest
import tifffile
from conftest import make_photo
from PIL import ExifTags, Image, ImageCms

from aict_hf import DEFAULT_CHECKPOINT, Harmonizer
from aict_hf.errors import InputError
from aict_hf.files.exif import append_exif
from aict_hf.harmonize import large_tiff
from aict_hf.harmonize.files import Job, harmonize_files
from aict_hf.harmonize.large_tiff import harmonize_large_tiff, is_large_tiff
from aict_hf.harmonize.onnx_harmonizer import ONNXHarmonizer
from aict_hf.harmonize.options import HarmonizeOptions

pytest.importorskip("pyvips")


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    monkeypatch.setattr(large_tiff, "LARGE_MEGAPIXELS", 0.01)
    monkeypatch.setattr(large_tiff, "TILE", 64)


def write_pair(folder, dtype=np.uint8, bands=3, **options):
    photo, mask = make_photo(180, 250)
    photo = photo.astype(dtype) * (257 if dtype == np.uint16 else 1)
    if bands == 4:
        photo = np.dstack([photo, np.full(mask.shape, 200, dtype)])
        options.setdefault("extrasamples", ["unassalpha"])
    tifffile.imwrite(folder / "photo.tif", photo, photometric="rgb", **options)
    tifffile.imwrite(folder / "mask.tif", mask)
    return folder / "photo.tif", folder / "mask.tif", photo, mask


LAYOUTS = {
    "striped": {"rowsperstrip": 7},
    "tiled": {"tile": (32, 48)},
    "16 bits": {"dtype": np.uint16, "tile": (32, 48)},
    "alpha": {"bands": 4},
    "deflate": {"compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strip_by_strip_is_what_memory_gives(layout, harmonizer, tmp_path, monkeypatch):
    composite, mask, photo, _ = write_pair(tmp_path, **LAYOUTS[layout])
    assert is_large_tiff(composite, mask, tmp_path / "out.tif")
    for invert_mask in (False, True):
        options = HarmonizeOptions(strength=0.8, invert_mask=invert_mask)
        assert harmonize_large_tiff(composite, mask, tmp_path / "out.tif", harmonizer, options)
        with monkeypatch.context() as patch:
            patch.setattr(large_tiff, "LARGE_MEGAPIXELS", 1000)
            report = harmonize_files([Job(composite, mask, tmp_path / "whole.tif")], harmonizer, options)
            assert report.written == 1, report.failures
        ours, whole = (tifffile.imread(tmp_path / name) for name in ("out.tif", "whole.tif"))
        assert ours.dtype == photo.dtype
        difference = np.abs(ours.astype(int) - whole)
        assert difference.max() <= 1  # the mask is 8 bits here, a float there: what lies near half a level
        assert (difference > 0).mean() < (5e-3 if photo.dtype == np.uint16 else 2e-4)
        assert not np.array_equal(ours, photo)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_channel_that_is_no_transparency_is_left_out_at_every_size(dtype, harmonizer, tmp_path, monkeypatch):
    composite, mask, photo, _ = write_pair(tmp_path, dtype, 4, extrasamples=["unspecified"])
    hidden = photo.copy()
    hidden[..., 3] = 0  # as transparency it would hide the foreground
    tifffile.imwrite(composite, hidden, photometric="rgb", extrasamples=["unspecified"])
    results = []
    for limit, name in ((0.01, "strips.tif"), (1000, "whole.tif")):
        monkeypatch.setattr(large_tiff, "LARGE_MEGAPIXELS", limit)
        said = []
        job = Job(composite, mask, tmp_path / name)
        assert is_large_tiff(composite, mask, job.output) == (limit < 1)
        assert harmonize_files([job], harmonizer, warn=said.append).written == 1
        assert said == [
            f"{composite}: not kept in the result: a channel that is neither a colour nor transparency",
        ]
        results.append(tifffile.imread(job.output))
    assert results[0].shape == results[1].shape == (*photo.shape[:2], 3)
    assert np.abs(results[0].astype(int) - results[1]).max() <= 1
    assert not np.array_equal(results[0], photo[..., :3])


def test_onnxruntime_and_numba_do_it_too(tmp_path):
    composite, mask, photo, foreground = write_pair(tmp_path)
    fast = ONNXHarmonizer.from_folder(DEFAULT_CHECKPOINT)
    for name, harmonizer in (("fast", fast), ("slow", Harmonizer.from_pretrained())):
        harmonize_large_tiff(composite, mask, tmp_path / f"{name}.tif", harmonizer)
    fast_result, slow_result = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("fast", "slow"))
    assert np.abs(fast_result.astype(int) - slow_result).max() <= 1
    assert not np.array_equal(fast_result, photo)
    assert np.array_equal(fast_result[foreground == 0], photo[foreground == 0])


def test_profile_exif_and_tiles_are_kept(harmonizer, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    composite, mask, *_ = write_pair(tmp_path, iccprofile=profile)
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    append_exif(composite, exif.tobytes())
    harmonize_large_tiff(composite, mask, tmp_path / "out.tif", harmonizer)
    with Image.open(tmp_path / "out.tif") as result:
        assert result.info["icc_profile"] == profile
        assert result.getexif()[ExifTags.Base.Artist] == "A. Photographer"
    with tifffile.TiffFile(tmp_path / "out.tif") as result:
        assert result.pages[0].is_tiled
    assert {path.name for path in tmp_path.iterdir()} == {"photo.tif", "mask.tif", "out.tif"}


def test_harmonize_files_takes_this_way_for_large_tiffs(harmonizer, tmp_path, monkeypatch):
    composite, _, photo, _ = write_pair(tmp_path)
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros(photo.shape[:2], np.uint8))
    monkeypatch.setattr("aict_hf.harmonize.files._read", None)  # the other way
    warnings = []
    jobs = [Job(composite, tmp_path / name, tmp_path / f"out_{name}") for name in ("mask.tif", "empty.tif")]
    report = harmonize_files(jobs, harmonizer, warn=warnings.append)
    assert (report.written, report.failures) == (2, [])
    assert [(file.width, file.height) for file in report.files] == [(250, 180)] * 2
    assert report.files[0].mask_area == pytest.approx(tifffile.imread(tmp_path / "mask.tif").mean() / 255)
    assert report.files[0].disharmony > 1
    assert (report.files[1].mask_area, report.files[1].disharmony) == (0, 0)
    assert len(warnings) == 1
    assert "empty.tif: the mask has no foreground" in warnings[0]
    assert np.array_equal(tifffile.imread(tmp_path / "out_empty.tif"), photo)


def test_other_files_are_not_for_it(tmp_path):
    composite, mask, photo, foreground = write_pair(tmp_path)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    tifffile.imwrite(tmp_path / "gray.tif", photo[..., 0])
    tifffile.imwrite(tmp_path / "other.tif", foreground[1:])
    out = tmp_path / "out.tif"
    assert is_large_tiff(composite, mask, out)
    assert not is_large_tiff(composite, None, out)
    assert not is_large_tiff(composite, mask, tmp_path / "out.png")
    assert not is_large_tiff(tmp_path / "photo.png", mask, out)
    assert not is_large_tiff(tmp_path / "gray.tif", mask, out)
    assert not is_large_tiff(composite, tmp_path / "other.tif", out)
    assert not is_large_tiff(tmp_path / "nothing.tif", mask, out)


def test_damage_and_limits_are_errors_that_leave_nothing(harmonizer, tmp_path):
    composite, mask, *_ = write_pair(tmp_path)
    with pytest.raises(InputError, match=r"250 x 180 pixels, over the limit of 0.02 megapixels"):
        harmonize_large_tiff(composite, mask, tmp_path / "out.tif", harmonizer, HarmonizeOptions(max_megapixels=0.02))
    cut = tmp_path / "cut.tif"
    tifffile.imwrite(cut, tifffile.imread(composite), photometric="rgb", rowsperstrip=7)
    cut.write_bytes(cut.read_bytes()[:100_000])  # tifffile's directory comes first: the last strips are missing
    with pytest.raises(InputError, match="cannot be decoded"):
        harmonize_large_tiff(cut, mask, tmp_path / "out.tif", harmonizer)
    assert {path.name for path in tmp_path.iterdir()} == {"photo.tif", "mask.tif", "cut.tif"}
