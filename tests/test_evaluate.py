import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo, write_pool
from PIL import Image

from aict_hf.export.model_card import read_results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def pool(tmp_path):
    return write_pool(tmp_path / "pool", 4)


def read_rows(out):
    with (out / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def evaluate(forks, tmp_path):
    return lambda *arguments: forks.run([ROOT / "training" / "evaluate.py", *arguments], tmp_path)


def test_every_flag_has_a_help_text():
    spec = importlib.util.spec_from_file_location("evaluate", ROOT / "training" / "evaluate.py")
    module = sys.modules["evaluate"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["evaluate"]
    flags = module.parser._actions
    assert len(flags) == 13
    assert [flag.dest for flag in flags if not flag.help] == []
    assert "Writes `per_image.csv`" in module.parser.format_help()


def test_synthetic_composites_are_measured_beside_baselines(evaluate, pool, model, processor, tmp_path):
    for part in (model, processor):
        part.save_pretrained(tmp_path / "mine")
    out = tmp_path / "out"
    (tmp_path / "list.txt").write_text("1.png\n2.png\n3.png\n")
    result = evaluate(
        *("--model", tmp_path / "mine", "--dataset", "synthetic", "--data_dir", pool, "--output_dir", out),
        *("--photos", tmp_path / "list.txt"),
    )
    assert result.returncode == 0, result.stderr
    rows = read_rows(out)
    methods = ["composite", "Reinhard to background", "histogram to background", "mine"]
    assert [row["method"] for row in rows[:4]] == methods
    assert {row["image"] for row in rows} == {"1.png", "2.png", "3.png"}
    results = json.loads((out / "results.json").read_text())
    for method in methods:
        mean = np.mean([float(row["fmse"]) for row in rows if row["method"] == method])
        assert results["summary"][method]["fmse"] == pytest.approx(mean)
    assert results["images"] == 3
    assert results["summary"]["composite"]["of_composite"] == 1
    assert results["summary"]["mine"]["no_harm"] > 0
    assert "## By foreground ratio" in (out / "tables.md").read_text()
    (out / "results").mkdir()
    (out / "results.json").rename(out / "results" / "results.json")
    [of_card] = read_results(out / "results")
    assert of_card["checkpoint"] == "mine"
    low, high = results["intervals"]["mine"]["all"]["fmse"]
    assert low <= results["summary"]["mine"]["fmse"] <= high
    with Image.open(out / "grid.jpg") as grid:
        assert grid.height == 3 * 164


def write_iharmony4(folder):
    """Two subsets: HCOCO has composites of photos 1 (two), 2 and 3, HFlickr has one; 40 x 56 pixels."""
    for subset, names in (("HCOCO", ["c1_2_1", "c1_2_2", "c2_1_1", "c3_1_1"]), ("HFlickr", ["f1_1_1"])):
        for part in ("composite_images", "masks", "real_images"):
            (folder / subset / part).mkdir(parents=True)
        for seed, name in enumerate(names):
            photo, mask = make_photo(seed=int(name[1]))
            composite = photo // 2 + np.uint8(10 * seed)
            Image.fromarray(composite).save(folder / subset / "composite_images" / f"{name}.png")
            Image.fromarray(mask).save(folder / subset / "masks" / f"{name[:4]}.png")
            Image.fromarray(photo).save(folder / subset / "real_images" / f"{name[:2]}.png")
        (folder / subset / f"{subset}_test.txt").write_text("".join(f"{name}.png\n" for name in names))
    return folder


def write_results(data, folder, ending, size=None):
    """Results whose error is half the composite's, all in one folder, each beside a copy of its real photo."""
    folder.mkdir(parents=True)
    for path in data.glob("*/composite_images/*.png"):
        with (
            Image.open(path) as composite,
            Image.open(path.parents[1] / "real_images" / f"{path.stem[:2]}.png") as real,
        ):
            result = Image.blend(composite, real, 0.5)
            result.resize(size or result.size).save(folder / f"{path.stem}{ending}.png")
            real.save(folder / f"{path.stem}_real.png")
    return folder


def test_iharmony4_is_measured_at_the_papers_resolution_beside_the_results_of_others(evaluate, tmp_path):
    data = write_iharmony4(tmp_path / "iHarmony4")
    theirs = write_results(data, tmp_path / "theirs", "_harmonized")
    small = write_results(data, tmp_path / "small", "", size=(256, 256))
    (small / "c3_1_1.png").write_bytes(b"broken")
    out = tmp_path / "out"
    arguments = ("--dataset", "iharmony4", "--data_dir", data, "--resolution", "256", "--output_dir", out)
    result = evaluate("--results", theirs, small, "--resize", *arguments)
    assert result.returncode == 0, result.stderr
    rows = read_rows(out)
    assert [row["image"] for row in rows[::5]] == ["c1_2_1.png", "c1_2_2.png", "c2_1_1.png", "f1_1_1.png"]
    composite, *_, first, second = rows[:5]
    assert [row["method"] for row in (composite, first, second)] == ["composite", "theirs", "small"]
    assert (composite["height"], composite["width"], composite["subset"]) == ("256", "256", "HCOCO")
    assert (composite["photo"], composite["mask"]) == ("HCOCO/c1.png", "c1_2.png")
    assert float(composite["fmse"]) > 1000
    for row in (first, second):
        assert float(row["fmse"]) == pytest.approx(float(composite["fmse"]) / 4, rel=0.05)
    assert "4 images, 1 skipped, " in result.stdout
    assert "4 results of theirs scaled; in brackets 95% intervals" in result.stdout
    assert f"skipped: {small}/c3_1_1.png: is not an image" in result.stderr
    assert f"{theirs}: 5 other images are not measured, c1_2_1_real.png," in result.stderr

    results = json.loads((out / "results.json").read_text())
    assert results["scaled_results"] == {"theirs": 4}
    intervals = results["intervals"]["theirs"]
    assert {group: cells["photos"] for group, cells in intervals.items()} == {"HCOCO": 2, "HFlickr": 1, "all": 3}
    low, high = intervals["all"]["fmse"]
    assert low < np.mean([float(row["fmse"]) for row in rows if row["method"] == "theirs"]) < high
    assert intervals["HFlickr"]["ssim"] is None  # one photo
    mean = results["subsets"]["theirs"]["HCOCO"]["fmse"]
    low, high = intervals["HCOCO"]["fmse"]
    assert f" {mean:.2f} [{low:.2f}, {high:.2f}] " in (out / "tables.md").read_text()


def test_results_of_another_size_are_refused_before_anything_is_measured(evaluate, tmp_path):
    data = write_iharmony4(tmp_path / "iHarmony4")
    small = write_results(data, tmp_path / "small", "_pred", size=(32, 32))
    arguments = ("--dataset", "iharmony4", "--data_dir", data, "--output_dir", tmp_path / "out")
    result = evaluate("--results", small, "--results_ending", "_pred", *arguments)
    [line] = result.stderr.splitlines()
    assert line.startswith("evaluate.py: 5 of 5 results have another size than the photos they are compared with: ")
    assert "c1_2_1_pred.png is 32 x 32, expected 56 x 40;" in line
    assert line.endswith("give --resize to scale them")
    assert not (tmp_path / "out").exists()


def test_synthetic_composites_have_no_results_of_others(evaluate, pool, tmp_path):
    arguments = ("--dataset", "synthetic", "--data_dir", pool, "--output_dir", tmp_path / "out")
    result = evaluate("--results", tmp_path, *arguments)
    assert result.stderr.startswith("evaluate.py: --results: the synthetic composites are in no files")


def test_what_cannot_be_measured_is_skipped_and_named(evaluate, pool, tmp_path):
    (pool / "0.png").write_bytes(b"broken")
    one_pixel = np.zeros((60, 80), np.uint8)
    one_pixel[30, 40] = 255
    Image.fromarray(one_pixel).save(pool / "1_mask.png")
    result = evaluate("--dataset", "synthetic", "--data_dir", pool, "--output_dir", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert {row["image"] for row in read_rows(tmp_path / "out")} == {"2.png", "3.png"}
    assert "2 images, 2 skipped" in result.stdout
    assert "0.png: is not an image" in result.stderr
    assert "1.png: gives no composite" in result.stderr
    assert not list((tmp_path / "out").glob(".*"))


def test_two_models_of_one_name_are_refused(evaluate, pool, tmp_path):
    arguments = ("--dataset", "synthetic", "--data_dir", pool, "--output_dir", tmp_path / "out")
    result = evaluate("--model", "a/final", "b/final", *arguments)
    assert "final would be the name of two rows" in result.stderr


def test_data_that_is_not_there_is_one_line(evaluate, tmp_path):
    result = evaluate("--dataset", "synthetic", "--data_dir", tmp_path, "--output_dir", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("evaluate.py: ")
    assert "metadata.csv: no such file" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--max_samples", "0"), "--max_samples is 0; expected 1 or more"),
        (("--max_samples", "-1"), "--max_samples is -1; expected 1 or more"),
        (("--seed", "-1"), "--seed is -1; expected 0 or more"),
        (("--device", "warp"), "device warp cannot be used"),
    ],
)
def test_options_out_of_range_are_one_line(evaluate, pool, tmp_path, option, words):
    result = evaluate("--dataset", "synthetic", "--data_dir", pool, "--output_dir", tmp_path / "out", *option)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith(f"evaluate.py: {words}")
    assert not (tmp_path / "out").exists()
