import numpy as np
import pytest
import torch
from conftest import make_photo

from aict_hf.harmonize.scene_cuts import FrameLook
from aict_hf.model.opened_photo import open_photo


def is_cut(first, second):
    looks = [FrameLook.of(open_photo(picture, np.zeros(picture.shape[:2], np.uint8))) for picture in (first, second)]
    return looks[1].is_cut_from(looks[0])


def picture(seed, height=180, width=320):
    """A photo with some coarse detail in colours of its own."""
    smooth, _ = make_photo(height, width, seed=seed)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 9, 3)).repeat(30, axis=0).repeat(36, axis=1)
    return (smooth * 0.5 + blocks[:height, :width] * 0.5).astype(np.uint8)


def brighter(image, gain, lift):
    return (image * gain + lift).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_another_picture_is_a_cut(seed):
    assert is_cut(picture(seed), picture(seed + 1))


@pytest.mark.parametrize("seed", range(5))
def test_a_pan_a_flash_and_a_fade_are_none(seed):
    image, wide = picture(seed), picture(seed, width=324)
    for step in (3, 20, 60):
        assert not is_cut(wide[:, : 320 - step], wide[:, step:320])
    assert not is_cut(image, brighter(image, 1.5, 40))
    assert not is_cut(brighter(image, 1.5, 40), image)
    for level in (0.9, 0.5, 0.1):
        assert not is_cut(brighter(image, level, 0), brighter(image, level - 0.08, 0))
    noise = np.random.default_rng(seed).normal(0, 8, image.shape)
    assert not is_cut(image, (image + noise).clip(0, 255).astype(np.uint8))


def test_a_dissolve_is_none_and_a_jump_to_black_is_one():
    first, second = picture(1), picture(2)
    assert not is_cut((first * 0.55 + second * 0.45).astype(np.uint8), (first * 0.45 + second * 0.55).astype(np.uint8))
    assert is_cut(first, np.zeros_like(first))
    assert not is_cut(np.zeros_like(first), np.zeros_like(first))


def test_all_kinds_of_pixels_look_the_same():
    image = picture(3)
    kinds = [image, image.astype(np.uint16) * 257, image / np.float32(255), torch.from_numpy(image).permute(2, 0, 1)]
    looks = [FrameLook.of(open_photo(kind, np.zeros(image.shape[:2], np.uint8))) for kind in kinds]
    for look in looks[1:]:
        assert np.abs(look.brightness - looks[0].brightness).max() <= 1
        assert np.abs(look.colors - looks[0].colors).sum() < 0.05
