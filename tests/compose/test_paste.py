import builtins

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from torch.nn import functional as F

from aict_hf.compose import paste as paste_module
from aict_hf.compose.paste import paste
from aict_hf.errors import InputError


def solid(height, width, color=(200, 40, 10)):
    return np.full((height, width, 3), color, np.uint8), np.full((height, width), 255, np.uint8)


def background(height=60, width=80):
    return make_photo(height, width, seed=5)[0]


def test_a_cut_out_of_its_own_size_lands_to_the_bit():
    rgb, alpha = make_photo(20, 30)[0], np.full((20, 30), 255, np.uint8)
    there = background()
    result = paste(rgb, alpha, there, position=(10 + 15, 5 + 10))
    assert np.array_equal(result.image[5:25, 10:40], rgb)
    assert result.box == (10, 5, 40, 25)
    outside = np.ones(there.shape[:2], bool)
    outside[5:25, 10:40] = False
    assert np.array_equal(result.image[outside], there[outside])
    assert not result.mask[outside].any()
    assert (result.mask[5:25, 10:40] == 255).all()


def test_half_a_pixel_is_half_a_pixel():
    rgb, alpha = solid(10, 10)
    result = paste(rgb, alpha, np.zeros((30, 30, 3), np.uint8), position=(15.5, 15))
    assert abs(int(result.mask[15, 10]) - 128) <= 20  # bicubic's share of a step's middle
    assert abs(int(result.mask[15, 20]) - 128) <= 20
    weights = result.mask.astype(float)
    centre = (weights * (np.arange(30) + 0.5)).sum() / weights.sum()
    assert centre == pytest.approx(15.5, abs=0.01)


@pytest.mark.parametrize(
    "options", [{"scale": 0.37}, {"scale": 2.3}, {"rotation": 33}, {"scale": 0.6, "rotation": -70}]
)
def test_colours_beyond_the_edge_do_not_bleed_in(options):
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[...] = (0, 255, 0)  # what the cut-out leaves behind its alpha
    rgb[10:30, 10:30] = (200, 40, 10)
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    result = paste(rgb, alpha, np.zeros((120, 120, 3), np.uint8), position=(60.3, 59.8), **options)
    share = result.mask.astype(float)[..., None] / 255
    assert result.mask.max() == 255
    assert np.abs(result.image - share * (200, 40, 10)).max() <= 1.5


def test_rotation_is_counterclockwise_and_flip_comes_first():
    rgb, alpha = make_photo(20, 30)[0], np.full((20, 30), 255, np.uint8)
    turned = paste(rgb, alpha, background(), position=(40, 30), rotation=90)
    assert np.abs(turned.image[15:45, 30:50].astype(int) - np.rot90(rgb)).max() <= 1
    both = paste(rgb, alpha, background(), position=(40, 30), rotation=90, flip=True)
    assert np.abs(both.image[15:45, 30:50].astype(int) - np.rot90(rgb[:, ::-1])).max() <= 1


@pytest.mark.parametrize(
    "options", [{}, {"scale": 2.5}, {"scale": 0.3}, {"rotation": 17}, {"scale": 1.7, "rotation": -130, "flip": True}]
)
def test_resampling_is_torchs(options):
    rgb, alpha = make_photo(30, 40)
    alpha[:, :12] = 255
    scale, rotation, (x, y) = options.get("scale", 1), np.radians(options.get("rotation", 0)), (40.3, 30.8)
    layer = torch.from_numpy(np.dstack([rgb / 255.0 * (alpha[..., None] / 255), alpha / 255])).permute(2, 0, 1)[None]
    layer = layer.flip(3) if options.get("flip") else layer
    if scale < 1:
        layer = F.interpolate(layer, size=(9, 12), mode="bilinear", antialias=True)
    columns, rows = np.meshgrid(np.arange(80) + 0.5 - x, np.arange(60) + 0.5 - y)
    u = (np.cos(rotation) * columns - np.sin(rotation) * rows) / (scale * 40 / 2)
    v = (np.sin(rotation) * columns + np.cos(rotation) * rows) / (scale * 30 / 2)
    grid = torch.from_numpy(np.dstack([u, v]))[None]
    *colors, opacity = F.grid_sample(layer, grid, mode="bicubic", align_corners=False)[0].numpy()
    share = opacity.clip(0, 1)
    colors = np.stack(colors, axis=2) * (share / opacity.clip(1e-6))[..., None]
    expected = 255 * colors.clip(0, share[..., None]) + (1 - share[..., None]) * background()
    result = paste(rgb, alpha, background(), position=(x, y), **options)
    assert np.abs(result.mask - 255 * share).max() <= 1
    assert np.abs(result.image - expected).max() <= 1.5


@pytest.mark.parametrize("rotation", [0, 30])
def test_strips_are_not_seen(rotation, monkeypatch):
    rgb, alpha = make_photo(20, 30)
    options = {"position": (40.2, 30.1), "scale": 1.5, "rotation": rotation, "feather": 2}
    whole = paste(rgb, alpha, background(), **options)
    monkeypatch.setattr(paste_module, "STRIP_PIXELS", 100)
    strips = paste(rgb, alpha, background(), **options)
    assert np.array_equal(strips.image, whole.image)
    assert np.array_equal(strips.mask, whole.mask)


def test_a_whole_turn_is_none():
    rgb, alpha = make_photo(20, 30)
    there = background()
    results = [paste(rgb, alpha, there, position=(40.2, 30.1), rotation=rotation).image for rotation in (0, -720)]
    assert np.array_equal(*results)


