import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageCms

from aict_hf.errors import InputError, NothingPastedError
from aict_hf.harmonize.compose_files import compose_files
from aict_hf.harmonize.options import ComposeOptions

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def files(tmp_path):
    photo, mask = make_photo()
    Image.fromarray(np.dstack([photo, mask])).save(tmp_path / "cutout.png")
    Image.fromarray(make_photo(60, 90, seed=1)[0]).save(tmp_path / "photo.png", icc_profile=PROFILE)
    return tmp_path


def levels(path):
    return np.asarray(Image.open(path))


def test_the_result_is_the_pasted_photo_harmonized(files, harmonizer):
    inputs = files / "cutout.png", None, files / "photo.png"
    compose_files(*inputs, files / "naive.png", None, mask_output=files / "mask.png")
    compose_files(*inputs, files / "out.png", harmonizer, ComposeOptions(strength=0.5))
    naive, mask, result = (levels(files / name) for name in ("naive.png", "mask.png", "out.png"))
    assert 0 < (mask > 0).sum() < mask.size
    assert np.array_equal(naive[mask == 0], levels(files / "photo.png")[mask == 0])
    assert np.array_equal(result, harmonizer(naive, mask, strength=0.5))
    assert not np.array_equal(result, naive)
    with Image.open(files / "out.png") as opened:
        assert opened.info["icc_profile"] == PROFILE


def test_bad_input_is_refused_and_writes_nothing(files):
    inputs = files / "cutout.png", None, files / "photo.png"
    with pytest.raises(NothingPastedError):
        compose_files(*inputs, files / "out.png", None, ComposeOptions(position=(-500, 0)))
    with pytest.raises(InputError, match="given for the picture and for the mask"):
        compose_files(*inputs, files / "out.png", None, mask_output=files / "out.png")
    with pytest.raises(InputError, match=r"photo\.png: no mask was given"):
        compose_files(files / "photo.png", None, files / "photo.png", files / "out.png", None)
    with pytest.raises(InputError, match="scale is 0; expected"):
        compose_files(*inputs, files / "out.png", None, ComposeOptions(scale=0))
    Image.new("L", (9, 9)).save(files / "small.png")
    with pytest.raises(InputError, match=r"small.png: is 9 x 9 pixels, .*cutout.png is 56 x 40; resize the mask"):
        compose_files(files / "cutout.png", files / "small.png", files / "photo.png", files / "out.png", None)
    Image.new("L", (56, 40), 60).save(files / "dark.png")
    with pytest.raises(InputError, match=r"dark.png: the mask marks nothing to paste: its highest value is 0.235"):
        compose_files(files / "cutout.png", files / "dark.png", files / "photo.png", files / "out.png", None)
    with pytest.raises(InputError, match="strength is 2; expected a share from 0 to 1"):
        ComposeOptions(strength=2)
    assert not (files / "out.png").exists()


def test_weak_masks_are_said(files):
    Image.fromarray(make_photo()[1] // 3 * 2).save(files / "mask.png")
    said = []
    inputs = files / "cutout.png", files / "mask.png", files / "photo.png"
    compose_files(*inputs, files / "out.png", None, warn=said.append)
    [line] = said
    assert "mask.png: the mask's highest level is 170 of 255" in line


def test_hidden_colours_of_the_background_do_not_count(files, harmonizer):
    photo = make_photo(60, 90, seed=1)[0]
    opacity = np.where(np.arange(90) < 45, 0, 255)[None].repeat(60, axis=0).astype(np.uint8)
    results = []
    for hidden in (0, 255):
        colors = np.where(opacity[..., None] > 0, photo, hidden).astype(np.uint8)
        Image.fromarray(np.dstack([colors, opacity])).save(files / "photo.png")
        inputs = files / "cutout.png", None, files / "photo.png", files / "out.png"
        compose_files(*inputs, harmonizer, ComposeOptions(position=(45, 30)), mask_output=files / "mask.png")
        results.append(levels(files / "out.png")[levels(files / "mask.png") == 255])
    assert np.array_equal(*results)
