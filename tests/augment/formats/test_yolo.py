from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.augment.annotations import mask_rle
from aict_hf.augment.formats.yolo import read_yolo, write_yolo_config, write_yolo_labels, yolo_label_path
from aict_hf.errors import InputError

SQUARE = "1 0.25 0.5 0.75 0.5 0.75 1 0.25 1"


@pytest.fixture
def folder(tmp_path):
    for name in ("images/train/deep", "labels/train/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        Image.fromarray(make_photo(60, 80)[0]).save(tmp_path / "images" / "train" / name)
    (tmp_path / "labels" / "train" / "deep" / "b.txt").write_text(f"{SQUARE}\n\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: kite, 1: dog}\n")
    return tmp_path


def test_polygons_are_in_pixels_and_images_without_labels_empty(folder):
    dataset = read_yolo(folder)
    assert dataset.category_names == {0: "kite", 1: "dog"}
    assert [image.name for image in dataset.images] == ["a.png", "deep/b.png"]
    assert dataset.images[0].sample()["masks"].shape == (0, 60, 80)
    sample = dataset.images[1].sample()
    assert sample["boxes"].tolist() == [[20, 30, 60, 60]]
    assert sample["masks"][0, 30:, 20:60].all()
    assert sample["masks"].sum() == 30 * 40
    assert sample["labels"].tolist() == [1]


def test_labels_come_back_as_they_were_written(folder):
    dataset = read_yolo(folder / "data.yaml")
    image = dataset.images[1]
    rows, columns = np.mgrid[:60, :80]
    ring = abs(np.hypot(rows - 25, columns - 40) - 15) < 5
    ring[:, 35:38] = False
    added = {"category_id": 0, "segmentation": mask_rle(ring), "iscrowd": 0}
    crowd = added | {"iscrowd": 1}
    write_yolo_labels(
        folder / "b.txt", {**image.record, "annotations": [*image.annotations, added, crowd]}, {0: 0, 1: 1}
    )
    lines = (folder / "b.txt").read_text().splitlines()
    assert lines[0] == SQUARE
    assert len(lines) == 2
    (folder / "b.txt").replace(folder / "labels" / "train" / "deep" / "b.txt")
    again = read_yolo(folder).images[1].sample()["masks"][1]
    assert (again & ring).sum() > 0.95 * (again | ring).sum()


def test_configs_come_back_as_they_were_written(folder):
    dataset = read_yolo(folder)
    write_yolo_config(folder / "data.yaml", dataset, "images/train")
    assert read_yolo(folder).category_names == dataset.category_names


def test_turned_photos_have_the_size_they_are_shown_in(folder):
    photo = Image.fromarray(make_photo(60, 80)[0])
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(folder / "images" / "train" / "a.jpg", exif=exif)
    (folder / "images" / "train" / "a.png").unlink()
    image = read_yolo(folder).images[0]
    assert image.record == {"width": 60, "height": 80}
    assert image.sample()["image"].shape == (80, 60, 3)


def test_roboflows_folders_are_found(folder):
    (folder / "data.yaml").write_text("train: ../train/images\nnames: [kite, dog]\n")
    (folder / "train").mkdir()
    for name in ("images", "labels"):
        (folder / name / "train").rename(folder / "train" / name)
    (folder / "train" / "labels" / "classes.txt").write_text("kite\ndog\n")
    assert [len(image.annotations) for image in read_yolo(folder).images] == [0, 1]


def test_several_folders_of_one_name_are_told_apart(folder):
    (folder / "data.yaml").write_text("train: [a/images/train, b/images/train]\nnames: [kite, dog]\n")
    for name in ("a", "b"):
        (folder / name / "images" / "train").mkdir(parents=True)
        Image.fromarray(make_photo()[0]).save(folder / name / "images" / "train" / "0.png")
    with pytest.warns(
        UserWarning, match=r"the split train has no label file; expected, for example, .*b/labels/train/0.txt"
    ):
        dataset = read_yolo(folder)
    assert [image.name for image in dataset.images] == ["a/images/train/0.png", "b/images/train/0.png"]


def test_a_broken_image_fails_when_it_is_read(folder):
    (folder / "images" / "train" / "deep" / "b.png").write_bytes(b"no image")
    whole, broken = read_yolo(folder).images
    assert whole.sample()["image"].shape == (60, 80, 3)
    with pytest.raises(InputError, match="is not an image"):
        broken.sample()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels/train/deep/b.txt", "1 0.5 0.5 0.2 0.2 0.9", "line 1 has 5 numbers after the class; expected a box"),
        ("labels/train/deep/b.txt", f"{SQUARE}\n1", "line 2 has 0 numbers"),
        ("labels/train/deep/b.txt", "1 40 30 20 10", "line 1 has the coordinate 40; expected shares"),
        ("labels/train/deep/b.txt", "1.5 0.5 0.5 0.2 0.2", "line 1 is not a class and numbers: '1.5 0.5"),
        ("labels/train/deep/b.txt", "1 0.5 nan 0.2 0.2", "line 1 is not a class and numbers"),
        ("labels/train/deep/b.txt", "2" + SQUARE[1:], "line 1 has class 2, which has no name"),
        ("labels/train/deep/b.txt", "dog " + SQUARE, "line 1 is not a class and numbers"),
        ("labels/train/deep/b.txt", "é", "cannot be read as text"),
        ("labels/train/c.txt", SQUARE, r"c.txt: has no image in .*images/train"),
        ("data.yaml", "names: [a]", "expected `names` and the folder of images of the split `train`"),
        ("data.yaml", "names: [a]\ntrain: images/none", "is not a folder of images"),
        ("data.yaml", "names: [", "cannot be read as YAML"),
        ("data.yaml", "names: kite\ntrain: images/train", "names is 'kite'; expected a list"),
        ("data.yaml", "names: {kite: 0}\ntrain: images/train", "names has 'kite': '0'; expected a class number"),
        ("data.yaml", "nc: many\ntrain: images/train", "nc is 'many'; expected the number"),
        ("data.yaml", "names: [a]\ntrain: images/train\nkpt_shape: [17, 2]", "has labels with keypoints"),
        (
            "data.yaml",
            "names: [a]\ntrain: labels/train/deep/b.txt",
            "b.txt: line 1 names '1 0.25 .*', which is not a file",
        ),
        ("other.yaml", "", "holds 2 YAML files; name the dataset's own"),
    ],
)
def test_bad_folders_are_refused(folder, name, content, words):
    (folder / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=words):
        read_yolo(folder)


