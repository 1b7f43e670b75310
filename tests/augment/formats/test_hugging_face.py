import builtins
import json

import datasets
import numpy as np
import pytest
from conftest import make_photo, write_coco_dataset

from aict_hf.augment.formats.coco import read_coco
from aict_hf.augment.formats.hugging_face import read_hf, write_imagefolder_metadata, write_parquet, write_webdataset
from aict_hf.errors import InputError

POLYGON = [[[2, 2, 12, 2, 12, 10, 2, 10]]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def source(tmp_path):
    dataset = read_coco(write_coco_dataset(tmp_path / "source"))
    images = []
    for image in dataset.images:
        sample = image.sample()
        after = sample | {"origins": np.arange(3), "cutouts": []}
        images.append({**image.record, "annotations": image.updated_annotations(sample, after)})
    return dataset, images


def assert_equal(ours, theirs):
    names = theirs.category_names
    assert set(ours.category_names.values()) == set(names.values())
    for image, other in zip(ours.images, theirs.images, strict=True):
        assert image.name == other.name
        mine, given = image.sample(), other.sample()
        assert np.array_equal(mine["image"], given["image"])
        assert np.array_equal(mine["masks"], given["masks"])
        assert np.array_equal(mine["boxes"], given["boxes"])
        mine, given = (
            [(d.category_names[a["category_id"]], a.get("iscrowd")) for a in i.annotations]
            for d, i in ((ours, image), (theirs, other))
        )
        assert mine == given


def test_parquet_comes_back_as_it_was_written(source, tmp_path):
    dataset, images = source
    contents = [(image, given.content.read_bytes()) for image, given in zip(images, dataset.images, strict=True)]
    (tmp_path / "out" / "data").mkdir(parents=True)
    for number in range(2):
        path = tmp_path / "out" / "data" / f"train-{number:05d}-of-00002.parquet"
        write_parquet(path, dataset, contents[2 * number : 2 * number + 2])
    assert_equal(read_hf(tmp_path / "out"), dataset)
    assert len(read_hf(path).images) == 2
    again = path.with_name("again.parquet")
    write_parquet(again, dataset, contents[2:])
    assert again.read_bytes() == path.read_bytes()


def test_imagefolders_come_back_as_they_were_written(source, tmp_path):
    dataset, images = source
    folder = tmp_path / "out" / "train"
    folder.mkdir(parents=True)
    for image, given in zip(images, dataset.images, strict=True):
        (folder / image["file_name"]).write_bytes(given.content.read_bytes())
    write_imagefolder_metadata(folder / "metadata.jsonl", dataset, images)
    (tmp_path / "out" / "contact_sheet.png").write_bytes((folder / "0.jpg").read_bytes())  # no part of it
    assert_equal(read_hf(tmp_path / "out"), dataset)


def test_webdataset_shards_are_read_by_datasets(source, tmp_path):
    dataset, images = source
    contents = [(image, given.content.read_bytes()) for image, given in zip(images, dataset.images, strict=True)]
    write_webdataset(tmp_path / "train-00000.tar", dataset, contents)
    rows = datasets.load_dataset(
        "webdataset", data_files={"train": str(tmp_path / "train-00000.tar")}, split="train", streaming=True
    )
    rows = list(rows.cast_column("jpg", datasets.Image(decode=False)))
    assert [row["jpg"]["bytes"] for row in rows] == [content for _, content in contents]
    assert rows[1]["json"]["file_name"] == "1.jpg"
    assert [one["category"] for one in rows[1]["json"]["objects"]] == ["kite", "dog", "dog"]


def as_parquet(folder, rows, features=None):
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def row(tmp_path, **objects):
    from PIL import Image

    Image.fromarray(make_photo()[0]).save(tmp_path / "photo.png")
    return {"image": {"bytes": (tmp_path / "photo.png").read_bytes(), "path": None}, "objects": objects}


FULL = {"bbox": [[2.0, 2, 10, 8]], "segmentation": [POLYGON[0]]}


def test_objects_may_be_a_dict_of_lists_with_categories_of_any_kind(tmp_path):
    text = read_hf(as_parquet(tmp_path, [row(tmp_path, **FULL, category=["dog"])]))
    assert text.category_names == {0: "dog"}
    assert text.images[0].name == "00000000.png"
    sample = text.images[0].sample()
    assert sample["masks"].sum() == 80
    assert sample["boxes"].tolist() == [[2, 2, 12, 10]]
    numbers = read_hf(as_parquet(tmp_path, [row(tmp_path, **FULL, categories=[7])]))
    assert numbers.category_names == {7: "7"}
    label = datasets.ClassLabel(names=["cat", "dog"])
    number = datasets.Value("float64")
    objects = {"bbox": [[number]], "segmentation": [[[number]]], "category": [label]}
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    labels = read_hf(as_parquet(tmp_path, [row(tmp_path, **FULL, category=[1])], features))
    assert labels.category_names == {0: "cat", 1: "dog"}
    assert labels.images[0].sample()["labels"].tolist() == [1]


def test_class_labels_come_back_in_their_order(source, tmp_path):
    dataset, images = source
    contents = [(image, given.content.read_bytes()) for image, given in zip(images, dataset.images, strict=True)]
    for image, _ in contents:
        image["annotations"] = [a for a in image["annotations"] if a["category_id"] == 9]
    (tmp_path / "out").mkdir()
    write_parquet(tmp_path / "out" / "train.parquet", dataset, contents)
    assert read_hf(tmp_path / "out").category_names == {0: "kite", 1: "dog"}  # kites, though there are none


def test_an_image_without_objects_may_lack_their_columns(tmp_path):
    rows = [row(tmp_path, **FULL, category=["dog"]), row(tmp_path, bbox=[], category=[], segmentation=None)]
    assert [len(image.annotations) for image in read_hf(as_parquet(tmp_path, rows)).images] == [1, 0]


def test_bad_datasets_are_refused(tmp_path):
    with pytest.raises(InputError, match="objects have 1 bbox, 1 segmentation, 2 category; expected as many of each"):
        read_hf(as_parquet(tmp_path, [row(tmp_path, **FULL, category=["dog", "cat"])]))
    with pytest.raises(InputError, match="cannot be opened as a dataset"):
        read_hf(tmp_path / "nothing.parquet")
    with pytest.raises(InputError, match="objects have no category"):
        read_hf(as_parquet(tmp_path, [row(tmp_path, **FULL)]))
    with pytest.raises(InputError, match="has the columns image; expected objects too"):
        read_hf(as_parquet(tmp_path, [{"image": row(tmp_path)["image"]}]))
    boxes = read_hf(as_parquet(tmp_path, [row(tmp_path, bbox=FULL["bbox"], category=["dog"])]))
    assert boxes.images[0].sample()["masks"].sum() == 80
    twice = [row(tmp_path, **FULL, category=["dog"]) | {"file_name": "a.png"}] * 2
    with pytest.raises(InputError, match="several images have one name"):
        read_hf(as_parquet(tmp_path, twice))


def test_the_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"aict_hf\[augment\]"):
        read_hf("somewhere")


