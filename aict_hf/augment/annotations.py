"""Annotated images as every format is read into: COCO's fields, decoded when they are wanted.

Masks need pycocotools, polygons of masks OpenCV: `pip install "aict_hf[augment]"`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError, one_line
from ..files.images import in_profile, read_image


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and what is annotated in it, not decoded.

    Attributes:
        name: its relative path with forward slashes, unique in its dataset.
        content: the image's file, or the bytes of one.
        annotations: dicts with COCO's fields: `category_id`, `segmentation` (polygons, or RLE with its counts as a list
            or compressed), and where known `bbox` (left, top, width, height), `area`, `iscrowd`; others travel along.
        record: the fields that its format keeps of the image itself.
    """

    name: str
    content: Path | bytes
    annotations: Sequence[Mapping[str, Any]] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> np.ndarray:
        """The image, upright, sRGB, uint8, shape (H, W, 3); gray becomes RGB, alpha is left out.

        Raises:
            InputError: if it cannot be decoded, has 16 bits a channel, or another size than `record` says.
        """
        given = self.content
        photo = read_image(self.name, content=given) if isinstance(given, bytes) else read_image(given)
        if isinstance(photo.pixels, np.ndarray):
            raise InputError(f"{self.name}: has 16 bits a channel; convert it to 8 for augmentation")
        pixels = in_profile(photo)
        assert isinstance(pixels, Image.Image)
        for side, found in (("height", pixels.height), ("width", pixels.width)):
            if self.record.get(side, found) != found:
                raise InputError(
                    f"{self.name}: is {pixels.width} x {pixels.height} when upright, its record says {side} "
                    f"{self.record[side]}; were the annotations made for another size, or before it was turned?"
                )
        return np.array(pixels.convert("RGB"))

    def sample(self) -> dict[str, Any]:
        """Image and annotations as `HarmonizedCopyPaste` takes them.

        Returns:
            `image`, RGB, uint8, shape (H, W, 3); `masks`, bool, (N, H, W); `boxes`, float64, (N, 4), left, top, right
            and bottom, from the masks where none are given; `labels`, int64, (N,), the category ids; `image_id`, the
            name.
        Raises:
            InputError: if the image or a segmentation cannot be decoded, or they differ in size.
        """
        image = self.read()
        height, width = image.shape[:2]
        masks = np.zeros((len(self.annotations), height, width), bool)
        boxes = np.zeros((len(self.annotations), 4))
        for index, annotation in enumerate(self.annotations):
            try:
                masks[index] = segmentation_mask(annotation.get("segmentation"), height, width)
            except InputError as error:
                raise InputError(f"{self.name}: annotation {annotation.get('id', index)}: {error}") from error
            left, top, across, down = annotation.get("bbox") or _bounding_box(masks[index])
            boxes[index] = left, top, left + across, top + down
        labels = np.array([annotation["category_id"] for annotation in self.annotations], np.int64)
        return {"image": image, "masks": masks, "boxes": boxes, "labels": labels, "image_id": self.name}

    def updated_annotations(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The annotations of an augmented sample, in COCO's fields.

        Whole objects keep theirs as they were, cut ones get a new segmentation (RLE), area and box, and `keypoints`
        that are covered become invisible (1); pasted ones have these, `iscrowd` 0, `foreground`, the name of what
        was pasted, and `disharmony` where it was measured. `id` and `image_id` are the caller's.

        Args:
            before: what `sample` returned.
            after: what the transform made of it.
        """
        updated = []
        foregrounds, distances = iter(after["foregrounds"]), iter(after.get("disharmony", ()))
        for mask, label, origin in zip(after["masks"], after["labels"], after["origins"], strict=True):
            if origin < 0:
                annotation: dict[str, Any] = {"category_id": int(label), "foreground": next(foregrounds)}
                if "disharmony" in after:
                    annotation["disharmony"] = round(next(distances), 3)
            else:
                annotation = {"iscrowd": 0, **self.annotations[origin]}
            if origin < 0 or not np.array_equal(mask, before["masks"][origin]) or "segmentation" not in annotation:
                annotation |= {
                    "segmentation": mask_rle(mask),
                    "area": int(mask.sum()),
                    "bbox": _bounding_box(mask),
                    "iscrowd": annotation.get("iscrowd", 0),
                }
                if annotation.get("keypoints"):
                    annotation["keypoints"] = _seen_keypoints(annotation["keypoints"], before["masks"][origin] & ~mask)
            if annotation.get("area") is None:
                annotation["area"] = int(mask.sum())
            if not annotation.get("bbox"):
                annotation["bbox"] = _bounding_box(mask)
            updated.append(annotation)
        return updated


@dataclass(frozen=True)
class AnnotatedDataset:
    """Annotated images of one set of categories.

    Attributes:
        images: in their order; may decode lazily.
        categories: dicts with `id`, `name` and what else the format keeps of them.
        extra: the fields that the format keeps of the dataset as a whole.
    """

    images: Sequence[AnnotatedImage]
    categories: Sequence[Mapping[str, Any]]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def category_names(self) -> dict[int, str]:
        """Name of every category id."""
        return {category["id"]: category["name"] for category in self.categories}


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation.

    Args:
        segmentation: polygons, each x1, y1, x2, y2, ... in pixels; or RLE, `{"size": [height, width], "counts": ...}`
            with counts as a list or as a compressed string.
        height, width: of the image.
    Returns:
        bool, shape (height, width); empty where the segmentation marks no pixel.
    Raises:
        InputError: if it is missing, damaged, or made for another size; or pycocotools is not installed.
    """
    try:
        return _decoded(segmentation, height, width)
    except InputError:
        raise
    except (ValueError, TypeError, UnicodeError) as error:  # text among the numbers, lists within lists
        raise InputError(f"the segmentation cannot be decoded ({one_line(error)})") from error


def _decoded(segmentation: Any, height: int, width: int) -> np.ndarray:
    coder = _coco_masks()
    if isinstance(segmentation, Mapping):
        size, counts = list(segmentation.get("size") or ()), segmentation.get("counts")
        if size != [height, width]:
            raise InputError(f"the RLE is for height and width {size}, the image has {[height, width]}")
        if isinstance(counts, Sequence) and not isinstance(counts, str | bytes):
            if sum(counts) != height * width or min(counts) < 0:
                raise InputError(f"the RLE's counts add up to {sum(counts)} pixels, the image has {height * width}")
            counts = coder.frPyObjects({"size": size, "counts": list(counts)}, height, width)["counts"]
        return coder.decode({"size": size, "counts": counts}).astype(bool)
    is_list = isinstance(segmentation, Sequence | np.ndarray) and not isinstance(segmentation, str)
    if not is_list or len(segmentation) == 0:
        kind = "empty" if is_list else type(segmentation).__name__
        raise InputError(
            f"segmentation is {kind}; expected polygons or RLE: objects known by their boxes alone cannot be cut"
        )
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        points = np.asarray(polygon, float)
        if points.ndim != 1 or points.size < 6 or points.size % 2 or not np.isfinite(points).all():
            raise InputError(f"a polygon has {points.size} numbers; expected x and y of three points or more")
        # COCO's own rasterizer: areas then agree with those that pycocotools computes
        mask |= coder.decode(coder.frPyObjects([points.tolist()], height, width)[0]).astype(bool)
    return mask


def mask_rle(mask: np.ndarray) -> dict[str, Any]:
    """A bool mask (H, W) as COCO's compressed RLE, with its counts as text so that JSON holds it."""
    encoded = _coco_masks().encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode("ascii")}


