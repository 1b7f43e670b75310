from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import make_photo, write_shards
from PIL import Image
from torch.utils.data import DataLoader

from aict_hf.data.photos import Triplet, stream_photos
from aict_hf.data.recoloring import RecoloringOptions
from aict_hf.data.training_samples import SampleOptions, StreamedSamples, TrainingSamples, jointly_changed
from aict_hf.errors import InputError
from aict_hf.files.photo_pools import MaskedPhoto

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # see half_read
EVERYTHING = SampleOptions(resolution=32, borrowed_mask=0.5, inverted_mask=0.5, mask_error=0.5, scene_change=0.5)


@pytest.fixture
def photos(tmp_path):
    made = []
    for seed in range(6):
        photo, mask = make_photo(60, 80, seed=seed)
        paths = tmp_path / f"{seed}.png", tmp_path / f"{seed}_mask.png"
        for array, path in zip((photo, mask), paths, strict=True):
            Image.fromarray(array).save(path)
        made.append(MaskedPhoto(*paths, paths[0].name, "object"))
    return made


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in ("composite", "mask", "real"))


def test_a_sample_depends_on_its_number_alone(photos):
    whole = TrainingSamples(photos, EVERYTHING, seed=0, length=20)
    later = TrainingSamples(photos, EVERYTHING, seed=0, length=8, start=12)
    assert len(later) == 8
    for index in (7, 0, 3):
        assert same(later[index], whole[12 + index])
    assert not same(TrainingSamples(photos, EVERYTHING, seed=1, length=20)[0], whole[0])


def test_options_out_of_their_range_are_named():
    for changes, words in (
        ({"flip": 1.5}, "flip is 1.5; expected 0 to 1"),
        ({"source_balance": -0.1}, "source_balance is -0.1; expected 0 to 1"),
        ({"crop": (0.9, 0.5)}, "the smaller one first"),
        ({"crop": (0.0, 1.0)}, "expected two numbers over 0 and up to 1"),
        ({"resolution": -1}, "resolution is -1; expected 0 or more pixels"),
    ):
        with pytest.raises(ValueError, match=words):
            SampleOptions(**changes)


def test_every_photo_is_drawn_once_before_any_is_again(photos):
    samples = TrainingSamples(photos, SampleOptions(resolution=16, lost_foreground=0.0), seed=0, length=12)
    names = [samples[index]["name"] for index in range(12)]
    assert set(names[:6]) == set(names[6:]) == {photo.name for photo in photos}
    assert names[:6] != names[6:]


@pytest.mark.parametrize(("balance", "share"), [(0.0, 1 / 6), (0.5, 1 / (1 + 5**0.5)), (1.0, 1 / 2)])
def test_photos_of_a_rare_source_come_more_often_when_balanced(photos, balance, share):
    photos = [replace(photo, source="rare" if index == 0 else "common") for index, photo in enumerate(photos)]
    options = SampleOptions(resolution=16, lost_foreground=0.0, source_balance=balance)
    samples = TrainingSamples(photos, options, seed=0, length=300)
    drawn = [samples[index]["name"] for index in range(300)]
    assert drawn.count(photos[0].name) / 300 == pytest.approx(share, abs=0.09)
    assert set(drawn) == {photo.name for photo in photos}
    later = TrainingSamples(photos, options, seed=0, length=3, start=290)
    assert [later[index]["name"] for index in range(3)] == drawn[290:293]


@pytest.mark.parametrize("resolution", [0, 24])
def test_samples_are_composites_of_their_real_photo(photos, resolution):
    samples = TrainingSamples(photos, SampleOptions(resolution=resolution, lost_foreground=0), seed=0, length=10)
    for index in range(10):
        sample = samples[index]
        composite, mask, real = sample["composite"], sample["mask"], sample["real"]
        assert composite.dtype == mask.dtype == real.dtype == torch.uint8
        assert composite.shape == real.shape == (3, *mask.shape[1:])
        if resolution:
            assert mask.shape == (1, resolution, resolution)
        background = (mask == 0).expand_as(real)
        assert torch.equal(composite[background], real[background])
        assert not torch.equal(composite, real)


