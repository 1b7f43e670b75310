from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import make_photo

from aict_hf.errors import InputError
from aict_hf.harmonize import video as video_module
from aict_hf.harmonize.photo_luts import LUTMaps, PhotoLUTs
from aict_hf.harmonize.video import VideoHarmonizer
from aict_hf.model.opened_photo import open_photo


class Scripted:
    """A harmonizer whose maps hold the numbers that it is given, one for each frame."""

    def __init__(self, values, kind=np):
        self.values, self.kind = iter(values), kind

    def predict_opened(self, photos):
        results = []
        for photo in photos:
            level = np.float32(next(self.values))
            maps = [np.full((3, count, 2, 2), level) for count in (4, 5, 4)]
            results.append(PhotoLUTs(photo, LUTMaps(*(map(torch.from_numpy, maps) if self.kind is torch else maps))))
        return results


def frames(count, *, scenes=1, empty=(), size=(40, 56)):
    """Opened frames, in scenes that look unlike one another."""
    opened = []
    for number in range(count):
        photo, mask = make_photo(*size, seed=7 * (number * scenes // count))
        opened.append(open_photo(photo, np.zeros_like(mask) if number in empty else mask))
    return opened


def levels(results):
    return [float(result.maps.color_lut.mean()) for result in results]


def causal(values, photos, times=None, **options):
    video = VideoHarmonizer(Scripted(values), fps=10, **options)
    times = times or [None] * len(photos)
    return levels([video.predict_opened(photo, time=time) for photo, time in zip(photos, times, strict=True)])


def ahead(values, photos, times=None, **options):
    video = VideoHarmonizer(Scripted(values), fps=10, **options)
    return levels(list(video.look_ahead_opened(iter(photos), times=times)))


VALUES = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_a_causal_result_is_the_mean_of_the_frames_so_far_weighted_by_age():
    decay = np.exp(-0.1 / 0.3)
    expected = []
    for number in range(len(VALUES)):
        weights = decay ** np.arange(number, -1, -1)
        expected.append((weights * VALUES[: number + 1]).sum() / weights.sum())
    assert causal(VALUES, frames(6), smoothing=0.3) == pytest.approx(expected, abs=1e-6)


def test_a_result_that_looks_ahead_weighs_both_sides_alike():
    expected = []
    for center in range(len(VALUES)):
        distance = np.abs(np.arange(len(VALUES)) - center) * 0.1
        weights = np.where(distance < 0.4, 0.5 + 0.5 * np.cos(np.pi * distance / 0.4), 0)
        expected.append((weights * VALUES).sum() / weights.sum())
    assert ahead(VALUES, frames(6), smoothing=0.2) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("way", [causal, ahead])
def test_times_count_not_frames(way):
    times = [0.0, 0.1, 5.0, 5.1]
    near = way([0, 1, 0.5, 0.7], frames(4), times, smoothing=0.2)
    assert near[0] == pytest.approx(way([0, 1], frames(2), smoothing=0.2)[0])
    assert near[3] == pytest.approx(way([0.5, 0.7], frames(2), smoothing=0.2)[1], abs=1e-6)


@pytest.mark.parametrize("way", [causal, ahead])
def test_smoothing_begins_anew_at_a_cut(way):
    photos = frames(6, scenes=2)
    assert way([0.2, 0.2, 0.2, 0.9, 0.9, 0.9], photos, smoothing=1.0) == pytest.approx([0.2] * 3 + [0.9] * 3)
    video = VideoHarmonizer(Scripted(VALUES))
    list(video.look_ahead_opened(photos))
    assert video.cuts == 1


@pytest.mark.parametrize("way", [causal, ahead])
def test_frames_without_foreground_take_no_part(way):
    found = way([0.4, 0.4, 9, 0.4, 0.4], frames(5, empty=[2]), smoothing=1.0)
    assert [found[number] for number in (0, 1, 3, 4)] == pytest.approx([0.4] * 4)


@pytest.mark.parametrize("way", [causal, ahead])
def test_without_smoothing_each_frame_stands_alone(way):
    assert way(VALUES, frames(6), smoothing=0) == VALUES


@pytest.mark.parametrize("kind", [np, torch])
def test_maps_may_be_arrays_or_tensors_and_results_keep_theirs(kind):
    photos = frames(3)
    video = VideoHarmonizer(Scripted([0.0, 1.0, 0.5], kind), smoothing=1.0)
    first = video.predict_opened(photos[0]).maps
    before = float(first.knots.sum())
    later = video.predict_opened(photos[1]).maps
    assert float(first.knots.sum()) == before  # what was handed out is not changed
    assert all(type(values) is (np.ndarray if kind is np else torch.Tensor) for values in later)
    assert {str(values.dtype).removeprefix("torch.") for values in later} == {"float32"}


def test_frames_that_wait_are_bounded_and_the_filter_stays_symmetric(monkeypatch):
    photos = frames(8)
    monkeypatch.setattr(video_module, "MAX_WAITING", 3 * (photos[0].rgb.nbytes + photos[0].mask.nbytes))
    read = []

    def source():
        for number, photo in enumerate(photos):
            read.append(number)
            yield photo

    video = VideoHarmonizer(Scripted(range(8)), fps=10, smoothing=10)
    lags, found = [], []
    for done, result in enumerate(video.look_ahead_opened(source())):
        lags.append(len(read) - done)
        found.append(float(result.maps.knots.mean()))
    assert len(found) == 8
    assert max(lags) <= 4
    assert found[3] == pytest.approx(3.0, abs=0.2)


def test_calls_return_frames_of_the_same_kind(harmonizer):
    photo, mask = make_photo()
    video = VideoHarmonizer(harmonizer, smoothing=0.5)
    assert np.array_equal(video(photo, mask), harmonizer(photo, mask))
    second = video(photo[:, ::-1].copy(), mask[:, ::-1].copy())
    assert second.dtype == np.uint8
    assert not np.array_equal(second, harmonizer(photo[:, ::-1].copy(), mask[:, ::-1].copy()))
    outside = mask[:, ::-1] == 0
    assert np.array_equal(second[outside], photo[:, ::-1][outside])
    results = list(video.look_ahead([(photo, mask)] * 3, times=[0, 1, 2]))
    assert all(np.abs(result.astype(int) - harmonizer(photo, mask)).max() <= 1 for result in results)


def test_reset_forgets_and_strength_is_applied(harmonizer):
    photo, mask = make_photo()
    other, other_mask = make_photo(seed=1)
    video = VideoHarmonizer(harmonizer, strength=0.5)
    video(other, other_mask)
    video.reset()
    assert np.array_equal(video(photo, mask), harmonizer(photo, mask, strength=0.5))


def test_flicker_of_a_still_scene_shrinks(harmonizer):
    photo, mask = make_photo()
    rng = np.random.default_rng(0)
    noisy = [(photo + rng.normal(0, 12, photo.shape)).clip(0, 255).astype(np.uint8) for _ in range(12)]
    opened = [open_photo(frame, mask) for frame in noisy]

    def flicker(luts):
        # The same photo under each frame's maps: only the maps may change it.
        shown = [replace(one, photo=open_photo(photo, mask)).apply().astype(int) for one in luts]
        return np.mean([np.abs(a - b).mean() for a, b in pairwise(shown)])

    alone = flicker([harmonizer.predict_opened([one])[0] for one in opened])
    video = VideoHarmonizer(harmonizer, smoothing=0.5)
    steady = flicker([video.predict_opened(one) for one in opened])
    steadier = flicker(list(video.look_ahead_opened(opened)))
    assert steadier < steady < 0.5 * alone


def test_what_cannot_be_used_is_refused(harmonizer):
    for options in ({"smoothing": -1}, {"smoothing": float("nan")}, {"fps": 0}, {"strength": 2}):
        with pytest.raises(InputError, match=next(iter(options))):
            VideoHarmonizer(harmonizer, **options)
    video = VideoHarmonizer(harmonizer)
    photo, mask = make_photo()
    video(photo, mask, time=3.0)
    with pytest.raises(InputError, match="expected a later one"):
        video(photo, mask, time=3.0)
    with pytest.raises(InputError, match="fewer times than frames"):
        list(video.look_ahead([(photo, mask)] * 3, times=[0, 1]))
