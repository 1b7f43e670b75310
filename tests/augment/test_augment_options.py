from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from aict_hf.augment.options import AugmentJob, CopyPasteOptions
from aict_hf.errors import InputError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probability": 2}, "probability is 2; expected 0 to 1"),
        ({"flip": -0.1}, "flip is -0.1; expected 0 to 1"),
        ({"min_visible": float("nan")}, "min_visible is nan; expected 0 to 1"),
        ({"objects": (3, 1)}, "objects is"),
        ({"objects": (-1, 1)}, "objects is .* the fewest and the most, 0 or more"),
        ({"strengths": (0.5, 1.5)}, "strengths is .* within 0 to 1"),
        ({"strengths": (0.5, 2)}, "strengths is"),
        ({"size": (0.5, 0.1)}, "size is .* the smaller first"),
        ({"size": (0.0, 0.1)}, "size is .* above 0"),
        ({"size": (0.1, 0.2, 0.3)}, "size is .* expected two numbers"),
        ({"rotation": (float("nan"), 0)}, "rotation is"),
        ({"max_scale": 0}, "max_scale is 0; expected a number above 0"),
        ({"feather": -1.0}, "feather is -1.0; expected a width in pixels, 0 or more"),
        ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
        ({"max_disharmony": -1.0}, "max_disharmony is -1.0; expected 0 or more"),
        ({"max_disharmony": float("nan")}, "max_disharmony is nan"),
        ({"seed": -1}, "seed is -1; expected 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        CopyPasteOptions(**options)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "voc"}, "format is voc; expected one of coco, yolo"),
        ({"copies": 0}, "copies is 0; it must be 1 or more"),
        ({"block_size": 0}, "block_size is 0; it must be 1 or more"),
    ],
)
def test_jobs_out_of_range_are_refused(fields, words):
    with pytest.raises(InputError, match=words):
        AugmentJob("in", "out", **fields)


def test_options_do_not_change():
    options = CopyPasteOptions()
    with pytest.raises(FrozenInstanceError):
        options.seed = 1


def test_paths_become_absolute_and_names_of_datasets_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.json").touch()
    job = AugmentJob("in.json", "out", cutouts=("cutouts",), checkpoint="aict-large").with_absolute_paths()
    assert job.source == str(tmp_path / "in.json")
    assert job.output == str(tmp_path / "out")
    assert job.cutouts == (str(tmp_path / "cutouts"),)
    assert job.checkpoint == "aict-large"
    assert AugmentJob("someone/dataset", "out").with_absolute_paths().source == "someone/dataset"
