import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.augment.annotations import mask_rle
from aict_hf.augment.formats.yolo import read_yolo, write_yolo_config, write_yolo_labels
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
    assert [image.name for image in read_yolo(folder).images] == ["a/images/train/0.png", "b/images/train/0.png"]


def test_a_broken_image_fails_when_it_is_read(folder):
    (folder / "images" / "train" / "deep" / "b.png").write_bytes(b"no image")
    whole, broken = read_yolo(folder).images
    assert whole.sample()["image"].shape == (60, 80, 3)
    with pytest.raises(InputError, match="is not an image"):
        broken.sample()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "labels/train/deep/b.txt",
            "1 0.5 0.5 0.2 0.2",
            "line 1 has a box; expected a class and x and y of at least three",
        ),
        ("labels/train/deep/b.txt", f"{SQUARE}\n1 0.5 0.5", "line 2 has 2 numbers"),
        ("labels/train/deep/b.txt", "2" + SQUARE[1:], "line 1 has class 2, which has no name"),
        ("labels/train/deep/b.txt", "dog " + SQUARE, "line 1 is not a class and numbers"),
        ("labels/train/deep/b.txt", "é", "cannot be read as text"),
        ("labels/train/c.txt", SQUARE, r"c.txt: has no image in .*images/train"),
        ("data.yaml", "names: [a]", "expected `names` and the folder of images of the split `train`"),
        ("data.yaml", "names: [a]\ntrain: images/none", "is not a folder of images"),
        ("data.yaml", "names: [", "cannot be read as YAML"),
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
