import colorsys

import pytest
import torch
from conftest import small_config

from aict_hf import AICTConfig
from aict_hf.model import transform_filters as filters

COLORS = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


def argument(value):
    return torch.full((2, 1, 1, 1), float(value))


def arguments(**given):
    names = ["temperature", "brightness", "contrast", "saturation", "highlight", "shadow"]
    return torch.stack([argument(given.get(name, 0)) for name in names], dim=1)[:, :, 0]


def means_of(colors):
    means = colors.mean(dim=(2, 3), keepdim=True)
    return torch.cat([means, means.mean(dim=1, keepdim=True)], dim=1)


def test_arguments_of_zero_change_nothing():
    torch.testing.assert_close(filters.filter_pixels(COLORS, arguments(), means_of(COLORS)), COLORS, rtol=0, atol=1e-5)


def test_brightness_scales_the_value_of_hsv():
    found = filters.brightness(COLORS, argument(-0.5))
    for before, after in zip(COLORS[0].flatten(1).T, found[0].flatten(1).T, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
        assert colorsys.hsv_to_rgb(hue, saturation, value / 2) == pytest.approx(after.tolist(), abs=1e-5)
    torch.testing.assert_close(filters.brightness(COLORS / 4, argument(0.5)), COLORS / 2)


def test_contrast_stretches_the_colours_around_the_mean():
    mean = COLORS.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(filters.contrast(COLORS, argument(-1), mean), mean.expand_as(COLORS))
    torch.testing.assert_close(filters.contrast(COLORS, argument(-0.5), mean), (COLORS + mean) / 2)
    spread = filters.contrast(COLORS * 0.2 + 0.4, argument(0.5), torch.full_like(mean, 0.5)) - 0.5
    torch.testing.assert_close(spread, 2 * (COLORS * 0.2 - 0.1), rtol=0, atol=1e-5)


def test_saturation_keeps_lightness_and_hue_and_reaches_gray():
    gray = filters.saturation(COLORS, argument(-1))
    torch.testing.assert_close(gray, ((COLORS.amin(1) + COLORS.amax(1)) / 2)[:, None].expand_as(COLORS))
    found = filters.saturation(COLORS, argument(0.3))
    for before, after in zip(COLORS[0].flatten(1).T, found[0].flatten(1).T, strict=True):
        hue, lightness, saturation = colorsys.rgb_to_hls(*before.tolist())
        new_hue, new_lightness, new_saturation = colorsys.rgb_to_hls(*after.tolist())
        assert (new_hue, new_lightness) == pytest.approx((hue, lightness), abs=1e-3)
        assert new_saturation >= saturation - 1e-4


def test_temperature_warms_below_zero_and_cools_above():
    means = means_of(COLORS)[:, :3]
    before = COLORS[:, 0].mean() / COLORS[:, 2].mean()
    warm, cool = (filters.temperature(COLORS, argument(value), means) for value in (-0.2, 0.2))
    # More red in the means lowers the gain of red: the filter divides the cast out, as Harmonizer defines it.
    assert warm[:, 0].mean() / warm[:, 2].mean() < before < cool[:, 0].mean() / cool[:, 2].mean()


def test_highlight_and_shadow_are_powers_of_the_distance_from_white_and_black():
    bright, dark = torch.full((2, 3, 1, 1), 0.9), torch.full((2, 3, 1, 1), 0.1)
    assert filters.highlight(bright, argument(0.5))[0, 0, 0, 0] == pytest.approx(1 - 0.1**1.5, abs=1e-4)
    assert filters.shadow(dark, argument(0.5))[0, 0, 0, 0] == pytest.approx(0.1**0.5, abs=1e-4)


def test_contrast_refers_to_the_mean_after_temperature_and_brightness():
    head = filters.FiltersHead(AICTConfig.from_dict(small_config().to_dict()))
    values = torch.zeros(2, 6, 1, 1)
    values[:, 1] = 10.0
    made, means = head(values, COLORS * 0.4)
    assert made[0, 1, 0, 0] == pytest.approx(filters.LIMIT, abs=1e-6)
    torch.testing.assert_close(means[:, :3], means_of(COLORS * 0.4)[:, :3])
    assert (means[:, 3] > 0.99 * means[:, :3].mean(dim=1)).all()
    assert means[:, 3].mean() > 0.8  # the brightness filter has scaled nearly everything to white
