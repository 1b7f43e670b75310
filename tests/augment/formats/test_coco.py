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
        (lambda c: c["annotations"][1].update(category_id="dog"), "annotation 101 has category_id 'dog', which"),
        (lambda c: c["annotations"][0].update(iscrowd="yes"), "annotation 100 has the iscrowd 'yes'; expected 0 or 1"),
        (lambda c: c["annotations"][0].update(segmentation="no"), "annotation 100 has the segmentation 'no'; expected"),
        (
            lambda c: c["annotations"][0].update(keypoints=[1, 2]),
            r"annotation 100 has the keypoints \[1, 2\]; expected",
        ),
        (lambda c: c["images"][1].update(file_name="https://a.org/b.jpg?c"), "has the address 'https://a.org/b.jpg"),
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


def rewritten(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return read_coco(file)


def as_text(content):
    """Write the numbers as annotation tools do that hold all fields as text, or as floats."""
    for record in content["images"]:
        record.update(width=str(record["width"]), height=float(record["height"]))
    for annotation in content["annotations"]:
        crowd = annotation["iscrowd"]
        annotation.update(
            image_id=str(annotation["image_id"]),
            category_id=float(annotation["category_id"]),
            area=[str(annotation["area"])],
            bbox=str(annotation.get("bbox", "")),
            iscrowd=bool(crowd) if crowd else None,
        )
        if isinstance(annotation["segmentation"], list):
            annotation["segmentation"] = [[str(side) for side in part] for part in annotation["segmentation"]]
        elif isinstance(annotation["segmentation"]["counts"], list):
            counts = [float(count) for count in annotation["segmentation"]["counts"]]
            annotation["segmentation"] = json.dumps({"size": annotation["segmentation"]["size"], "counts": counts})
    for category in content["categories"]:
        category["id"] = str(category["id"])


def test_numbers_may_be_text_and_whole_numbers_floats(file):
    expected = read_coco(file)
    dataset = rewritten(file, as_text)
    assert dataset.category_names == expected.category_names
    for image, right in zip(dataset.images, expected.images, strict=True):
        sample, other = image.sample(), right.sample()
        for field in ("masks", "boxes", "labels"):
            assert np.array_equal(sample[field], other[field])
        for annotation, same in zip(image.annotations, right.annotations, strict=True):
            assert (annotation["area"], annotation["iscrowd"]) == (same["area"], same["iscrowd"])
            json.dumps(annotation)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_decide_on_the_encoding(file, encoding):
    file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False), encoding=encoding)
    assert len(read_coco(file).images) == 4


def test_names_may_be_numbers(file):
    dataset = rewritten(file, lambda c: [c["categories"][0].update(name=0), c["categories"][1].update(name=7.5)])
    assert dataset.category_names == {5: "0", 9: "7.5"}


@pytest.mark.parametrize("name", ["images\\0.jpg", "images/0.jpg", "./0.jpg", "https://a.org/images/0.jpg?size=2"])
def test_images_are_found_by_the_names_that_tools_write(file, name):
    dataset = rewritten(file, lambda c: c["images"][0].update(file_name=name))
    assert dataset.images[0].name in ("images/0.jpg", "0.jpg")
    assert dataset.images[0].record["file_name"] == dataset.images[0].name
    assert dataset.images[0].content.is_file()


def test_what_is_left_out_is_counted_and_the_rest_stays(file):
    square = [[5, 5, 25, 5, 25, 25, 5, 25], [1, 2, 3, 4], [1, 2, 3, 4, 5, None]]

    def change(content):
        first, second, third, fourth, fifth, *_ = content["annotations"]
        first.update(segmentation=square)
        second.update(segmentation=[[1, 2]], bbox=[30, 20, 20, 10])
        third.update(segmentation=[], bbox=None)
        fourth.update(category_id=None)
        fifth.update(area="unknown", bbox=[5, 5, -3, 2])

    with pytest.warns(UserWarning, match="annotations.json: ") as caught:
        dataset = rewritten(file, change)
    said = "\n".join(str(warning.message) for warning in caught)
    for words in (
        "polygons without x and y of three points or more are left out: 3, the first is annotation 100",
        "objects that have no other polygon keep only their box: 1, the first is annotation 101",
        "objects with neither a mask nor a box with pixels in it are left out: 1, the first is annotation 102",
        "objects without a category are left out: 1, the first is annotation 103",
        "areas are not numbers and are computed from the masks: 1, the first is annotation 104",
        "boxes have a negative size and are computed from the masks: 1, the first is annotation 104",
    ):
        assert f"annotations.json: {words}" in said
    assert [len(image.annotations) for image in dataset.images] == [2, 2, 3, 3]
    first, second = dataset.images[0].annotations
    assert first["segmentation"] == square[:1]
    assert second["segmentation"] == []
    masks = dataset.images[0].sample()["masks"]
    assert masks[0].sum() == 400
    left, top, width, height = map(round, second["bbox"])
    assert masks[1, top : top + height, left : left + width].all()


def test_polygons_may_be_lists_of_points_or_lack_the_outer_list(file):
    flat = [5, 5, 25, 5, 25, 25, 5, 25]
    points = np.reshape(flat, (-1, 2)).tolist()
    for segmentation in ([flat], flat, [points], points, json.dumps([flat])):
        dataset = rewritten(file, lambda c, given=segmentation: c["annotations"][0].update(segmentation=given))
        assert dataset.images[0].annotations[0]["segmentation"] == [flat]


def test_corners_instead_of_sizes_are_said(file):
    with pytest.warns(UserWarning, match="as if they were left, top, right and bottom; .*annotation 100"):
        rewritten(file, lambda c: c["annotations"][0].update(bbox=[50, 30, 79, 59]))


def test_categories_of_one_name_stay_apart(file):
    unused = {"id": 0, "name": "dog", "supercategory": "none"}
    dataset = rewritten(file, lambda c: [c["categories"].insert(0, unused), c["categories"][1].update(name="dog")])
    assert dataset.category_names == {0: "dog", 5: "dog", 9: "dog"}
    assert dataset.unique_names == {0: "dog (0)", 5: "dog", 9: "dog (9)"}
