"""Fields of annotations in the types that annotation tools write: numbers as text, lists of one, 1.0 for 1, null."""

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError

STRAY_POLYGON = "polygons without x and y of three points or more are left out"
BOX_REMAINS = "objects that have no other polygon keep only their box"
UNMARKED = "objects with neither a mask nor a box with pixels in it are left out"
NO_CATEGORY = "objects without a category are left out"
NO_AREA = "areas are not numbers and are computed from the masks"
NO_BOX = "boxes have a negative size and are computed from the masks"


class LeftOut:
    """Counts what a reader leaves out, to say it in one line for each reason.

    Args:
        source: what the lines begin with: the file.
    """

    def __init__(self, source: Any):
        self.source = source
        self.found: dict[str, list[str]] = {}

    def add(self, reason: str, where: str) -> None:
        """Count one thing that is left out at `where`."""
        self.found.setdefault(reason, []).append(where)

    def warn(self) -> None:
        """Warn once for each reason, with the number and the first place."""
        for reason, places in self.found.items():
            warnings.warn(f"{self.source}: {reason}: {len(places)}, the first is {places[0]}", stacklevel=3)


def number(value: Any) -> float | None:
    """Read a finite number, the text of one, or a list of one; None for anything else."""
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def whole_number(value: Any) -> int | None:
    """Read 3, 3.0, "3" or "3.0" as 3; None for anything else, also for booleans."""
    if type(value) is int:
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):  # long ids lose digits as floats
        return int(value)
    read = number(value)
    return int(read) if read is not None and read.is_integer() else None


def has_segmentation(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has polygons or RLE, not only a box."""
    segmentation = annotation.get("segmentation")
    return segmentation is not None and len(segmentation) > 0


def read_annotation(annotation: Mapping[str, Any], left_out: LeftOut, where: str) -> dict[str, Any] | None:
    """Read `segmentation`, `bbox`, `area`, `iscrowd` and `keypoints` as COCO defines them.

    Polygons that are none (see `STRAY_POLYGON`) are left out, as Detectron2 and MMDetection do. Values that are right
    stay as they are.

    Args:
        annotation: the fields, of any type.
        left_out: counts what is left out.
        where: place of the annotation, for `left_out`.
    Returns:
        the annotation, or None if it marks nothing and is left out.
    Raises:
        InputError: "has the FIELD VALUE; expected ...", if a field cannot be read.
    """
    read = dict(annotation)
    segmentation, strays = _segmentation(annotation.get("segmentation"))
    for _ in range(strays):
        left_out.add(STRAY_POLYGON, where)
    if annotation.get("segmentation") is not None:
        read["segmentation"] = segmentation
    box = _box(annotation.get("bbox"))
    if "bbox" in annotation:
        read["bbox"] = box
    if not segmentation and (box is None or min(box[2:]) <= 0):
        left_out.add(UNMARKED, where)
        return None
    if strays and not segmentation:
        left_out.add(BOX_REMAINS, where)
    if box is not None and min(box[2:]) < 0:
        left_out.add(NO_BOX, where)
        read["bbox"] = None
    area = annotation.get("area")
    if area is not None and not (type(area) in (int, float) and math.isfinite(area)):
        read["area"] = number(area)
        if read["area"] is None:
            left_out.add(NO_AREA, where)
    if "iscrowd" in annotation:
        read["iscrowd"] = _flag("iscrowd", annotation["iscrowd"])
    keypoints = annotation.get("keypoints")
    if keypoints:
        points = [number(value) for value in keypoints] if isinstance(keypoints, list | tuple) else [None]
        if None in points or len(points) % 3:
            raise InputError(f"has the keypoints {_shown(keypoints)}; expected x, y and visibility of each")
        if any(isinstance(value, str) for value in keypoints):
            read["keypoints"] = points
    return read


def _box(value: Any) -> list[Any] | None:
    given = value
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,;]+", value.strip().strip("[]()")) if part]
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or value in ([], ()):
        return None
    if isinstance(value, list | tuple) and all(side is None for side in value):
        return None
    sides = [number(side) for side in value] if isinstance(value, list | tuple) else []
    if len(sides) != 4 or None in sides:
        raise InputError(f"has the bbox {_shown(given)}; expected left, top, width and height")
    return list(value) if all(type(side) in (int, float) for side in value) else sides


def _segmentation(value: Any) -> tuple[Any, int]:
    """Return a segmentation and the number of polygons that are left out. Nothing is an empty list."""
    given = value
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            value = "text"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or value in ([], {}, ()):
        return [], 0
    if isinstance(value, Mapping):
        return _rle(value), 0
    if not isinstance(value, list | tuple):
        raise InputError(f"has the segmentation {_shown(given)}; expected polygons or RLE")
    if all(isinstance(part, Mapping) for part in value):
        return [_rle(part) for part in value], 0
    if not any(isinstance(part, list | tuple | np.ndarray | Mapping) for part in value):
        value = [value]  # one polygon without the list around it
    elif len(value) > 2 and all(isinstance(part, list | tuple) and len(part) == 2 for part in value):
        value = [[side for point in value for side in point]]  # the same as a list of points
    present = [part for part in value if part is not None and len(part) > 0]
    polygons = [polygon for polygon in map(_polygon, present) if polygon is not None]
    return polygons, len(present) - len(polygons)


def _polygon(value: Any) -> Sequence[float] | None:
    try:
        array = np.asarray(value)
        points = array.astype(float)
    except (ValueError, TypeError):
        return None
    if points.ndim == 2 and points.shape[1] == 2:
        points = points.ravel()
    if points.ndim != 1 or points.size < 6 or points.size % 2 or not np.isfinite(points).all():
        return None
    return value if isinstance(value, list) and array.ndim == 1 and array.dtype.kind in "iuf" else points.tolist()


def _rle(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return RLE with whole numbers and text; what is damaged is left for the decoder to refuse."""
    read = dict(value)
    size, counts = value.get("size"), value.get("counts")
    if isinstance(size, list | tuple) and None not in map(whole_number, size):
        read["size"] = [whole_number(side) for side in size]
    if isinstance(counts, bytes):
        read["counts"] = counts.decode("ascii", "replace")
    elif isinstance(counts, list | tuple) and any(type(count) is not int for count in counts):
        whole = [whole_number(count) for count in counts]
        read["counts"] = counts if None in whole else whole
    return read


def _flag(field: str, value: Any) -> int:
    if isinstance(value, bool) or value is None:
        return int(bool(value))
    if isinstance(value, str) and value.strip().lower() in ("", "true", "false"):
        return int(value.strip().lower() == "true")
    flag = whole_number(value)
    if flag is None:
        raise InputError(f"has the {field} {_shown(value)}; expected 0 or 1")
    return flag


def _shown(value: Any) -> str:
    """Show a value so that its type can be seen, on one line of limited length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


__all__ = [
    "NO_CATEGORY",
    "STRAY_POLYGON",
    "UNMARKED",
    "LeftOut",
    "has_segmentation",
    "number",
    "read_annotation",
    "whole_number",
]
