import json

import numpy as np
import pytest
from conftest import write_coco_dataset
from PIL import ExifTags, Image
from pycocotools.coco import COCO

from aict_hf.augment.formats.coco import read_coco, write_coco
from aict_hf.errors import InputError


@pytest.fixture
def file(tmp_path):
    return write_coco_dataset(tmp_path)


def test_polygons_and_both_kinds_of_rle_decode_as_pycocotools_does(file):
    dataset, coco = read_coco(file), COCO(file)
    assert len(dataset.images) == 4
    assert dataset.category_names == {5: "kite", 9: "dog"}
    for image in dataset.images:
        sample = image.sample()
        for mask, annotation in zip(sample["masks"], image.annotations, strict=True):
            assert np.array_equal(mask, coco.annToMask(dict(annotation)).astype(bool))


def test_what_is_written_loads_in_pycocotools_with_new_ids(file, tmp_path):
    dataset = read_coco(file)
    images = [{**image.record, "annotations": image.annotations} for image in dataset.images[::-1]]
    images.append(images[0] | {"file_name": "again.jpg"})
    write_coco(tmp_path / "out.json", dataset, images)
    written = json.loads((tmp_path / "out.json").read_text())
    source = json.loads(file.read_text())
    for field in ("info", "licenses", "categories"):
        assert written[field] == source[field]
    assert [image["id"] for image in written["images"]] == [1, 2, 3, 4, 5]
    assert [annotation["id"] for annotation in written["annotations"]] == list(range(1, 16))
    assert written["images"][1] == source["images"][2] | {"id": 2}
    coco = COCO(tmp_path / "out.json")
    for image, given in zip(coco.loadImgs(coco.getImgIds()), images, strict=True):
        for annotation, before in zip(coco.imgToAnns[image["id"]], given["annotations"], strict=True):
            assert coco.annToMask(annotation).sum() == before["area"]
            assert annotation["iscrowd"] == before["iscrowd"]


def test_images_may_lie_elsewhere_and_sizes_be_missing(file, tmp_path):
    content = json.loads(file.read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"0.jpg: no such file, but .*a.json has 3 annotations for it"):
        read_coco(tmp_path / "deep" / "a.json")
    dataset = read_coco(tmp_path / "deep" / "a.json", tmp_path / "images")
    assert dataset.images[0].record["width"] == 80


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "is not in COCO's format; expected lists of images, annotations, categories"),
        (lambda c: c["images"][1].update(id=10), "two of the images have the id 10"),
        (lambda c: c["annotations"][1].update(id=100), "two of the annotations have the id 100"),
        (lambda c: c["categories"][1].update(id=5), "two of the categories have the id 5"),
        (lambda c: c["annotations"][1].update(image_id=7), "annotation 101 has image_id 7, which the file lacks"),
        (lambda c: c["annotations"][1].update(category_id=7), "annotation 101 has category_id 7, which"),
        (lambda c: c["categories"][1].pop("name"), "category 9 has no name"),
        (lambda c: c["categories"][1].update(id="dog"), "category dog has no name, or an id that is not a"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), r"annotation 100 has the bbox \[1, 2, 3\]; expected"),
        (lambda c: c["annotations"][1].pop("id"), "one of the annotations is not a record with an id"),
        (lambda c: c["images"][1].update(file_name="0.jpg"), "images 10 and 11 are both 0.jpg"),
        (lambda c: c["images"][1].pop("file_name"), "image 11 has no file_name"),
        (lambda c: c["images"][1].update(file_name="none.jpg"), "none.jpg: no such file"),
        (lambda c: [c["images"].clear(), c["annotations"].clear()], "has no images"),
    ],
)
def test_bad_files_are_refused(file, change, words):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        read_coco(file)


def test_no_json_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_coco(tmp_path / "nothing.json")
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(InputError, match="is not JSON"):
        read_coco(tmp_path / "half.json")


def test_sizes_are_read_upright_where_they_are_not_recorded(file):
    content = json.loads(file.read_text())
    for record in content["images"]:
        del record["width"], record["height"]
    file.write_text(json.dumps(content))
    path = file.parent / "images" / "0.jpg"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6
        image.save(path, exif=exif)
    (file.parent / "images" / "1.jpg").write_bytes(b"no image")
    turned, broken, *_ = read_coco(file).images
    assert (turned.record["width"], turned.record["height"]) == (60, 80)
    assert turned.read().shape == (80, 60, 3)
    with pytest.raises(InputError, match="is not an image"):
        broken.sample()


def test_names_may_come_from_windows_and_macos(tmp_path):
    write_coco_dataset(tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    (tmp_path / "images" / "day").mkdir()
    first, second = (tmp_path / "images" / content["images"][n]["file_name"] for n in range(2))
    first.rename(tmp_path / "images" / "day" / "A.JPG")
    second.rename(tmp_path / "images" / "e\u0301.jpg")
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "day\\a.jpg", "\u00e9.jpg"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    images = read_coco(tmp_path / "annotations.json").images
    assert [image.name for image in images[:2]] == ["day/a.jpg", "\u00e9.jpg"]
    assert all(image.content.is_file() for image in images)
