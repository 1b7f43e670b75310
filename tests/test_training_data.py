import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from aict_hf.errors import InputError
from aict_hf.harmonization_data import MaskedPhoto, Triplet
from aict_hf.recoloring import RecoloringOptions
from aict_hf.training_data import SampleOptions, TrainingSamples

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


def test_every_photo_is_drawn_once_before_any_is_again(photos):
    samples = TrainingSamples(photos, SampleOptions(resolution=16, lost_foreground=0.0), seed=0, length=12)
    names = [samples[index]["name"] for index in range(12)]
    assert set(names[:6]) == set(names[6:]) == {photo.name for photo in photos}
    assert names[:6] != names[6:]


@pytest.mark.parametrize("resolution", [None, 24])
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
