import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pool

from aict_hf.data import stored_samples
from aict_hf.data.recoloring import RecoloringOptions
from aict_hf.data.stored_samples import StoredSamples, store_samples
from aict_hf.data.training_samples import SampleOptions, TrainingSamples
from aict_hf.errors import InputError
from aict_hf.files.photo_pools import read_photo_pool

PLAIN = SampleOptions(resolution=16, flip=0.0, lost_foreground=0.0)


@pytest.fixture
def stream(tmp_path):
    return TrainingSamples(read_photo_pool([write_pool(tmp_path / "pool", 5)]), PLAIN, seed=3, length=20)


@pytest.fixture
def folder(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_samples, "SHARD", 4)
    assert store_samples(stream, tmp_path / "stored", count=10, settings={"seed": 3}, workers=0) == []
    return tmp_path / "stored"


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in ("composite", "mask", "real"))


def test_stored_samples_are_those_of_the_stream_each_once_an_epoch(stream, folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        *("samples-00000.npy", "samples-00001.npy", "samples-00002.npy", "samples.json")
    ]
    stored = StoredSamples(folder, PLAIN, seed=0, length=20)
    assert stored.resolution == 16
    numbers = [int(stored[index]["name"].rpartition(" ")[2]) for index in range(20)]
    assert sorted(numbers[:10]) == sorted(numbers[10:]) == list(range(10))
    assert numbers[:10] != numbers[10:]
    assert all(same(stored[index], stream[number]) for index, number in enumerate(numbers))


def test_a_sample_depends_on_its_number_alone(folder):
    everything = replace(
        PLAIN,
        flip=0.5,
        joint_change=0.5,
        weaker_change=0.5,
        recoloring=RecoloringOptions(harmonious_probability=0.3),
    )
    whole = StoredSamples(folder, everything, seed=0, length=30)
    later = StoredSamples(folder, everything, seed=0, length=18, start=12)
    assert all(same(later[index], whole[12 + index]) for index in (17, 0, 5))
    assert not all(same(whole[index], StoredSamples(folder, everything, seed=1, length=9)[index]) for index in range(9))


def test_changes_are_drawn_anew_at_every_use(folder):
    always = replace(PLAIN, joint_change=1.0)
    stored = StoredSamples(folder, always, seed=0, length=20)
    by_name = {}
    for index in range(20):
        by_name.setdefault(stored[index]["name"], []).append(stored[index])
    assert all(len(pair) == 2 and not torch.equal(pair[0]["real"], pair[1]["real"]) for pair in by_name.values())


def test_harmonious_samples_and_flips_are_drawn_when_read(stream, folder):
    options = replace(PLAIN, flip=1.0, recoloring=RecoloringOptions(harmonious_probability=1.0))
    sample = StoredSamples(folder, options, seed=0, length=1)[0]
    assert torch.equal(sample["composite"], sample["real"])
    original = stream[int(sample["name"].rpartition(" ")[2])]
    assert torch.equal(sample["real"], original["real"].flip(2))


def test_an_interrupted_call_goes_on_to_the_same_files(stream, folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*.npy")}
    kept = (folder / "samples-00000.npy").stat().st_mtime_ns
    (folder / "samples-00001.npy").unlink()
    store_samples(stream, folder, count=10, settings={"seed": 3}, workers=1)
    assert {path.name: path.read_bytes() for path in folder.glob("*.npy")} == before
    assert (folder / "samples-00000.npy").stat().st_mtime_ns == kept


def test_making_samples_takes_nothing_from_the_random_numbers(stream, tmp_path):
    torch.manual_seed(0)
    store_samples(stream, tmp_path / "stored", count=3, settings={}, workers=0)
    found = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(3))


def test_workers_start_after_opencv_used_its_threads(stream, tmp_path):
    """In a forked process, OpenCV would wait for threads that the fork left behind."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.resize(np.zeros((4000, 4000, 3), np.uint8), (3000, 3000), interpolation=cv2.INTER_CUBIC)
        store_samples(stream, tmp_path / "stored", count=3, settings={}, workers=1)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)


def test_other_settings_are_refused(stream, folder):
    with pytest.raises(InputError, match="holds samples made with seed 3, now it is 4; choose another folder"):
        store_samples(stream, folder, count=10, settings={"seed": 4}, workers=0)
    assert json.loads((folder / "samples.json").read_text()) == {"seed": 3}


def test_files_that_are_no_samples_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="nothing: holds no samples"):
        StoredSamples(tmp_path / "nothing", PLAIN, seed=0, length=1)
    np.save(folder / "samples-00009.npy", np.zeros((2, 8, 8, 7), np.uint8))
    with pytest.raises(InputError, match=r"samples-00009.npy: holds uint8 \(2, 8, 8, 7\); expected"):
        StoredSamples(folder, PLAIN, seed=0, length=1)
    (folder / "samples-00009.npy").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"samples-00009.npy: cannot be read"):
        StoredSamples(folder, PLAIN, seed=0, length=1)
