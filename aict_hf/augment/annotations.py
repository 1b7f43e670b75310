"""Annotated images, with COCO's fields, whatever format they were read from. Masks are decoded on demand.

Masks need pycocotools and their outlines need OpenCV: `pip install "aict_hf[augment]"`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ..compose.boxes import mask_box
from ..errors import InputError, one_line
from ..files.images import in_profile, read_image
from .fields import STRAY_POLYGON, has_segmentation


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its annotations, not yet decoded.

    Attributes:
        name: relative path with forward slashes, unique in the dataset.
        content: the image's file, or the bytes of one.
        annotations: dicts with COCO's fields: `category_id`, `segmentation` (polygons, or RLE with its counts as a list
            or compressed), and if known `bbox` (left, top, width, height), `area` and `iscrowd`. Other fields are kept.
            An object without a segmentation needs a `bbox`.
        record: fields that the format stores for the image itself.
    """

    name: str
    content: Path | bytes
    annotations: Sequence[Mapping[str, Any]] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> np.ndarray:
        """Decode the image.

        Returns:
            RGB in sRGB, turned upright, uint8, shape (H, W, 3). Gray becomes RGB, alpha is dropped.
        Raises:
            InputError: if it cannot be decoded, has 16 bits a channel, or has another size than `record` says.
        """
        pixels = read_eight_bit(self.name, self.content)
        for side, found in (("height", pixels.height), ("width", pixels.width)):
            if self.record.get(side, found) != found:
                raise InputError(
                    f"{self.name}: is {pixels.width} x {pixels.height} when upright, its record says {side} "
                    f"{self.record[side]}; were the annotations made for another size, or before it was turned?"
                )
        return np.array(pixels.convert("RGB"))

    def sample(self) -> dict[str, Any]:
        """Decode image and annotations into a sample for `HarmonizedCopyPaste`.

        Returns:
            a dict with `image`, RGB, uint8, shape (H, W, 3); `masks`, bool, (N, H, W), where the mask of an object that
            has only a box is the box; `boxes`, float64, (N, 4): left, top, right and bottom, computed from the mask if
            the annotation has none; `labels`, int64, (N,): the category ids; and `image_id`, the name.
        Raises:
            InputError: if the image or a segmentation cannot be decoded, or their sizes differ.
        """
        image = self.read()
        height, width = image.shape[:2]
        masks = np.zeros((len(self.annotations), height, width), bool)
        boxes = np.zeros((len(self.annotations), 4))
        for index, annotation in enumerate(self.annotations):
            try:
                if annotation.get("bbox") and not has_segmentation(annotation):
                    masks[index] = _box_mask(annotation["bbox"], height, width)
                else:
                    masks[index] = segmentation_mask(annotation.get("segmentation"), height, width)
            except InputError as error:
                raise InputError(f"{self.name}: annotation {annotation.get('id', index)}: {error}") from error
            left, top, across, down = annotation.get("bbox") or _coco_box(masks[index])
            boxes[index] = left, top, left + across, top + down
        labels = np.array([annotation["category_id"] for annotation in self.annotations], np.int64)
        return {"image": image, "masks": masks, "boxes": boxes, "labels": labels, "image_id": self.name}

    def updated_annotations(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the annotations of an augmented sample, with COCO's fields.

        Annotations of untouched objects stay the same. Cut objects get a new segmentation (RLE), area and box, and
        their covered `keypoints` become invisible (1). Objects that have only a box get no segmentation; their box
        shrinks where a whole side of it is covered. Pasted objects get the same fields, `iscrowd` 0, the name of the
        cut-out as `foreground`, and `disharmony` if it was measured. The caller sets `id` and `image_id`.

        Args:
            before: the sample that `sample` returned.
            after: the sample that the transform made of it.
        """
        updated = []
        cutouts, distances = iter(after["cutouts"]), iter(after.get("disharmony", ()))
        for mask, label, origin in zip(after["masks"], after["labels"], after["origins"], strict=True):
            if origin < 0:
                annotation: dict[str, Any] = {"category_id": int(label), "foreground": next(cutouts)}
                if "disharmony" in after:
                    annotation["disharmony"] = round(next(distances), 3)
            else:
                annotation = {"iscrowd": 0, **self.annotations[origin]}
            cut = origin >= 0 and not np.array_equal(mask, before["masks"][origin])
            if origin >= 0 and not has_segmentation(annotation):
                box = _cut_box(annotation["bbox"], before["masks"][origin], mask)
                if box != list(annotation["bbox"]) or annotation.get("area") is None:
                    annotation |= {"bbox": box, "area": box[2] * box[3]}
            elif origin < 0 or cut:
                annotation |= {
                    "segmentation": mask_rle(mask),
                    "area": int(mask.sum()),
                    "bbox": _coco_box(mask),
                    "iscrowd": annotation.get("iscrowd", 0),
                }
            if cut and annotation.get("keypoints"):
                annotation["keypoints"] = _seen_keypoints(annotation["keypoints"], before["masks"][origin] & ~mask)
            if annotation.get("area") is None:
                annotation["area"] = int(mask.sum())
            if not annotation.get("bbox"):
                annotation["bbox"] = _coco_box(mask)
            updated.append(annotation)
        return updated


@dataclass(frozen=True)
class AnnotatedDataset:
    """Annotated images that share a set of categories.

    Attributes:
        images: the images in order; may be read on demand.
        categories: dicts with `id`, `name` and other fields that the format stores.
        extra: fields that the format stores for the dataset as a whole.
    """

    images: Sequence[AnnotatedImage]
    categories: Sequence[Mapping[str, Any]]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def category_names(self) -> dict[int, str]:
        """Names of the categories by id."""
        return {category["id"]: category["name"] for category in self.categories}

    @cached_property
    def unique_names(self) -> dict[int, str]:
        """Names of the categories by id, where later categories of the same name have their id behind it.

        The category that has objects comes first, because some tools write an unused one of the same name.
        """
        names = self.category_names
        if len(set(names.values())) == len(names):
            return names
        used = {annotation["category_id"] for image in self.images for annotation in image.annotations}
        unique: dict[int, str] = {}
        for key in sorted(names, key=lambda key: key not in used):
            name = names[key]
            while name in unique.values() or (name != names[key] and name in names.values()):
                name = f"{name} ({key})"
            unique[key] = name
        return {key: unique[key] for key in names}

    @cached_property
    def only_boxes(self) -> bool:
        """Whether there are objects, and none of them has a mask."""
        found = False
        for image in self.images:
            if any(map(has_segmentation, image.annotations)):
                return False
            found = found or len(image.annotations) > 0
        return found


def read_eight_bit(name: str, content: Path | bytes) -> Image.Image:
    """Decode an image and convert it to sRGB.

    Args:
        name: what errors call the image.
        content: the file, or the bytes of one.
    Raises:
        InputError: if the image cannot be decoded or has 16 bits a channel.
    """
    photo = read_image(name, content=content) if isinstance(content, bytes) else read_image(content)
    if isinstance(photo.pixels, np.ndarray):
        raise InputError(f"{name}: has 16 bits a channel; convert it to 8 bits for augmentation")
    pixels = in_profile(photo)
    assert isinstance(pixels, Image.Image)  # for mypy: 8-bit pixels stay a PIL image
    return pixels


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode a COCO segmentation.

    Args:
        segmentation: polygons, each x1, y1, x2, y2, ... in pixels; or RLE, `{"size": [height, width], "counts": ...}`
            with counts as a list or as a compressed string; or a list of RLE.
        height, width: size of the image.
    Returns:
        the mask, bool, shape (height, width); empty if the segmentation marks no pixel. Polygons of fewer than three
        points are left out with a warning, if there are others.
    Raises:
        InputError: if the segmentation is missing, damaged or made for another size, or pycocotools is not installed.
    """
    try:
        return _decoded(segmentation, height, width)
    except InputError:
        raise
    except (ValueError, TypeError, UnicodeError) as error:  # text instead of numbers, nested lists
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
        elif isinstance(counts, str | bytes) and (covered := _covered_pixels(counts)) != height * width:
            raise InputError(f"the RLE's counts add up to {covered} pixels, the image has {height * width}")
        return coder.decode({"size": size, "counts": counts}).astype(bool)
    is_list = isinstance(segmentation, Sequence | np.ndarray) and not isinstance(segmentation, str)
    if not is_list or len(segmentation) == 0:
        kind = "empty" if is_list else type(segmentation).__name__
        raise InputError(f"segmentation is {kind}; expected polygons or RLE: objects with only a box cannot be cut out")
    mask = np.zeros((height, width), bool)
    strays = 0
    for polygon in segmentation:
        if isinstance(polygon, Mapping):
            mask |= _decoded(polygon, height, width)
            continue
        points = np.asarray(polygon, float)
        if points.ndim != 1 or points.size < 6 or points.size % 2 or not np.isfinite(points).all():
            strays += 1
            if strays == len(segmentation):
                raise InputError(f"a polygon has {points.size} numbers; expected x and y of at least three points")
            continue
        # COCO's own rasterizer, so that areas agree with those that pycocotools computes.
        mask |= coder.decode(coder.frPyObjects([points.tolist()], height, width)[0]).astype(bool)
    if strays:
        warnings.warn(f"{STRAY_POLYGON}: {strays}", stacklevel=4)
    return mask


def _covered_pixels(counts: str | bytes) -> int:
    """Add up the run lengths of compressed RLE. pycocotools decodes damaged ones without an error.

    Source: rleFrString of cocoapi. Each run is stored in groups of five bits, from the fourth on as the difference
    to the run two before it.
    """
    runs: list[int] = []
    run = shift = 0
    for code in counts.encode("ascii") if isinstance(counts, str) else counts:
        group = code - 48
        run |= (group & 31) << shift
        shift += 5
        if not group & 32:  # the last group, whose highest bit is the sign
            run -= (group & 16) << (shift - 4)
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run = shift = 0
    return sum(runs)


def mask_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encode a bool mask (H, W) as COCO's compressed RLE, with the counts as text so that it fits into JSON."""
    encoded = _coco_masks().encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(map(int, encoded["size"])), "counts": encoded["counts"].decode("ascii")}


