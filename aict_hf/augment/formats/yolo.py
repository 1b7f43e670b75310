"""Datasets in YOLO's segmentation format: folders of images and labels, and a YAML file with the class names."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import InputError, one_line
from ...files.atomic_write import atomic_file
from ...files.images import upright_size
from ...files.photo_folders import NamedFiles, find_photos, is_clutter, name_key
from ..annotations import AnnotatedDataset, AnnotatedImage, mask_polygon, segmentation_mask


def read_yolo(config: str | os.PathLike, split: str = "train") -> AnnotatedDataset:
    """Read a dataset.

    Args:
        config: the YAML file, or a folder that holds one. Its fields are `path` (the dataset's folder, relative to the
            YAML file), the split with its folder of images or a list of folders, and `names`. The labels of a folder
            are in the folder whose path has `labels` instead of `images`. An image without a label file has no objects.
        split: name of the split.
    Returns:
        the images in order of name, with polygons in pixels. Category ids are the class numbers.
    Raises:
        InputError: if the YAML file or a folder is missing, a label file has no image, or a line is not a polygon.
    """
    path = Path(config)
    if path.is_dir():
        found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        if len(found) != 1:
            raise InputError(f"{path}: holds {len(found)} YAML files; name the dataset's own")
        path = found[0]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content.get("names") or not content.get(split):
        raise InputError(f"{path}: expected `names` and the folder of images of the split `{split}`")
    names = content["names"]
    names = dict(enumerate(names)) if isinstance(names, list) else {int(key): str(name) for key, name in names.items()}
    root = path.parent / (content.get("path") or "")
    folders = content[split] if isinstance(content[split], list) else [content[split]]
    images: list[AnnotatedImage] = []
    for given in map(str, folders):
        folder = root / given
        if not folder.is_dir() and given.startswith("../"):  # Roboflow writes such paths, and YOLO's tools accept them
            folder = root / given[3:]
        if not folder.is_dir() or "images" not in folder.parts:
            raise InputError(f"{folder}: is not a folder of images (with `images` in its path), but {path} names it")
        place = len(folder.parts) - 1 - folder.parts[::-1].index("images")
        labels = Path(*folder.parts[:place], "labels", *folder.parts[place + 1 :])
        found = find_photos(folder)
        if found.left_out:
            warnings.warn(f"{folder}: left out {found.left_out}", stacklevel=2)
        files = found.files
        if len({file.with_suffix("") for file in files}) < len(files):
            raise InputError(f"{folder}: two images differ only in their extension and share a label file; rename one")
        stems = {name_key(file.relative_to(folder).with_suffix("").as_posix()) for file in files}
        for label in labels.rglob("*.txt"):
            relative = label.relative_to(labels)
            if label.name == "classes.txt" or any(map(is_clutter, relative.parts)):
                continue
            if name_key(relative.with_suffix("").as_posix()) not in stems:
                raise InputError(f"{label}: has no image in {folder}; remove it, or add the image")
        label_files = NamedFiles(labels)
        for file in files:
            name = file.relative_to(folder).as_posix()
            label = label_files.find(Path(name).with_suffix(".txt").as_posix()) or (labels / name).with_suffix(".txt")
            annotations: list[dict[str, Any]] = []
            record = {}
            if size := upright_size(
                file
            ):  # YOLO's tools turn images upright; unreadable images fail later, on their own
                record = {"width": size[0], "height": size[1]}
                annotations = _read_labels(label, *size, names) if label.is_file() else []
            prefix = f"{given.strip('./')}/" if len(folders) > 1 else ""
            images.append(AnnotatedImage(prefix + name, file, annotations, record))
    if not images:
        raise InputError(f"{path}: the split {split} has no images")
    return AnnotatedDataset(images, [{"id": key, "name": name} for key, name in names.items()])


def yolo_classes(dataset: AnnotatedDataset) -> dict[int, int]:
    """Number the category ids from 0 without gaps, as YOLO's tools require."""
    return {key: number for number, key in enumerate(sorted(dataset.category_names))}


def write_yolo_labels(path: Path, image: Mapping[str, Any], classes: Mapping[int, int]) -> None:
    """Write an image's label file, with one line per object: its class and one polygon.

    Objects with several parts or holes become one outline (see `mask_polygon`). Crowds are left out, because the format
    cannot mark them. The file appears once it is complete.

    Args:
        path: the label file.
        image: COCO's image record with its `annotations`.
        classes: class number of each category id.
    """
    lines = []
    width, height = image["width"], image["height"]
    for annotation in image["annotations"]:
        segmentation = annotation["segmentation"]
        if annotation.get("iscrowd"):
            continue
        if isinstance(segmentation, list) and len(segmentation) == 1:
            outline = np.reshape(segmentation[0], (-1, 2))
        else:
            outline = mask_polygon(segmentation_mask(segmentation, height, width))
        points = " ".join(f"{value:.6g}" for value in (outline / (width, height)).clip(0, 1).ravel())
        if points:
            lines.append(f"{classes[annotation['category_id']]} {points}\n")
    with atomic_file(path) as partial:
        partial.write_text("".join(lines))


def write_yolo_config(path: Path, dataset: AnnotatedDataset, images: str) -> None:
    """Write the YAML file of a dataset that has only a training split, in the folder `images`."""
    names = {number: dataset.category_names[key] for key, number in yolo_classes(dataset).items()}
    with atomic_file(path) as partial:
        content = yaml.safe_dump({"train": images, "names": names}, sort_keys=False, allow_unicode=True)
        partial.write_text(
            f"# Add `val: ...`, a folder of images that were not augmented.\n{content}", encoding="utf-8"
        )


def _read_labels(path: Path, width: int, height: int, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Read a label file as annotations with COCO's fields, in pixels."""
    annotations = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({one_line(error)})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            category, *values = line.split()
            key, numbers = int(category), [float(value) for value in values]
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not a class and numbers") from error
        if len(numbers) < 6 or len(numbers) % 2:
            kind = "a box" if len(numbers) == 4 else f"{len(numbers)} numbers"
            raise InputError(
                f"{path}: line {number} has {kind}; expected a class and x and y of at least three points: "
                "objects with only a box cannot be cut out"
            )
        if key not in names:
            raise InputError(f"{path}: line {number} has class {key}, which has no name")
        points = np.reshape(numbers, (-1, 2)) * (width, height)
        box = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
        annotations.append({"category_id": key, "segmentation": [points.ravel().tolist()], "bbox": box})
    return annotations


__all__ = ["read_yolo", "write_yolo_config", "write_yolo_labels", "yolo_classes"]
