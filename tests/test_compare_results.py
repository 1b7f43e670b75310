import csv
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from scipy.stats import wilcoxon

from aict_hf.errors import InputError

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "compare_results.py"
FIGURES = ["mse", "fmse", "psnr", "ssim", "ciede2000"]
NAMES = [("HCOCO", f"c{i // 2}.png", "m.png", f"c{i // 2}_1_{i % 2}.png") for i in range(16)]
NAMES += [("HFlickr", "f0.png", "m.png", "f0_1_1.png")]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compare(script, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["compare_results.py", *map(str, arguments)])
        script.main()

    return run


def write_run(folder, methods, names=NAMES, size=(40, 56), without=()):
    """A run in which each method's fMSE is a function of the image's number; the composite's is 100, 101, ..."""
    folder.mkdir()
    with (folder / "per_image.csv").open("w", newline="") as file:
        columns = ["sample", "method", "image", "subset", "photo", "mask", "height", "width", *FIGURES]
        writer = csv.DictWriter(file, [name for name in columns if name not in without], extrasaction="ignore")
        writer.writeheader()
        for index, (subset, photo, mask, image) in enumerate(names):
            for method, fmse in ({"composite": lambda i: 100 + i} | methods).items():
                row = {
                    "sample": index,
                    "method": method,
                    "image": image,
                    "subset": subset,
                    "photo": f"{subset}/{photo}",
                }
                row |= {"mask": mask, "height": size[0], "width": size[1], "mse": fmse(index) / 10, "ssim": 0.9}
                writer.writerow(
                    row | {"fmse": fmse(index), "psnr": 60 - fmse(index) / 10, "ciede2000": fmse(index) / 9}
                )
    return folder


def test_two_methods_of_one_run_are_compared(compare, tmp_path, capsys):
    run = write_run(tmp_path / "run", {"old": lambda i: 50 + i, "new": lambda i: 50 - i + i % 2})
    compare(run, "--output_dir", tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    by_name = {(row["subset"], row["metric"]): row for row in rows}
    row = by_name["all", "fmse"]
    differences = [-2 * i + i % 2 for i in range(17)]
    assert (row["images"], row["photos"]) == (17, 9)
    assert row["difference"] == pytest.approx(sum(differences) / 17)
    assert row["low"] < row["difference"] < row["high"] < 0
    by_photo = [sum(differences[i : i + 2]) / 2 for i in range(0, 16, 2)] + [differences[16]]
    assert row["p"] == pytest.approx(wilcoxon(by_photo).pvalue)
    assert row["p"] < 0.01
    assert row["second_is_better"] == pytest.approx(16 / 17)  # the first image has equal results
    assert by_name["all", "psnr"]["second_is_better"] == row["second_is_better"]
    assert by_name["all", "ssim"]["p"] == 1  # equal
    assert by_name["HFlickr", "fmse"]["low"] is None  # one photo
    assert "new (second) against old (first), 17 images" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > 1000


def test_the_order_of_the_rows_and_the_methods_names_do_not_matter(compare, tmp_path):
    mine = write_run(tmp_path / "mine", {"final": lambda i: 50 + i})
    theirs = write_run(tmp_path / "theirs", {"final": lambda i: 52 + i})
    lines = (theirs / "per_image.csv").read_text().splitlines()
    (theirs / "per_image.csv").write_text("\n".join([lines[0], *lines[:0:-1]]))
    compare(mine, theirs, "--output_dir", tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    for row in rows:
        if row["metric"] == "fmse" and row["subset"] != "HFlickr":
            assert row["difference"] == pytest.approx(2)
            assert row["low"] == pytest.approx(2)
    assert f"final ({mine}) (mean)" in (tmp_path / "out" / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("theirs", "error"),
    [
        ({"names": NAMES[2:]}, "theirs lacks 2 of 17 images of the other: c0_1_0.png, c0_1_1.png"),
        ({"names": NAMES[:-1]}, "theirs lacks 1 of 17 images of the other: f0_1_1.png"),
        ({"size": (256, 256)}, "17 images have other sizes in {theirs}: c0_1_0.png is 56 x 40 and 256 x 256; measure"),
        (
            {"methods": {"b": float, "composite": lambda i: 100 + i * 1.2}},
            "16 composites differ between {mine} and {theirs}",
        ),
        ({"methods": {"b": float, "c": float}}, "theirs: has b, c beside the baselines; choose two with --methods"),
        ({"methods": {}}, "theirs: has no method beside the baselines"),
        ({"methods": {"b": lambda i: float("inf")}}, "per_image.csv: line 3 has inf as its fmse; expected a number"),
        ({"without": ["photo"]}, "per_image.csv: has no column photo; measure again"),
        ({"names": [*NAMES, NAMES[0]]}, "theirs: measures c0_1_0.png of HCOCO/c0.png twice for b"),
    ],
    ids=["fewer", "a photo less", "size", "seed", "several", "none", "not a number", "old run", "twice"],
)
def test_runs_that_cannot_be_compared_are_refused_before_anything_is_written(compare, tmp_path, theirs, error):
    mine = write_run(tmp_path / "mine", {"a": float})
    write_run(tmp_path / "theirs", **({"methods": {"b": float}} | theirs))
    expected = error.format(mine=mine, theirs=tmp_path / "theirs")
    with pytest.raises(InputError, match=re.escape(expected)):
        compare(mine, tmp_path / "theirs", "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_methods_and_folders_that_are_not_there_are_refused(compare, tmp_path):
    run = write_run(tmp_path / "run", {"a": float, "b": float})
    out = ("--output_dir", tmp_path / "out")
    with pytest.raises(InputError, match="run: has no method c; it has composite, a, b"):
        compare(run, "--methods", "a", "c", *out)
    with pytest.raises(InputError, match="a cannot be compared with itself"):
        compare(run, "--methods", "a", "a", *out)
    with pytest.raises(InputError, match=r"per_image.csv: no such file; give an output folder of training/evaluate.py"):
        compare(tmp_path, *out)
    with pytest.raises(InputError, match="3 folders cannot be compared at once"):
        compare(run, run, run, *out)


def test_every_flag_has_a_help_text(script):
    flags = script.parser._actions
    assert len(flags) == 5
    assert [flag.dest for flag in flags if not flag.help] == []
