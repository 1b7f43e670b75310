import builtins

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageCms
from pycocotools import mask as coco_masks

from aict_hf.augment.annotations import AnnotatedImage, mask_polygon, mask_rle, segmentation_mask
from aict_hf.errors import InputError


def disc(height=40, width=60, radius=12, x=30, y=20):
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows - y, columns - x) < radius


def counts_of(mask):
    """Run lengths, down the columns, from background on: COCO's uncompressed RLE."""
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.r_[0, flat, 1 - flat[-1]]))
    return np.diff(np.r_[0, edges]).tolist()


def test_compressed_and_uncompressed_rle_are_the_same_mask():
    mask = disc()
    assert np.array_equal(segmentation_mask(mask_rle(mask), 40, 60), mask)
    assert np.array_equal(segmentation_mask({"size": [40, 60], "counts": counts_of(mask)}, 40, 60), mask)
    assert coco_masks.area(mask_rle(mask)) == mask.sum()


def test_polygons_are_filled_and_joined():
    left, right = [5, 5, 15, 5, 15, 15, 5, 15], [30.0, 5, 50, 5, 50, 35, 30, 35]
    mask = segmentation_mask([left, right], 40, 60)
    expected = np.zeros((40, 60), bool)
    expected[5:15, 5:15] = expected[5:35, 30:50] = True
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (None, "is NoneType; expected polygons or RLE: objects with only a box"),
        ([], "is empty; expected polygons or RLE: objects with only a box"),
        ([["a", 2, 3, 4, 5, 6]], "the segmentation cannot be decoded"),
        ([[[1, 2], [3]]], "the segmentation cannot be decoded"),
        ({"size": 5, "counts": "a"}, "the segmentation cannot be decoded"),
        ({"size": [40, 60], "counts": ["a"]}, "the segmentation cannot be decoded"),
        ([[1, 2, 3, 4]], "a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon has 6 numbers"),
        ({"size": [60, 40], "counts": [2400]}, r"is for height and width \[60, 40\], the image has \[40, 60\]"),
        ({"size": [40, 60], "counts": [3, 2]}, "add up to 5 pixels, the image has 2400"),
        ({"size": [40, 60], "counts": "é"}, "cannot be decoded"),
        ({"size": [40, 60], "counts": mask_rle(disc())["counts"][:-2]}, "add up to .* pixels, the image has 2400"),
        ({"size": [40, 60]}, "cannot be decoded"),
    ],
)
def test_damaged_segmentations_are_refused(segmentation, words):
    with pytest.raises(InputError, match=words):
        segmentation_mask(segmentation, 40, 60)


def rasterized(polygon, shape):
    return segmentation_mask([polygon.ravel().tolist()], *shape)


@pytest.mark.parametrize("shape", ["disc", "two parts", "ring", "one pixel"])
def test_one_polygon_holds_parts_and_holes(shape):
    mask = disc(80, 120, 30, 60, 40)
    if shape == "two parts":
        mask[:, 55:65] = False
    elif shape == "ring":
        mask &= ~disc(80, 120, 15, 60, 40)
    elif shape == "one pixel":
        mask = disc(80, 120, 0.5, 60, 40)
    again = rasterized(mask_polygon(mask), mask.shape)
    assert (again & mask).sum() >= 0.97 * (again | mask).sum()


