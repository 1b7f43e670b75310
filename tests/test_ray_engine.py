import builtins
import json
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import torch
from conftest import make_photo, write_coco_dataset, write_cutouts
from PIL import Image

from aict_hf.augment.files import AugmentRun, augment_files
from aict_hf.augment.options import AugmentJob, CopyPasteOptions
from aict_hf.errors import InputError
from aict_hf.harmonize.files import Job, harmonize_files
from aict_hf.harmonize.harmonizer import Harmonizer
from aict_hf.harmonize.options import HarmonizeOptions
from aict_hf.ray_engine import _BlockMaker, _HarmonizeActor, augment_with_ray, harmonize_with_ray


@pytest.fixture(scope="module")
def cluster():
    """Ray with two CPUs, started once."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(autouse=True)
def same_threads():
    """Actors called in this process leave it with one."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def job(tmp_path):
    write_coco_dataset(tmp_path / "in")
    write_cutouts(tmp_path / "cutouts")
    return AugmentJob(
        str(tmp_path / "in" / "annotations.json"),
        str(tmp_path / "out"),
        format="parquet",
        cutouts=(str(tmp_path / "cutouts"),),
        block_size=2,
    )


@pytest.fixture
def jobs(tmp_path):
    made = []
    for number in range(6):
        photo, mask = make_photo(seed=number)
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
        Image.fromarray(mask * (number != 3)).save(tmp_path / f"{number}_mask.png")
        made.append(Job(tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png", tmp_path / f"{number}_out.png"))
    (tmp_path / "4.png").write_bytes(b"no image")
    return made


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def to(job, folder, **changes):
    return AugmentJob(**vars(job) | {"output": str(folder)} | changes)


def test_actors_make_what_the_local_engine_makes(job, tmp_path):
    run = AugmentRun(job)
    actor = _BlockMaker(run.job)
    assert actor({"number": np.array(run.start())}) == {"images": [2, 2]}
    run.finish()
    augment_files(to(job, tmp_path / "local"))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "local")


def test_harmonizing_actors_report_what_they_did(jobs):
    rows = {name: [str(getattr(job, name)) for job in jobs] for name in ("composite", "mask", "output")}
    report = _HarmonizeActor(None, "cpu", HarmonizeOptions(batch_size=4))(rows)
    assert report["written"] == [5]
    assert report["images"] == [6]
    assert len(json.loads(report["files"][0])) == 6
    assert "4.png: is not an image" in str(pickle.loads(report["failures"][0])[0])
    assert "no foreground" in report["warnings"][0][0]


def test_the_missing_package_is_named(job, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"aict_hf\[augment,ray\]"):
        augment_with_ray(job)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own: deprecations, sockets left open
@pytest.mark.parametrize("format_name", ["parquet", "webdataset", "coco"])
def test_ray_writes_the_bytes_that_the_local_engine_writes(cluster, job, tmp_path, format_name):
    assert augment_with_ray(to(job, tmp_path / "ray", format=format_name), workers=2).written == 4
    augment_files(to(job, tmp_path / "local", format=format_name))
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
    again = augment_with_ray(to(job, tmp_path / "ray", format=format_name), workers=2)
    assert (again.written, again.earlier) == (4, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own: deprecations, sockets left open
def test_what_a_worker_cannot_write_is_one_line(cluster, job, tmp_path):
    job = to(job, tmp_path / "ray", format="coco", options=CopyPasteOptions(naive=True))
    AugmentRun(job).start()
    (tmp_path / "ray" / "images" / "0_aug1.jpg").mkdir()
    with pytest.raises(InputError, match=r"^\S*0_aug1.jpg: cannot be written .*$"):
        augment_with_ray(job, workers=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own: deprecations, sockets left open
def test_a_killed_worker_loses_nothing(cluster, job, tmp_path):
    job = to(job, tmp_path / "ray", copies=60, block_size=1)
    killed = []

    def kill_one():
        """The first actor that has written, by its own process id."""
        parts = tmp_path / "ray" / ".parts"
        while not killed:
            time.sleep(0.02)
            if len(list(parts.glob("0*.json"))) < 3:
                continue
            import psutil

            for process in psutil.Process().children(recursive=True):
                if "_BlockMaker" in " ".join(process.cmdline()):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append((process.pid, len(list(parts.glob("0*.json")))))
                    break

    watcher = threading.Thread(target=kill_one, daemon=True)
    watcher.start()
    report = augment_with_ray(job, workers=2)
    assert len(killed) == 1
    assert killed[0][1] < 240
    assert report.written == 240
    augment_files(to(job, tmp_path / "local"))
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own: deprecations, sockets left open
def test_folders_are_harmonized_on_ray_as_here(cluster, jobs, tmp_path):
    warnings = []
    report = harmonize_with_ray(jobs, None, HarmonizeOptions(batch_size=2), workers=2, warn=warnings.append)
    assert report.written == 5
    assert len(report.failures) == len(warnings) == 1
    there = [np.asarray(Image.open(job.output)) for job in jobs if job.output.exists()]
    local = [Job(job.composite, job.mask, tmp_path / f"local_{job.output.name}") for job in jobs]
    harmonize_files(local, Harmonizer.from_pretrained(), HarmonizeOptions(batch_size=2))
    here = [np.asarray(Image.open(job.output)) for job in local if job.output.exists()]
    assert len(here) == len(there) == 5
    for one, other in zip(here, there, strict=True):  # with another number of threads
        assert np.abs(one.astype(int) - other).max() <= 1
    assert harmonize_with_ray(jobs[:3], None, HarmonizeOptions(skip_existing=True), workers=2).skipped == 3
