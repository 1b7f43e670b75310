import subprocess

import numpy as np
import pytest
import torch
from conftest import make_photo, small_config
from PIL import Image

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, Harmonizer
from aict_hf.errors import InputError
from aict_hf.export.color_cube import apply_curves, cube_error, export_cube, mean_curves, write_cube
from aict_hf.model.image_arrays import photo_arrays
from aict_hf.model.lut import apply_luts


@pytest.fixture
def photo():
    return tuple(torch.from_numpy(array) for array in photo_arrays(*make_photo(61, 83)))


def maps(varying):
    """Knots and colour LUT of a photo, alike everywhere or not."""
    generator = torch.Generator().manual_seed(0)
    side = 5 if varying else 1
    knots = torch.rand(1, 3, 4, side, side, generator=generator).cumsum(2)
    color_lut = torch.rand(1, 3, 6, side, side, generator=generator)
    return (knots / knots[:, :, -1:]).expand(-1, -1, -1, 5, 5), color_lut.expand(-1, -1, -1, 5, 5)


def soft(mask):
    return mask.float() / 255


def test_one_transform_for_all_positions_is_kept(photo):
    composite, mask = photo
    curves = mean_curves(soft(mask), *maps(varying=False), size=256)
    error, change = cube_error(composite, mask, *maps(varying=False), curves)
    assert change > 500
    assert error < 0.5  # curves of 256 nodes miss the corners of the first LUT a little
    full = apply_luts(composite[None] / 255, mask[None] / 255, *maps(varying=False))[0]
    assert (apply_curves(composite, mask, curves) - full).abs().max() < 0.03


def test_the_error_says_what_is_lost_where_it_varies(photo):
    composite, mask = photo
    curves = mean_curves(soft(mask), *maps(varying=True))
    error, change = cube_error(composite, mask, *maps(varying=True), curves)
    assert 50 < error < change
    full = apply_luts(composite[None] / 255, mask[None] / 255, *maps(varying=True))[0]
    by_hand = ((apply_curves(composite, mask, curves) - full) ** 2).sum() / (3 * mask.sum() / 255) * 255**2
    assert error == pytest.approx(float(by_hand), rel=1e-4)


def test_only_the_foreground_counts(photo):
    _, mask = photo
    knots, color_lut = (tensor.clone() for tensor in maps(varying=True))
    before = mean_curves(soft(mask), knots, color_lut)
    color_lut[..., 0, :] = 0  # the mask is 0 along all borders
    changed = mean_curves(soft(mask), knots, color_lut)
    assert not torch.equal(before, changed)  # rows between reach into it
    inside = torch.zeros_like(mask, dtype=torch.float32)
    inside[:, 30:40] = 1
    torch.testing.assert_close(mean_curves(inside, knots, color_lut), mean_curves(inside, *maps(varying=True)))


def in_pillow(path, photo):
    return np.asarray(Image.fromarray(photo).filter(pytest.importorskip("pillow_lut").load_cube_file(str(path))))


def in_ffmpeg(path, photo):
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    Image.fromarray(photo).save(path.parent / "in.png")
    command = [ffmpeg, "-loglevel", "error", "-i", "in.png", "-vf", f"lut3d={path.name}:interp=trilinear", "out.png"]
    subprocess.run(command, check=True, cwd=path.parent, timeout=600)
    return np.asarray(Image.open(path.parent / "out.png").convert("RGB"))


@pytest.mark.parametrize("program", [in_pillow, in_ffmpeg])
def test_other_programs_read_it_as_we_apply_it(program, photo, tmp_path):
    composite, mask = photo
    curves = mean_curves(soft(mask), *maps(varying=True))
    write_cube(tmp_path / "look.cube", curves, title='a "look"\nñ')
    pixels = composite.permute(1, 2, 0).numpy()
    expected = apply_curves(composite, torch.full_like(mask, 255), curves).permute(1, 2, 0).numpy() * 255
    assert np.abs(program(tmp_path / "look.cube", pixels) - expected).max() <= 1.01
    assert np.abs(expected - pixels).mean() > 5


def test_bad_input_is_explained(photo, tmp_path):
    _, mask = photo
    with pytest.raises(ValueError, match="has no foreground"):
        mean_curves(torch.zeros_like(soft(mask)), *maps(varying=True))
    with pytest.raises(ValueError, match=r"257 intensities a channel; a .cube file holds 2 to 256"):
        write_cube(tmp_path / "a.cube", torch.zeros(3, 257), title="")
    assert not list(tmp_path.iterdir())


def test_export_cube_writes_what_the_parts_give(tmp_path, harmonizer):
    photo, mask = make_photo()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    loss = export_cube(tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "look.cube", harmonizer, size=5)
    [luts] = harmonizer.predict(photo, mask)
    _, small = luts.photo.low_resolution((32, 32))
    curves = mean_curves(torch.from_numpy(small), luts.knots[None], luts.color_lut[None], size=5)
    write_cube(tmp_path / "expected.cube", curves, title="AICT, photo")
    assert (tmp_path / "look.cube").read_text() == (tmp_path / "expected.cube").read_text()
    rgb, weight = torch.from_numpy(luts.photo.rgb), torch.from_numpy(luts.photo.mask)
    assert loss == cube_error(rgb, weight, luts.knots[None], luts.color_lut[None], curves)


def test_export_cube_takes_foregrounds_of_one_pixel_but_not_empty_ones(tmp_path, harmonizer):
    Image.fromarray(make_photo(400, 400)[0]).save(tmp_path / "photo.png")
    mask = np.zeros((400, 400), np.uint8)
    Image.fromarray(mask).save(tmp_path / "empty.png")
    with pytest.raises(InputError, match=r"empty\.png: .*has no foreground"):
        export_cube(tmp_path / "photo.png", tmp_path / "empty.png", tmp_path / "look.cube", harmonizer, size=3)
    assert not (tmp_path / "look.cube").exists()
    mask[0, 0] = 255  # between the samples of the network's copy
    Image.fromarray(mask).save(tmp_path / "tiny.png")
    export_cube(tmp_path / "photo.png", tmp_path / "tiny.png", tmp_path / "look.cube", harmonizer, size=3)
    assert (tmp_path / "look.cube").exists()


def test_export_cube_needs_the_luts_of_aict(tmp_path):
    network = AICTModel(AICTConfig.from_dict(small_config().to_dict() | {"color_transform": "curves"})).eval()
    photo, mask = make_photo()
    for name, pixels in (("photo", photo), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    files = [tmp_path / name for name in ("photo.png", "mask.png", "look.cube")]
    with pytest.raises(InputError, match=r"^the checkpoint's color_transform is curves; \.cube files are made from"):
        export_cube(*files, Harmonizer(network, AICTImageProcessor(size=32)))
    assert not files[2].exists()