def test_two_images_cannot_share_a_label_file(folder):
    Image.fromarray(make_photo()[0]).save(folder / "images" / "train" / "a.jpg")
    with pytest.raises(InputError, match="differ only in their extension"):
        read_yolo(folder)


def test_hidden_files_are_no_images_and_no_labels(folder):
    for name in ("images/train/._a.png", "labels/train/._a.txt", "labels/train/@eaDir/a.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7\xff")
    with pytest.warns(UserWarning, match="images/train: left out 1 hidden image"):
        images = read_yolo(folder).images
    assert [image.name for image in images] == ["a.png", "deep/b.png"]


def test_labels_belong_to_images_whatever_case_and_composition(folder):
    (folder / "images/train/deep/b.png").rename(folder / "images/train/deep" / "B\u00e9.PNG")
    (folder / "labels/train/deep/b.txt").rename(folder / "labels/train/deep" / "be\u0301.txt")
    assert [len(image.annotations) for image in read_yolo(folder).images] == [0, 1]


def test_boxes_are_read_and_written_beside_polygons(folder):
    label = folder / "labels" / "train" / "deep" / "b.txt"
    label.write_bytes(b"\xef\xbb\xbf0.0 0.5 0.5 0.25 0.5 \r\n" + SQUARE.encode() + b"\t\r\n")
    image = read_yolo(folder).images[1]
    sample = image.sample()
    assert sample["labels"].tolist() == [0, 1]
    assert sample["boxes"][0].tolist() == [30, 15, 50, 45]
    assert sample["masks"].sum(axis=(1, 2)).tolist() == [20 * 30, 30 * 40]
    record = {**image.record, "annotations": image.annotations}
    write_yolo_labels(label, record, {0: 0, 1: 1}, only_boxes=True)
    assert label.read_text() == "0 0.5 0.5 0.25 0.5\n1 0.5 0.75 0.5 0.5\n"
    write_yolo_labels(label, record, {0: 0, 1: 1})
    assert label.read_text().splitlines()[0] == "0 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75"