def test_an_empty_mask_has_no_polygon():
    assert mask_polygon(np.zeros((4, 4), bool)).shape == (0, 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_images_of_other_modes_become_rgb(tmp_path, mode):
    Image.fromarray(make_photo()[0]).convert(mode).save(tmp_path / "a.tif")
    for content in (tmp_path / "a.tif", (tmp_path / "a.tif").read_bytes()):
        image = AnnotatedImage("a.tif", content).read()
        assert image.shape == (40, 56, 3)
        assert image.dtype == np.uint8


def test_samples_have_masks_boxes_and_labels(tmp_path):
    Image.fromarray(make_photo()[0]).save(tmp_path / "a.png")
    annotations = [
        {"category_id": 3, "segmentation": [[5, 5, 15, 5, 15, 20, 5, 20]], "bbox": [5, 5, 10, 15]},
        {"category_id": 1, "segmentation": mask_rle(disc(40, 56))},
    ]
    sample = AnnotatedImage("a.png", tmp_path / "a.png", annotations).sample()
    assert sample["masks"].shape == (2, 40, 56)
    assert sample["boxes"].tolist() == [[5, 5, 15, 20], [19, 9, 42, 32]]
    assert sample["labels"].tolist() == [3, 1]


def test_what_does_not_fit_is_said(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(make_photo()[0]).save(path)
    with pytest.raises(InputError, match="is 56 x 40 when upright, its record says height 56"):
        AnnotatedImage("a.png", path, [], {"height": 56, "width": 40}).sample()
    with pytest.raises(InputError, match="annotation 7: a polygon has 2 numbers"):
        AnnotatedImage("a.png", path, [{"id": 7, "category_id": 1, "segmentation": [[1, 2]]}]).sample()
    with pytest.raises(InputError, match=r"b.png: is not an image of a known format"):
        AnnotatedImage("b.png", b"no image").read()


def test_sixteen_bits_are_refused_from_files_and_bytes(tmp_path):
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27).save(tmp_path / "a.png")
    for content in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
        with pytest.raises(InputError, match=r"a.png: has 16 bits a channel"):
            AnnotatedImage("a.png", content).read()


def test_colours_of_other_profiles_become_srgb(tmp_path):
    photo = make_photo()[0]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(AnnotatedImage("a", tmp_path / "a.png").read(), photo)
    swapped = profile.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")
    Image.fromarray(photo).save(tmp_path / "b.png", icc_profile=swapped)  # red and green are each other's
    read = AnnotatedImage("b", (tmp_path / "b.png").read_bytes()).read()
    assert abs(read.astype(int) - photo[..., [1, 0, 2]]).max() <= 1


def test_covered_keypoints_are_no_longer_visible():
    keypoints = [6, 6, 2, 14, 6, 2, 14, 7, 1, 0, 0, 0]
    annotation = {"category_id": 1, "segmentation": [[5, 5, 15, 5, 15, 20, 5, 20]], "keypoints": keypoints}
    before = segmentation_mask(annotation["segmentation"], 40, 56)
    after = before.copy()
    after[:, 12:] = False
    (cut,) = AnnotatedImage("a", b"", [annotation]).updated_annotations(
        {"masks": before[None]},
        {"masks": after[None], "labels": np.array([1]), "origins": np.array([0]), "cutouts": []},
    )
    assert cut["keypoints"] == [6, 6, 2, 14, 6, 1, 14, 7, 1, 0, 0, 0]
    assert annotation["keypoints"] is keypoints


def test_masks_of_many_parts_have_polygons_too():
    rows, columns = np.mgrid[:600, :600]
    mask = np.hypot(rows % 20 - 10, columns % 20 - 10) < 6  # 900 discs
    again = rasterized(mask_polygon(mask), mask.shape)
    assert (again & mask).sum() >= 0.97 * (again | mask).sum()


def test_annotations_follow_what_became_of_the_objects():
    annotations = [
        {
            "id": 5,
            "category_id": 3,
            "segmentation": [[5, 5, 15, 5, 15, 20, 5, 20]],
            "area": 150,
            "bbox": [5, 5, 10, 15],
        },
        {"id": 6, "category_id": 1, "segmentation": [[0, 0, 20, 0, 20, 9, 0, 9]], "score": 0.5, "iscrowd": 0},
    ]
    image = AnnotatedImage("a", b"", annotations)
    before = {"masks": np.stack([segmentation_mask(a["segmentation"], 40, 56) for a in annotations])}
    cut, new = before["masks"][1].copy(), disc(40, 56)
    cut[:, 12:] = False
    after = {
        "masks": np.stack([before["masks"][0], cut, new]),
        "labels": np.array([3, 1, 9]),
        "origins": np.array([0, 1, -1]),
        "cutouts": ["bird.png"],
    }
    whole, half, pasted = image.updated_annotations(before, after)
    assert whole == annotations[0] | {"iscrowd": 0}
    assert half["area"] == 108
    assert half["bbox"] == [0, 0, 12, 9]
    assert half["score"] == 0.5
    assert np.array_equal(segmentation_mask(half["segmentation"], 40, 56), cut)
    assert pasted["category_id"] == 9
    assert pasted["area"] == new.sum() == coco_masks.area(pasted["segmentation"])
    assert pasted["foreground"] == "bird.png"


@pytest.mark.parametrize("package", ["pycocotools", "cv2"])
def test_missing_packages_are_named(monkeypatch, package):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith(package):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"aict_hf\[augment\]"):
        mask_polygon(disc()) if package == "cv2" else mask_rle(disc())


def test_stray_polygons_are_left_out_of_the_mask():
    square = [5, 5, 15, 5, 15, 15, 5, 15]
    with pytest.warns(UserWarning, match="polygons without x and y of three points or more are left out: 1"):
        mask = segmentation_mask([[1, 2, 3, 4], square], 40, 60)
    assert mask.sum() == 100


def test_objects_with_only_a_box_keep_it_until_a_side_is_covered():
    annotations = [{"category_id": 1, "bbox": [5.25, 5.5, 20.5, 10], "segmentation": [], "area": 99}] * 3
    image = AnnotatedImage("a", b"", annotations)
    whole = np.zeros((40, 56), bool)
    whole[6:16, 5:26] = True
    middle, side = whole.copy(), whole.copy()
    middle[8:10, 8:12] = False
    side[:, 20:] = False
    after = {"masks": np.stack([whole, middle, side]), "labels": np.ones(3), "origins": np.arange(3), "cutouts": []}
    same, inside, cut = image.updated_annotations({"masks": np.stack([whole] * 3)}, after)
    assert same == inside == {"iscrowd": 0, **annotations[0]}
    assert cut == {"iscrowd": 0, **annotations[0], "bbox": [5.25, 5.5, 14.75, 10], "area": 147.5}