def mask_polygon(mask: np.ndarray, *, tolerance: float = 0.5) -> np.ndarray:
    """Outline a mask as one polygon, for formats that hold one polygon per object.

    Parts and holes are joined to the first outline by bridges of zero width, which cover no pixel.

    Args:
        mask: bool, shape (H, W).
        tolerance: how far the outline may stray from the mask to save points, in pixels.
    Returns:
        x and y in pixels, float64, shape (points, 2); shape (0, 2) for an empty mask.
    Raises:
        InputError: if OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError('outlines need OpenCV; install it with pip install "aict_hf[augment]"') from error
    box = mask_box(mask)
    if box is None:
        return np.zeros((0, 2))
    left, top, right, bottom = box
    # OpenCV's outlines run through pixel centres. At four times the size they are off by an eighth of a pixel.
    fine = mask[top:bottom, left:right].astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    rings, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outlines = [np.asarray(cv2.approxPolyDP(ring, 4 * tolerance, True), float)[:, 0] for ring in rings]
    outlines = sorted((outline for outline in outlines if len(outline) > 2), key=len, reverse=True)
    if not outlines:  # a mask one pixel wide, which its box outlines
        across, down = 4 * (right - left) - 1.0, 4 * (bottom - top) - 1.0
        outlines = [np.array([[0, 0], [across, 0], [across, down], [0, down]])]
    joined = outlines[0]
    for outline in outlines[1:]:  # searching all pairs for the nearest takes minutes for foliage
        here = np.abs(joined - outline[0]).sum(axis=1).argmin()
        there = np.abs(outline - joined[here]).sum(axis=1).argmin()
        detour = np.concatenate([joined[here : here + 1], np.roll(outline, -there, axis=0), outline[there : there + 1]])
        joined = np.concatenate([joined[:here], detour, joined[here:]])
    return (joined + 0.5) / 4 + (left, top)


def _seen_keypoints(keypoints: Sequence[float], covered: np.ndarray) -> list[float]:
    """Mark COCO's keypoints (x, y and visibility of each) that lie in the mask `covered` (H, W) as invisible."""
    points = np.reshape(keypoints, (-1, 3)).tolist()
    height, width = covered.shape
    for point in points:
        column, row = int(point[0]), int(point[1])
        if point[2] == 2 and 0 <= row < height and 0 <= column < width and covered[row, column]:
            point[2] = 1
    return [number for point in points for number in point]


