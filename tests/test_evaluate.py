import csv
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo, write_pool
from PIL import Image

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
    assert len(flags) == 10
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
    with Image.open(out / "grid.jpg") as grid:
        assert grid.height == 3 * 164


def test_iharmony4_is_measured_at_the_papers_resolution(evaluate, tmp_path):
    root = tmp_path / "HCOCO"
    for folder in ("composite_images", "masks", "real_images"):
        (root / folder).mkdir(parents=True)
    photo, mask = make_photo()
    Image.fromarray(255 - photo).save(root / "composite_images" / "c1_2_3.png")
    Image.fromarray(mask).save(root / "masks" / "c1_2.png")
    Image.fromarray(photo).save(root / "real_images" / "c1.png")
    (root / "HCOCO_test.txt").write_text("c1_2_3.png\n")
    out = tmp_path / "out"
    result = evaluate("--dataset", "iharmony4", "--data_dir", tmp_path, "--resolution", "256", "--output_dir", out)
    assert result.returncode == 0, result.stderr
    [row] = [row for row in read_rows(out) if row["method"] == "composite"]
    assert (row["height"], row["width"], row["subset"]) == ("256", "256", "HCOCO")
    assert float(row["fmse"]) > 1000


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