def test_harmonious_samples_need_no_change(photos):
    options = SampleOptions(recoloring=RecoloringOptions(harmonious_probability=1.0))
    sample = TrainingSamples(photos, options, seed=0, length=1)[0]
    assert torch.equal(sample["composite"], sample["real"])


def test_new_colors_come_from_the_same_category_where_it_is_common(photos):
    kinds = ["dog", "dog", "dog", "dog", "cat", "cat"]
    photos = [replace(photo, category=kind) for photo, kind in zip(photos, kinds, strict=True)]
    samples = TrainingSamples(photos, replace(EVERYTHING, same_category=1.0), seed=0, length=40)
    asked = []
    load = samples._load
    samples._load = lambda photo: asked.append(photo.category) or load(photo)
    for index in range(40):
        asked.clear()
        samples[index]
        if asked[0] == "dog":
            assert set(asked) == {"dog"}
    others = TrainingSamples(photos, replace(EVERYTHING, same_category=0.0), seed=0, length=40)
    assert not all(same(samples[index], others[index]) for index in range(40))


def test_a_joint_change_is_the_same_for_both(photos):
    options = SampleOptions(joint_change=1.0, recoloring=RecoloringOptions(harmonious_probability=1.0))
    sample = TrainingSamples(photos, options, seed=0, length=1)[0]
    assert torch.equal(sample["composite"], sample["real"])
    plain = TrainingSamples(photos, replace(options, joint_change=0.0), seed=0, length=1)[0]
    assert (sample["real"].float() - plain["real"].float()).abs().mean() > 2


def test_jointly_changed_photos_get_gain_gamma_and_saturation():
    photo = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    [changed] = jointly_changed([photo], np.random.default_rng(0))
    rng = np.random.default_rng(0)
    gain, gamma, saturation = np.exp(rng.normal(0, 0.12, 3)), np.exp(rng.normal(0, 0.18)), np.exp(rng.normal(0, 0.2))
    levels = (photo / 255 * gain).clip(0, 1) ** gamma * 255
    gray = levels @ [0.299, 0.587, 0.114]
    expected = (gray[..., None] + saturation * (levels - gray[..., None])).clip(0, 255)
    assert np.abs(changed - expected).max() <= 2  # levels are rounded twice


def test_a_weaker_change_lies_between_composite_and_real(photos):
    options = SampleOptions(resolution=24, lost_foreground=0.0)
    samples, weaker = (
        TrainingSamples(photos, replace(options, weaker_change=share), seed=0, length=5) for share in (0.0, 1.0)
    )
    for index in range(5):
        full, part = (data[index]["composite"].float() - data[index]["real"].float() for data in (samples, weaker))
        share = (full * part).sum() / (full**2).sum()
        assert 0 <= share <= 1
        assert (part - share * full).abs().max() <= 1


def test_triplets_are_cropped_alike(tmp_path):
    photo, mask = make_photo(60, 80)
    for array, name in (
        (photo, "real"),
        (mask, "mask"),
        (np.where(mask[..., None] > 0, 255 - photo, photo), "composite"),
    ):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    triplet = Triplet(tmp_path / "composite.png", tmp_path / "mask.png", tmp_path / "real.png", "set")
    samples = TrainingSamples([triplet], SampleOptions(), seed=0, length=10)
    shapes = set()
    for index in range(10):
        sample = samples[index]
        foreground = (sample["mask"] > 0).expand_as(sample["real"])
        assert torch.equal(sample["composite"][foreground], 255 - sample["real"][foreground])
        assert torch.equal(sample["composite"][~foreground], sample["real"][~foreground])
        shapes.add(tuple(sample["real"].shape))
    assert len(shapes) > 5


