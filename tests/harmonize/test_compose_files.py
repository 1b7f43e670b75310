import numpy as np
import pytest
from conftest import make_photo, photo_of_a_ball
from PIL import Image, ImageCms

from aict_hf.compose.cutout import find_object, open_session
from aict_hf.errors import InputError, NothingPastedError
from aict_hf.files.images import ImageFile
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


@pytest.fixture
def ball(rembg_home, files):
    """A photo of a ball, and the mask that rembg finds."""
    photo, _ = photo_of_a_ball()
    Image.fromarray(photo).save(files / "ball.png")
    mask = find_object(ImageFile(Image.fromarray(photo)), open_session("u2net"))
    Image.fromarray(mask).save(files / "found.png")
    return files


@pytest.mark.parametrize("decontaminate", [None, False])
def test_cutting_out_is_pasting_with_the_mask_that_rembg_finds(ball, decontaminate):
    clean = ComposeOptions(position=(50, 30), decontaminate=decontaminate is None)
    cut, background, said = ComposeOptions(position=(50, 30), decontaminate=decontaminate), ball / "photo.png", []
    written = {"mask_output": ball / "out_mask.png", "say": said.append, "warn": pytest.fail}
    compose_files(ball / "ball.png", None, background, ball / "out.png", None, cut, cut_out="u2net", **written)
    found = ball / "found.png"
    compose_files(ball / "ball.png", found, background, ball / "other.png", None, clean, mask_output=ball / "m.png")
    assert np.array_equal(levels(ball / "out.png"), levels(ball / "other.png"))
    assert np.array_equal(levels(ball / "out_mask.png"), levels(ball / "m.png"))
    edges = "keep their colours" if decontaminate is False else "are decontaminated"
    share = levels(found).mean() / 255
    assert said == [f"{ball / 'ball.png'}: u2net cut out {share:.1%} of it; its soft edges {edges}"]


def test_a_session_cuts_out_several_photos(ball):
    session = open_session("u2net")
    for name in ("one.png", "two.png"):
        compose_files(ball / "ball.png", None, ball / "photo.png", ball / name, None, cut_out=session)
    assert np.array_equal(levels(ball / "one.png"), levels(ball / "two.png"))


def test_what_cannot_be_cut_out_is_said_and_writes_nothing(ball, monkeypatch):
    inputs = ball / "ball.png", ball / "found.png", ball / "photo.png", ball / "out.png"
    with pytest.raises(InputError, match=r"found\.png: is the mask of .*ball\.png already"):
        compose_files(*inputs, None, cut_out="u2net")
    with pytest.raises(InputError, match=r"cutout\.png: is transparent in places already"):
        compose_files(ball / "cutout.png", None, *inputs[2:], None, cut_out="u2net")
    Image.new("RGB", (20, 20), "gray").save(ball / "flat.png")
    with pytest.raises(InputError, match=r"flat\.png: u2net found no object"):
        compose_files(ball / "flat.png", None, *inputs[2:], None, cut_out="u2net")
    with pytest.raises(InputError, match=r"^no_model: is not a model of rembg"):
        compose_files(ball / "ball.png", None, *inputs[2:], None, cut_out="no_model")
    assert not (ball / "out.png").exists()


def test_an_opaque_alpha_channel_is_no_obstacle(ball):
    with Image.open(ball / "ball.png") as photo:
        photo.convert("RGBA").save(ball / "opaque.png")
    for name in ("ball", "opaque"):
        output = ball / f"{name}_out.png"
        compose_files(ball / f"{name}.png", None, ball / "photo.png", output, None, cut_out="u2net")
    assert np.array_equal(levels(ball / "ball_out.png"), levels(ball / "opaque_out.png"))