def test_enlarged_edges_are_soft_on_both_sides():
    rgb, alpha = solid(4, 4)
    result = paste(rgb, alpha, np.zeros((60, 60, 3), np.uint8), position=(30, 30), scale=10)
    assert result.mask[30, 5:15].astype(int) + result.mask[30, 14:4:-1] == pytest.approx(255, abs=1)
    assert result.mask[30, 6] > 0


@pytest.mark.parametrize("scale", [0.21, 0.5, 3.0])
def test_scale_gives_the_size_it_says(scale):
    rgb, alpha = solid(40, 60)
    result = paste(rgb, alpha, np.zeros((200, 300, 3), np.uint8), position=(150.2, 99.6), scale=scale)
    assert result.mask.sum() / 255 == pytest.approx(40 * 60 * scale**2, rel=0.02)


def test_shrinking_does_not_alias():
    checks = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    rgb, alpha = np.stack([checks] * 3, axis=2), np.full((64, 64), 255, np.uint8)
    result = paste(rgb, alpha, np.zeros((40, 40, 3), np.uint8), position=(20, 20), scale=0.25)
    assert np.abs(result.image[15:25, 15:25].astype(int) - 128).max() <= 3


def test_what_hangs_over_is_cut_and_what_misses_is_nothing():
    rgb, alpha = solid(20, 20)
    there = background()
    corner = paste(rgb, alpha, there, position=(0, 60))
    assert corner.box == (0, 50, 10, 60)
    missed = paste(rgb, alpha, there, position=(-100, 30))
    assert missed.box is None
    assert not missed.mask.any()
    assert np.array_equal(missed.image, there)


def test_feathering_softens_the_inside_only():
    rgb, alpha = solid(40, 40)
    hard = paste(rgb, alpha, background(), position=(40, 30))
    soft = paste(rgb, alpha, background(), position=(40, 30), feather=6)
    assert not soft.mask[hard.mask == 0].any()
    assert soft.mask[30, 40] == 255
    assert 0 < soft.mask[30, 22] < 255
    edge = soft.mask[30, 20:32].astype(int)
    assert (np.diff(edge) >= 0).all()


def test_feathering_leaves_the_pictures_border_alone():
    rgb, alpha = solid(40, 40)
    soft = paste(rgb, alpha, background(), position=(0, 30), feather=6)
    assert soft.mask[30, 0] == 255


def test_decontamination_takes_the_old_background_out():
    ramp = np.clip((np.arange(60) - 20) / 20, 0, 1)[None].repeat(40, 0)
    own, old = np.array([180, 60, 20.0]), np.array([0, 255, 0.0])
    photo = (ramp[..., None] * own + (1 - ramp[..., None]) * old).round().astype(np.uint8)
    alpha = (ramp * 255).round().astype(np.uint8)
    black = np.zeros((60, 80, 3), np.uint8)
    results = [paste(photo, alpha, black, position=(40, 30), decontaminate=clean) for clean in (False, True)]
    wanted = results[0].mask[..., None] / 255 * own
    errors = [np.abs(result.image - wanted).max() for result in results]
    assert errors[0] > 40
    assert errors[1] < errors[0] / 5


def test_decontamination_says_what_it_needs(monkeypatch):
    real = builtins.__import__

    def without_pymatting(name, *args, **kwargs):
        if name == "pymatting":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pymatting)
    with pytest.raises(InputError, match=r"aict_hf\[compositing\]"):
        paste(*solid(8, 8), background(), position=(9, 9), decontaminate=True)


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [(lambda image: image.astype(np.uint16) * 257, 1), (lambda image: image / np.float32(255), 1)],
)
def test_a_background_of_any_depth_keeps_it(convert, tolerance):
    rgb, alpha = make_photo(20, 30)
    plain = paste(rgb, alpha, background(), position=(33.3, 21.8), rotation=12)
    deep = paste(rgb, alpha, convert(background()), position=(33.3, 21.8), rotation=12)
    assert deep.image.dtype == convert(background()).dtype
    scale = 255 / (65535 if deep.image.dtype == np.uint16 else 1)
    assert np.abs(deep.image * scale - plain.image).max() <= tolerance
    untouched = plain.mask == 0
    assert np.array_equal(deep.image[untouched], convert(background())[untouched])


def test_cut_outs_and_pil_images_are_taken():
    rgb, alpha = make_photo(20, 30)
    cutout = Image.fromarray(np.dstack([rgb, alpha]))
    one = paste(cutout, None, Image.fromarray(background()), position=(40, 30))
    other = paste(rgb, alpha, background(), position=(40, 30))
    assert np.array_equal(one.image, other.image)
    gray = paste(rgb[..., 0], alpha, background()[..., 0], position=(40, 30))
    assert gray.image.shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale is 0; expected a finite number above 0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"feather": -1}, "feather is -1; expected a width"),
        ({"rotation": float("inf")}, "rotation is inf"),
        ({"position": (1, float("nan"))}, "expected finite x and y"),
    ],
)
def test_bad_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        paste(*solid(8, 8), background(), **{"position": (9, 9)} | options)


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match="mask is 7 x 7, composite is 8 x 8"):
        paste(solid(8, 8)[0], solid(7, 7)[1], background(), position=(9, 9))
    with pytest.raises(ValueError, match="background has shape"):
        paste(*solid(8, 8), np.zeros((4, 5, 6, 7)), position=(9, 9))
    with pytest.raises(ValueError, match="no alpha channel"):
        paste(solid(8, 8)[0], None, background(), position=(9, 9))


def test_boxes_are_around_what_is_at_least_half_opaque():
    rgb, alpha = solid(20, 30)
    alpha[:5], alpha[-5:] = 127, 128
    assert paste(rgb, alpha, background(), position=(40, 30)).box == (25, 25, 55, 40)
