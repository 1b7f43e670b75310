import math

import numpy as np
import pytest

from aict_hf.augment.fields import LeftOut, has_segmentation, number, read_annotation, whole_number
from aict_hf.errors import InputError

SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]


@pytest.mark.parametrize(
    ("value", "whole", "read"),
    [
        (3, 3, 3),
        (3.0, 3, 3),
        ("3", 3, 3),
        (" 3.0 ", 3, 3),
        ([3], 3, 3),
        (np.float32(3), 3, 3),
        ("12345678901234567890", 12345678901234567890, 12345678901234567890.0),
        (3.5, None, 3.5),
        ("1e2", 100, 100),
        (True, None, None),
        (math.nan, None, None),
        ("nan", None, None),
        ([3, 4], None, None),
        ("dog", None, None),
        (None, None, None),
        ({}, None, None),
    ],
)
def test_numbers_are_read_in_many_types(value, whole, read):
    assert whole_number(value) == whole
    assert number(value) == read


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("bbox", "[5, 5, 10, 10]", [5, 5, 10, 10]),
        ("bbox", "5 5 10 10", [5, 5, 10, 10]),
        ("bbox", ["5", 5, 10.0, "10"], [5, 5, 10, 10]),
        ("bbox", [None] * 4, None),
        ("bbox", [], None),
        ("area", "100.5", 100.5),
        ("area", [100], 100),
        ("area", None, None),
        ("iscrowd", True, 1),
        ("iscrowd", "0", 0),
        ("iscrowd", "false", 0),
        ("iscrowd", None, 0),
        ("segmentation", {"size": [40.0, "60"], "counts": b"abc"}, {"size": [40, 60], "counts": "abc"}),
        ("segmentation", {"size": [2, 2], "counts": ["1", 3.0]}, {"size": [2, 2], "counts": [1, 3]}),
        ("segmentation", [{"size": [2, 2], "counts": [4]}], [{"size": [2, 2], "counts": [4]}]),
        ("keypoints", ["1", 2, 2.0], [1, 2, 2]),
    ],
)
def test_fields_are_read_as_tools_write_them(field, value, expected):
    left_out = LeftOut("a")
    annotation = {"segmentation": [SQUARE], "score": 0.5, field: value}
    read = read_annotation(annotation, left_out, "here")
    assert read == annotation | {field: expected}
    assert not left_out.found


def test_what_is_right_stays_the_same_object():
    annotation = {"segmentation": [SQUARE], "bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0}
    read = read_annotation(annotation, LeftOut("a"), "here")
    assert read == annotation
    assert read["segmentation"][0] is SQUARE


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bbox": "5 5 10"}, "has the bbox '5 5 10'; expected left, top, width and height"),
        ({"bbox": {"x": 5}}, r"has the bbox {'x': 5}; expected"),
        ({"bbox": [5, 5, 10, math.nan]}, "has the bbox"),
        ({"segmentation": "polygon"}, "has the segmentation 'polygon'; expected polygons or RLE"),
        ({"segmentation": 7}, "has the segmentation 7; expected"),
        ({"iscrowd": "maybe"}, "has the iscrowd 'maybe'; expected 0 or 1"),
        ({"keypoints": [1, 2, 2, 3]}, r"has the keypoints \[1, 2, 2, 3\]; expected x, y and visibility of each"),
        ({"keypoints": {"nose": 1}}, "has the keypoints {'nose': 1}"),
    ],
)
def test_fields_that_cannot_be_right_are_named_with_their_value(fields, words):
    with pytest.raises(InputError, match=words):
        read_annotation({"segmentation": [SQUARE], **fields}, LeftOut("a"), "here")


def test_reasons_are_counted_with_the_first_place():
    left_out = LeftOut("a.json")
    for place in ("one", "two"):
        left_out.add("things are left out", place)
    with pytest.warns(UserWarning, match=r"^a.json: things are left out: 2, the first is one$"):
        left_out.warn()


@pytest.mark.parametrize("segmentation", [None, [], "", [[]], [None], {}])
def test_no_segmentation_is_none_in_any_spelling(segmentation):
    read = read_annotation({"segmentation": segmentation, "bbox": [1, 1, 2, 2]}, LeftOut("a"), "here")
    assert not has_segmentation(read)
