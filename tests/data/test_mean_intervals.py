import numpy as np
import pytest

from aict_hf.data.mean_intervals import mean_intervals


def width(interval):
    low, high = interval
    return (high - low).item()


def test_the_interval_of_many_photos_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    low, high = mean_intervals(values, [str(i) for i in range(400)], resamples=2000)
    expected = 1.96 * values.std() / 20
    assert values.mean() - low.item() == pytest.approx(expected, rel=0.1)
    assert high.item() - values.mean() == pytest.approx(expected, rel=0.1)


def test_composites_of_one_photo_are_drawn_together():
    by_photo = np.random.default_rng(0).normal(5, 2, (60, 1))
    values = np.repeat(by_photo, 4, axis=0)  # four composites of each photo with the same error: no new information
    photos = [str(i // 4) for i in range(240)]
    together = mean_intervals(values, photos, resamples=1000)
    alone = mean_intervals(by_photo, [str(i) for i in range(60)], resamples=1000)
    assert width(together) == pytest.approx(width(alone), rel=0.1)
    separate = mean_intervals(values, [str(i) for i in range(240)], resamples=1000)
    assert width(separate) == pytest.approx(width(alone) / 2, rel=0.1)


def test_photos_count_by_the_number_of_their_images():
    values = np.array([[0.0]] * 30 + [[1.0]] * 10)
    low, high = mean_intervals(values, ["a"] * 30 + [str(i) for i in range(10)])
    assert low.item() < values.mean() < high.item()
    assert high.item() == 1  # no draw of photo a


def test_columns_are_drawn_alike_and_a_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(5, 2, (30, 1))
    photos = [str(i) for i in range(30)]
    low, high = mean_intervals(np.hstack([values, values + 1, 2 * values]), photos, resamples=500)
    np.testing.assert_allclose(low, [low[0], low[0] + 1, 2 * low[0]])
    np.testing.assert_allclose(high, [high[0], high[0] + 1, 2 * high[0]])
    np.testing.assert_array_equal(low[:1], mean_intervals(values, photos, resamples=500)[0])
    assert low[0] != mean_intervals(values, photos, resamples=500, seed=1)[0]


def test_one_photo_has_no_interval_and_equal_figures_have_one_of_no_width():
    low, high = mean_intervals(np.ones((3, 2)), ["a", "a", "a"])
    assert np.isnan([low, high]).all()
    low, high = mean_intervals(np.ones((3, 2)), ["a", "b", "c"])
    assert (low == 1).all()
    assert (high == 1).all()