def test_long_triplets_are_shrunk_before_they_are_cropped(tmp_path):
    photo, mask = make_photo(60, 80)
    for array, name in ((photo, "real"), (mask, "mask"), (255 - photo, "composite")):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    triplet = Triplet(tmp_path / "composite.png", tmp_path / "mask.png", tmp_path / "real.png", "set")
    options = SampleOptions(max_side=40, crop=(1.0, 1.0))
    sample = TrainingSamples([triplet], options, seed=0, length=1)[0]
    assert sample["composite"].shape == sample["real"].shape == (3, 30, 40)
    assert sample["mask"].shape == (1, 30, 40)


def test_broken_files_are_reported_and_replaced(photos):
    photos[2].image.write_bytes(b"broken")
    samples = TrainingSamples(photos, SampleOptions(resolution=16), seed=0, length=12)
    found = [samples[index] for index in range(12)]
    lines = [line for sample in found for line in sample["broken"]]
    assert lines
    assert all("2.png: is not an image" in line for line in lines)
    assert photos[2].name not in {sample["name"] for sample in found}


def test_a_pool_without_any_good_file_is_an_error(photos):
    for photo in photos:
        photo.image.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"no sample in 20 photos in a row; .*is not an image"):
        TrainingSamples(photos, SampleOptions(), seed=0, length=1)[0]
    with pytest.raises(ValueError, match="no photos to train on"):
        TrainingSamples([], SampleOptions(), seed=0, length=1)


def test_photos_kept_in_memory_are_read_once(photos):
    samples = TrainingSamples(photos, replace(EVERYTHING, keep_photos=True), seed=0, length=20)
    first = [samples[index] for index in range(20)]
    for photo in photos:
        photo.image.unlink()
    again = [samples[index] for index in range(20)]
    assert all(same(*pair) for pair in zip(first, again, strict=True))
    assert not any(sample["broken"] for sample in again)


@pytest.fixture
def shards(tmp_path, half_read):
    return stream_photos(write_shards(tmp_path / "shards"), image_column="jpg", mask_column="mask.png")


def test_a_stream_gives_composites_without_end(shards):
    items = list(islice(StreamedSamples(shards, EVERYTHING, seed=0), 30))
    assert {item["name"] for item in items} == {f"{shard}{index}.jpg" for shard in "01" for index in range(5)}
    for item in items:
        assert item["composite"].shape == item["real"].shape == (3, 32, 32)
        assert item["mask"].shape == (1, 32, 32)
    changed = [not torch.equal(item["composite"], item["real"]) for item in items]
    assert sum(changed) > 20
    again = list(islice(StreamedSamples(shards, EVERYTHING, seed=0), 30))
    assert all(same(*pair) for pair in zip(items, again, strict=True))


def test_processes_draw_their_own_numbers_from_a_stream(shards):
    whole = [
        [item["composite"] for item in islice(StreamedSamples(shards, EVERYTHING, seed=0, process=rank), 5)]
        for rank in (0, 1)
    ]
    assert not any(torch.equal(one, other) for one, other in zip(*whole, strict=True))


def test_workers_share_out_a_streams_shards(shards):
    loader = DataLoader(StreamedSamples(shards, EVERYTHING, seed=0), batch_size=None, num_workers=2)
    names = [item["name"] for item in islice(loader, 8)]
    assert {name[0] for name in names[::2]} in ({"0"}, {"1"})
    assert {name[0] for name in names} == {"0", "1"}


def test_a_stream_passes_over_broken_photos_and_ends_where_nothing_is_left(shards):
    def broken_where(condition):
        def change(row):
            return row | {"image": row["image"] | {"bytes": b"broken"}} if condition(row) else row

        return StreamedSamples(shards.map(change), EVERYTHING, seed=0)

    items = list(islice(broken_where(lambda row: row["image"]["path"] == "03.jpg"), 30))
    assert "03.jpg: cannot be decoded" in " ".join(line for item in items for line in item["broken"])
    assert "03.jpg" not in {item["name"] for item in items}
    with pytest.raises(InputError, match=r"no sample in a stream of 10 photos; .*cannot be decoded"):
        next(iter(broken_where(lambda row: True)))