def test_metadata_is_one_json_object_a_line(source, tmp_path):
    dataset, images = source
    write_imagefolder_metadata(tmp_path / "metadata.jsonl", dataset, images)
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == [f"{number}.jpg" for number in range(4)]
    assert all(isinstance(one["segmentation"]["counts"], str) for line in lines for one in line["objects"])


def test_objects_without_a_category_are_left_out_and_counted(tmp_path):
    twice = {name: 2 * values for name, values in FULL.items()}
    with pytest.warns(UserWarning, match="objects without a category are left out: 1, the first is row 0, object 1"):
        dataset = read_hf(as_parquet(tmp_path, [row(tmp_path, **twice, category=["dog", None])]))
    assert dataset.category_names == {0: "dog"}
    assert dataset.images[0].sample()["labels"].tolist() == [0]
    with pytest.warns(UserWarning, match="left out: 1, the first is row 0, object 0"):
        dataset = read_hf(as_parquet(tmp_path, [row(tmp_path, **twice, category=[None, 7.0])]))
    assert dataset.category_names == {7: "7"}
    objects = {"bbox": [[datasets.Value("float64")]], "category": [datasets.ClassLabel(names=["cat"])]}
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    rows = [row(tmp_path, bbox=twice["bbox"], category=[-1, 0])]
    with pytest.warns(UserWarning, match="left out: 1, the first is row 0, object 0"):
        dataset = read_hf(as_parquet(tmp_path, rows, features))
    assert dataset.images[0].sample()["labels"].tolist() == [0]


def test_boxes_and_masks_may_be_null(tmp_path):
    objects = {"bbox": [None, FULL["bbox"][0]], "segmentation": [POLYGON[0], None], "category": ["dog", "dog"]}
    dataset = read_hf(as_parquet(tmp_path, [row(tmp_path, **objects)]))
    sample = dataset.images[0].sample()
    assert sample["boxes"].tolist() == [[2, 2, 12, 10]] * 2
    assert sample["masks"].sum(axis=(1, 2)).tolist() == [80, 80]


def test_fields_that_cannot_be_read_are_named(tmp_path):
    for objects, words in (
        ({"bbox": [[1.0, 2]], "category": ["dog"]}, r"row 0, object 0 has the bbox \[1.0, 2.0\]; expected left"),
        ({"bbox": FULL["bbox"], "category": [["dog"]]}, r"row 0, object 0 has the category \['dog'\]; expected"),
        ({"bbox": FULL["bbox"], "category": "dog"}, "row 0: objects has fields that are not lists"),
    ):
        with pytest.raises(InputError, match=words):
            read_hf(as_parquet(tmp_path, [row(tmp_path, **objects)]))
    with pytest.raises(InputError, match="row 0: objects is 'text'; expected a list"):
        read_hf(as_parquet(tmp_path, [row(tmp_path) | {"objects": "text"}]))


def test_categories_of_one_name_are_two_class_labels(source, tmp_path):
    dataset, images = source
    dataset.categories[1]["name"] = "kite"
    contents = [(image, given.content.read_bytes()) for image, given in zip(images, dataset.images, strict=True)]
    write_parquet(tmp_path / "a.parquet", dataset, contents)
    assert sorted(read_hf(tmp_path / "a.parquet").category_names.values()) == ["kite", "kite (9)"]