def _box_mask(box: Sequence[float], height: int, width: int) -> np.ndarray:
    """The pixels of a box (left, top, width and height) in an image, bool, shape (height, width)."""
    left, top = round(box[0]), round(box[1])
    right, bottom = max(round(box[0] + box[2]), left + 1), max(round(box[1] + box[3]), top + 1)
    mask = np.zeros((height, width), bool)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def _cut_box(box: Sequence[float], whole: np.ndarray, visible: np.ndarray) -> list[float]:
    """Move the sides of a box of which nothing is visible any more; the others stay to the digit."""
    left, top, across, down = box
    sides = [left, top, left + across, top + down]
    before, after = mask_box(whole), mask_box(visible)
    if before is None or after is None or before == after:
        return list(box)
    left, top, right, bottom = (
        side if old == new else float(new) for side, old, new in zip(sides, before, after, strict=True)
    )
    return [left, top, right - left, bottom - top]


def _coco_box(mask: np.ndarray) -> list[float]:
    """Left, top, width and height; zeros for an empty mask."""
    left, top, right, bottom = mask_box(mask) or (0, 0, 0, 0)
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _coco_masks() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError('segmentations need pycocotools; install it with pip install "aict_hf[augment]"') from error
    return mask


__all__ = ["AnnotatedDataset", "AnnotatedImage", "mask_polygon", "mask_rle", "read_eight_bit", "segmentation_mask"]