def test_points_and_boxes_without_pixels_are_left_out(folder):
    (folder / "labels" / "train" / "deep" / "b.txt").write_text(f"{SQUARE}\n1 0.5 0.5\n1 0.5 0.5 0 0.1\n")
    with pytest.warns(UserWarning, match="left out") as caught:
        (annotation,) = read_yolo(folder).images[1].annotations
    assert annotation["category_id"] == 1
    polygon, box = [str(warning.message) for warning in caught]
    assert "polygons without x and y of three points or more are left out: 1, the first is" in polygon
    assert "b.txt, line 3" in box


@pytest.mark.parametrize("names", ["[no, 1]", "{0: no, 1: 1}", "{'0': no, \"1\": '1'}", "\n- no\n- 1", "{1: 1, 0: no}"])
def test_names_stay_what_the_file_says(folder, names):
    for mark in ("", "\ufeff"):
        (folder / "data.yaml").write_text(f"{mark}train: images/train\nnames: {names}\n", encoding="utf-8")
        assert read_yolo(folder).category_names == {0: "no", 1: "1"}


def test_a_number_of_classes_gives_them_names(folder):
    (folder / "data.yaml").write_text("train: images/train\nnc: 2\n")
    assert read_yolo(folder).category_names == {0: "class_0", 1: "class_1"}


@pytest.mark.parametrize(
    "config",
    [
        "path: {root}\ntrain: images/train",
        "train: {root}/images/train",
        "train: .\\images\\train",
        "path: .\ntrain: list.txt",
        "train: [list.txt]",
    ],
)
def test_folders_are_found_as_they_are_written(folder, config):
    (folder / "list.txt").write_bytes(b"./images/train/a.png\r\n\r\nimages\\train\\deep\\b.png\r\n")
    (folder / "data.yaml").write_text(config.format(root=folder) + "\nnames: [kite, dog]\n")
    first, second = read_yolo(folder).images
    assert (first.content.name, second.content.name) == ("a.png", "b.png")
    assert len(second.annotations) == 1


def test_a_dataset_that_was_moved_is_read_beside_its_file(folder):
    (folder / "data.yaml").write_text("path: /content/dataset\ntrain: images/train\nnames: [kite, dog]\n")
    with pytest.warns(UserWarning, match="its path '/content/dataset' is not a folder; the split is looked for beside"):
        assert len(read_yolo(folder).images[1].annotations) == 1


def test_labels_may_lie_beside_the_images(tmp_path):
    (tmp_path / "train").mkdir()
    Image.fromarray(make_photo(60, 80)[0]).save(tmp_path / "train" / "a.png")
    (tmp_path / "train" / "a.txt").write_text(SQUARE)
    (tmp_path / "data.yaml").write_text("train: train\nnames: [kite, dog]\n")
    assert len(read_yolo(tmp_path).images[0].annotations) == 1


def test_labels_lie_where_yolos_tools_look():
    assert yolo_label_path(Path("images/a/images/b/c.d.png")) == Path("images/a/labels/b/c.d.txt")
    assert yolo_label_path(Path("a/b.png")) == Path("a/b.txt")
