from pathlib import Path

import pytest
from conftest import write_coco_dataset, write_cutouts
from pycocotools.coco import COCO

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_part_of_a_coco_dataset_is_augmented(forks, tmp_path):
    file = write_coco_dataset(tmp_path / "in")
    folders = file, tmp_path / "in" / "images", tmp_path / "out"
    said = forks.lines([EXAMPLES / "augment_coco.py", *folders, "--images", 2, "--category", "dog"], tmp_path)
    assert [line.split(":")[0] for line in said[:-1]] == ["0.png", "1.png"]
    coco = COCO(tmp_path / "out" / "annotations.json")
    assert len(coco.imgs) == 2
    assert {a["category_id"] for a in coco.anns.values() if "foreground" in a} == {9}
    assert all((tmp_path / "out" / "images" / image["file_name"]).is_file() for image in coco.imgs.values())


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_network_is_trained_with_the_transform(forks, tmp_path, workers):
    file = write_coco_dataset(tmp_path / "in")
    cutouts = write_cutouts(tmp_path / "cutouts")
    options = ("--cutouts", cutouts, "--epochs", 3, "--size", 32, "--workers", workers)
    folders = file, tmp_path / "in" / "images"
    said = forks.lines([EXAMPLES / "train_with_transform.py", *folders, *options], tmp_path)
    losses = [float(line.split()[-1]) for line in said]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