def mask_polygon(mask: np.ndarray, *, tolerance: float = 0.5) -> np.ndarray:
    """A bool mask (H, W) as one polygon, for formats that hold no more.

    Parts and holes are joined to the first outline by bridges without width, there and back, which rasterize to
    nothing.

    Args:
        mask: what to outline.
        tolerance: how far the outline may stray to save points, in pixels.
    Returns:
        x and y in pixels, float64, shape (points, 2); shape (0, 2) for an empty mask.
    Raises:
        InputError: if OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError('outlines need OpenCV; pip install "aict_hf[augment]"') from error
    if not mask.any():
        return np.zeros((0, 2))
    left, top, width, height = map(int, _bounding_box(mask))
    # OpenCV's outlines run through pixel centres; in a mask four times as large that is an eighth of a pixel.
    fine = mask[top : top + height, left : left + width].astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    rings, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = [np.asarray(cv2.approxPolyDP(ring, 4 * tolerance, True), float)[:, 0] for ring in rings]
    outlines = sorted((outline for outline in outlines if len(outline) > 2), key=len, reverse=True)
    if not outlines:  # a line of pixels: its box is as good
        outlines = [np.array([[0, 0], [4 * width - 1, 0], [4 * width - 1, 4 * height - 1], [0, 4 * height - 1.0]])]
    joined = outlines[0]
    for outline in outlines[1:]:  # not from the nearest of all pairs, which takes minutes for foliage
        here = np.abs(joined - outline[0]).sum(axis=1).argmin()
        there = np.abs(outline - joined[here]).sum(axis=1).argmin()
        detour = np.concatenate([joined[here : here + 1], np.roll(outline, -there, axis=0), outline[there : there + 1]])
        joined = np.concatenate([joined[:here], detour, joined[here:]])
    return (joined + 0.5) / 4 + (left, top)


def _seen_keypoints(keypoints: Sequence[float], covered: np.ndarray) -> list[float]:
    """COCO's keypoints, x, y and visibility of each, of which those in the mask `covered` (H, W) lose theirs."""
    points = np.reshape(keypoints, (-1, 3)).tolist()
    height, width = covered.shape
    for point in points:
        column, row = int(point[0]), int(point[1])
        if point[2] == 2 and 0 <= row < height and 0 <= column < width and covered[row, column]:
            point[2] = 1
    return [number for point in points for number in point]


def _bounding_box(mask: np.ndarray) -> list[float]:
    """Left, top, width and height; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    return [float(n) for n in (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])]


def _coco_masks():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError('segmentations need pycocotools; pip install "aict_hf[augment]"') from error
    return mask


__all__ = ["AnnotatedDataset", "AnnotatedImage", "mask_polygon", "mask_rle", "segmentation_mask"]
