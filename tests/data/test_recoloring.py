import cv2
import numpy as np
import pytest
from conftest import make_photo

from aict_hf.data.recoloring import (
    TRANSFERS,
    RecoloringOptions,
    covariance_transfer,
    distribution_transfer,
    histogram_transfer,
    recolor_foreground,
    reinhard_transfer,
    varied_light,
)


@pytest.fixture
def colors():
    """Foreground and reference colours with clearly different statistics."""
    rng = np.random.default_rng(0)
    pixels = rng.normal([0.4, 0.5, 0.3], [0.1, 0.06, 0.05], (4000, 3)).clip(0, 1)
    mixing = np.array([[0.08, 0.05, 0.0], [0.0, 0.08, 0.03], [0.02, 0.0, 0.08]])
    reference = (rng.normal(size=(3000, 3)) @ mixing + [0.55, 0.4, 0.5]).clip(0, 1)
    return pixels.astype(np.float32), reference.astype(np.float32)


def lab(pixels):
    return cv2.cvtColor(pixels[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


def test_reinhard_gives_the_references_lab_statistics(colors):
    pixels, reference = colors
    result = lab(reinhard_transfer(pixels, reference))
    np.testing.assert_allclose(result.mean(axis=0), lab(reference).mean(axis=0), atol=0.5)
    np.testing.assert_allclose(result.std(axis=0), lab(reference).std(axis=0), rtol=0.05)


def test_covariance_gives_the_references_mean_and_covariance(colors):
    pixels, reference = colors
    result = covariance_transfer(pixels, reference)
    np.testing.assert_allclose(result.mean(axis=0), reference.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(np.cov(result.T), np.cov(reference.T), atol=3e-4)


def test_histogram_gives_the_references_quantiles(colors):
    pixels, reference = colors
    result = histogram_transfer(pixels, reference)
    for quantile in (0.05, 0.3, 0.5, 0.9):
        np.testing.assert_allclose(
            np.quantile(result, quantile, axis=0), np.quantile(reference, quantile, axis=0), atol=0.01
        )


def test_distribution_gives_more_than_each_channels_histogram(colors):
    pixels, reference = colors
    along = np.array([1, -1, 1], dtype=np.float32) / 3**0.5  # no channel's axis
    errors = [
        np.abs(np.quantile(result @ along, [0.1, 0.5, 0.9]) - np.quantile(reference @ along, [0.1, 0.5, 0.9])).max()
        for result in (
            histogram_transfer(pixels, reference),
            distribution_transfer(pixels, reference, np.random.default_rng(0), iterations=12),
        )
    ]
    assert errors[1] < errors[0] / 2


def references():
    return [make_photo(seed=seed)[0].reshape(-1, 3) for seed in (5, 6, 7)]


@pytest.mark.parametrize("method", TRANSFERS)
def test_every_method_changes_the_foreground_alone_and_is_repeatable(method):
    photo, mask = make_photo()
    options = RecoloringOptions(weights={method: 1.0}, attempts=50)
    first, second = (recolor_foreground(photo, mask, references(), np.random.default_rng(3), options) for _ in "12")
    assert first.method == method
    assert np.array_equal(first.composite, second.composite)
    assert np.array_equal(first.composite[mask == 0], photo[mask == 0])
    assert options.change[0] <= first.change <= options.change[1]
    other = recolor_foreground(photo, mask, references(), np.random.default_rng(4), options)
    assert not np.array_equal(first.composite, other.composite)


def test_change_is_the_composites_fmse():
    photo, mask = make_photo()
    result = recolor_foreground(photo, mask // 255 * 255, references(), np.random.default_rng(0))
    hard = mask == 255
    error = ((result.composite.astype(float) - photo)[hard] ** 2).mean()
    assert result.change == pytest.approx(error, rel=0.02)


def test_implausible_draws_are_thrown_away():
    photo, mask = make_photo()
    impossible = RecoloringOptions(change=(1e6, 2e6))
    assert recolor_foreground(photo, mask, references(), np.random.default_rng(0), impossible) is None
    white = [np.full((500, 3), 255, np.uint8)]
    covariance = RecoloringOptions(weights={"covariance": 1.0}, change=(0, 1e9), max_clipped=0.0)
    noisy = np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8)
    assert recolor_foreground(noisy, mask, [white[0] // 2, white[0]], np.random.default_rng(0), covariance) is not None


def test_harmonious_composites_are_the_photo():
    photo, mask = make_photo()
    options = RecoloringOptions(harmonious_probability=1.0)
    result = recolor_foreground(photo, mask, references(), np.random.default_rng(0), options)
    assert np.array_equal(result.composite, photo)
    assert (result.method, result.change) == ("harmonious", 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photo": np.zeros((8, 8, 3))}, "photo has dtype float64"),
        ({"mask": np.zeros((8, 9), np.uint8)}, r"mask has .* expected uint8 \(8, 8\)"),
        ({"mask": np.zeros((8, 8), np.uint8)}, "no foreground"),
        ({"references": []}, "no reference colours"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, words):
    arguments = {"photo": np.zeros((8, 8, 3), np.uint8), "mask": np.full((8, 8), 255, np.uint8), "references": [1]}
    with pytest.raises(ValueError, match=words):
        recolor_foreground(**(arguments | change), rng=np.random.default_rng(0))


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="expected weights of reinhard"):
        RecoloringOptions(weights={"magic": 1.0})


def test_light_varies_smoothly_and_is_tinted():
    fields = [varied_light((60, 80), np.random.default_rng(seed), spread=(0.2, 0.2), tint=0.05) for seed in range(300)]
    logarithms = np.log(np.stack(fields))
    assert logarithms.shape == (300, 60, 80, 3)
    assert logarithms.std() == pytest.approx(0.17, abs=0.03)  # 0.2 at the nodes of the field, less between them
    assert np.abs(np.diff(logarithms, axis=2)).max() < 0.05
    tint = logarithms - logarithms.mean(axis=3, keepdims=True)
    assert 0.01 < tint.std() < 0.05
    assert np.allclose(varied_light((8, 8), np.random.default_rng(0), spread=(0, 0), tint=0), 1)


def test_recoloring_with_light_changes_places_differently():
    photo, mask = make_photo(60, 80)
    photo[:] = 120
    reference = np.random.default_rng(0).integers(0, 256, (500, 3), dtype=np.uint8)
    spreads = {}
    for light in (0.0, 1.0):
        options = RecoloringOptions(light_probability=light, light=(0.3, 0.3), weights={"photographic": 1})
        recolored = recolor_foreground(photo, mask, [reference], np.random.default_rng(1), options)
        assert np.array_equal(recolored.composite[mask == 0], photo[mask == 0])
        spreads[light] = recolored.composite[mask == 255].std(axis=0).max()
    assert spreads[0.0] == 0
    assert spreads[1.0] > 5


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"light_probability": 1.5}, "light_probability is 1.5; expected 0 to 1"),
        ({"harmonious_probability": -0.1}, "harmonious_probability is -0.1"),
        ({"change": (50.0, 10.0)}, "the smaller one first"),
        ({"light_tint": -1.0}, "light_tint is -1.0"),
    ],
)
def test_impossible_options_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        RecoloringOptions(**fields)
