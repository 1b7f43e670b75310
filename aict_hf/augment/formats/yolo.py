"""Datasets in YOLO's format, of polygons or boxes: images and labels, and a YAML file with the class names."""

import codecs
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import InputError, one_line
from ...files.atomic_write import atomic_file
from ...files.images import upright_size
from ...files.photo_folders import NamedFiles, find_photos, is_clutter, name_key
from ..annotations import AnnotatedDataset, AnnotatedImage, mask_polygon, segmentation_mask
from ..fields import STRAY_POLYGON, UNMARKED, LeftOut, has_segmentation, whole_number
from ..fields import number as to_number


def read_yolo(config: str | os.PathLike, split: str = "train") -> AnnotatedDataset:
    """Read a dataset.

    Each image's label file lies in the folder whose path has `labels` instead of the last `images`, as Ultralytics
    looks for it, or beside the image if its path has no `images`. An image without a label file has no objects. A line
    with four numbers after the class is a box, one with more is a polygon.

    Args:
        config: the YAML file, or a folder that holds one. Its fields are `path` (the dataset's folder, relative to the
            YAML file or the current folder), the split, and `names` (or only their number, `nc`). The split is a folder
            of images, a text file that lists images, or a list of these.
        split: name of the split.
    Returns:
        the images in order of name, with polygons and boxes in pixels. Category ids are the class numbers.
    Raises:
        InputError: if the YAML file or a folder is missing, a label file has no image, or a line cannot be read.
    """
    path = Path(config)
    if path.is_dir():
        found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
        if len(found) != 1:
            raise InputError(f"{path}: holds {len(found)} YAML files; name the dataset's own")
        path = found[0]
    try:
        # The base loader keeps all values as text, where others read the names `no` and `1` as False and 1.
        content = yaml.load(_decoded(path.read_bytes()), Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not (content.get("names") or content.get("nc")) or not content.get(split):
        holds = ", ".join(content) if isinstance(content, dict) and content else "none"
        raise InputError(
            f"{path}: expected `names` and the folder of images of the split `{split}`; its fields are: {holds}"
        )
    if content.get("kpt_shape"):
        raise InputError(f"{path}: has labels with keypoints (kpt_shape); expected boxes or polygons")
    names = _class_names(path, content)
    roots = _roots(path, content.get("path") or "")
    given = content[split] if isinstance(content[split], list) else [content[split]]
    left_out = LeftOut(path)
    images: list[AnnotatedImage] = []
    labelled = False
    for entry in map(str, given):
        place = _found(roots, entry)
        if place is None or not (place.is_dir() or place.suffix.lower() == ".txt"):
            raise InputError(
                f"{place or roots[0] / entry}: is not a folder of images or a .txt list of them, but {path} names it"
            )
        files = _images_of_folder(place) if place.is_dir() else _listed_images(place, roots)
        prefix = f"{entry.strip('./')}/" if len(given) > 1 and place.is_dir() else ""
        for name, file, label in files:
            annotations: list[dict[str, Any]] = []
            record = {}
            if size := upright_size(file):  # YOLO's tools turn images upright; unreadable ones fail later, on their own
                record = {"width": size[0], "height": size[1]}
                if label.is_file():
                    annotations = _read_labels(label, *size, names, left_out)
            labelled = labelled or label.is_file()
            images.append(AnnotatedImage(prefix + name, file, annotations, record))
    if not images:
        raise InputError(f"{path}: the split {split} has no images")
    if not labelled:
        warnings.warn(f"{path}: the split {split} has no label file; expected, for example, {label}", stacklevel=2)
    left_out.warn()
    return AnnotatedDataset(images, [{"id": key, "name": name} for key, name in names.items()])


def yolo_classes(dataset: AnnotatedDataset) -> dict[int, int]:
    """Number the category ids from 0 without gaps, as YOLO's tools require."""
    return {key: number for number, key in enumerate(sorted(dataset.category_names))}


def yolo_label_path(image: Path) -> Path:
    """Return where YOLO's tools look for an image's labels: under `labels` in place of the last `images`, or beside."""
    parts = image.parent.parts
    if "images" not in parts:
        return image.with_suffix(".txt")
    place = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:place], "labels", *parts[place + 1 :], image.with_suffix(".txt").name)


def write_yolo_labels(
    path: Path, image: Mapping[str, Any], classes: Mapping[int, int], *, only_boxes: bool = False
) -> None:
    """Write an image's label file, with one line per object: its class and one polygon, or its class and its box.

    Objects with several parts or holes become one outline (see `mask_polygon`). Crowds are left out, because the format
    cannot mark them. The file appears once it is complete.

    Args:
        path: the label file.
        image: COCO's image record with its `annotations`.
        classes: class number of each category id.
        only_boxes: write boxes, for a dataset that has no masks. Otherwise an object without a mask gets the corners of
            its box as polygon, because YOLO's tools misread boxes and polygons in one file.
    """
    lines = []
    width, height = image["width"], image["height"]
    for annotation in image["annotations"]:
        segmentation = annotation.get("segmentation")
        if annotation.get("iscrowd"):
            continue
        if only_boxes or not has_segmentation(annotation):
            left, top, across, down = annotation["bbox"]
            sides = np.array([[left, top], [left + across, top + down]]) / (width, height)
            (left, top), (right, bottom) = sides.clip(0, 1)
            shares = np.array([left, top, right, top, right, bottom, left, bottom])
            if only_boxes:
                shares = np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
                if min(shares[2:]) <= 0:
                    continue
        else:
            if isinstance(segmentation, list) and len(segmentation) == 1 and not isinstance(segmentation[0], Mapping):
                outline = np.reshape(segmentation[0], (-1, 2))
            else:
                outline = mask_polygon(segmentation_mask(segmentation, height, width))
            shares = (outline / (width, height)).clip(0, 1).ravel()
        if len(shares):
            numbers = " ".join(f"{share:.6g}" for share in shares)
            lines.append(f"{classes[annotation['category_id']]} {numbers}\n")
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


def _decoded(content: bytes) -> str:
    """Decode text by its byte order mark, as Windows programs write it, and as UTF-8 without one."""
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if marked else "utf-8-sig")


def _class_names(path: Path, content: Mapping[str, Any]) -> dict[int, str]:
    """Return the class names by number. `names` is a list, or numbers with their names."""
    names = content.get("names")
    if not names:
        count = whole_number(content["nc"])
        if count is None or count < 1:
            raise InputError(f"{path}: nc is {content['nc']!r}; expected the number of classes, or `names`")
        return {number: f"class_{number}" for number in range(count)}  # as Ultralytics names them
    given = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(given, dict):
        raise InputError(f"{path}: names is {names!r}; expected a list of names, or numbers with their names")
    read: dict[int, str] = {}
    for key, name in given.items():
        number = whole_number(key)
        if number is None or number in read or not isinstance(name, str) or not name:
            raise InputError(f"{path}: names has {key!r}: {name!r}; expected a class number of its own and a name")
        read[number] = name
    return read


def _roots(path: Path, given: str) -> list[Path]:
    """Return the folders that the entries of a YAML file may be relative to."""
    paths = [given, given.replace("\\", "/")]
    roots = [folder / name for folder in (path.parent, Path()) for name in paths if (folder / name).is_dir()]
    if not roots:
        warnings.warn(
            f"{path}: its path {given!r} is not a folder; the split is looked for beside the file", stacklevel=3
        )
    return [*dict.fromkeys(roots), path.parent] if given else [path.parent]


def _found(roots: Sequence[Path], entry: str) -> Path | None:
    """Return the file or folder that an entry names, or None."""
    for name in dict.fromkeys([entry, entry.replace("\\", "/")]):
        for root in roots:
            # Roboflow writes paths with ../ before them, and YOLO's tools accept them.
            for place in (root / name, root / name.removeprefix("../")):
                if place.exists():
                    return place
    return None


def _images_of_folder(folder: Path) -> list[tuple[str, Path, Path]]:
    """Return name, file and label file of the images in a folder, and refuse labels that have no image."""
    found = find_photos(folder, not_counted=[".txt"])
    if found.left_out:
        warnings.warn(f"{folder}: left out {found.left_out}", stacklevel=3)
    files = found.files
    if len({file.with_suffix("") for file in files}) < len(files):
        raise InputError(f"{folder}: two images differ only in their extension and share a label file; rename one")
    labels = yolo_label_path(folder / "image").parent
    if labels != folder:
        stems = {name_key(file.relative_to(folder).with_suffix("").as_posix()) for file in files}
        for label in labels.rglob("*.txt"):
            relative = label.relative_to(labels)
            if label.name == "classes.txt" or any(map(is_clutter, relative.parts)):
                continue
            if name_key(relative.with_suffix("").as_posix()) not in stems:
                raise InputError(f"{label}: has no image in {folder}; remove it, or add the image")
    label_files = NamedFiles(labels)
    listed = []
    for file in files:
        name = file.relative_to(folder)
        usual = yolo_label_path(file)
        places = (usual, label_files.find(name.with_suffix(".txt").as_posix()), file.with_suffix(".txt"))
        label = next((place for place in places if place and place.is_file()), usual)
        listed.append((name.as_posix(), file, label))
    return listed


def _listed_images(listing: Path, roots: Sequence[Path]) -> list[tuple[str, Path, Path]]:
    """Return name, file and label file of the images in a list, one path per line."""
    try:
        lines = _decoded(listing.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listing}: cannot be read as text ({one_line(error)})") from error
    files = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        file = _found([listing.parent, *roots, Path()], line.strip())
        if file is None or not file.is_file():
            raise InputError(f"{listing}: line {number} names {line.strip()!r}, which is not a file")
        if file not in files:
            files.append(file)
    parents = [file.absolute().parent for file in files]
    top = Path(os.path.commonpath(parents)) if parents else Path()
    if "images" in top.parts:  # names hold no `images`, so that the label files of copies are found
        top = Path(*top.parts[: len(top.parts) - top.parts[::-1].index("images")])
    return [(file.absolute().relative_to(top).as_posix(), file, yolo_label_path(file)) for file in files]


def _read_labels(
    path: Path, width: int, height: int, names: Mapping[int, str], left_out: LeftOut
) -> list[dict[str, Any]]:
    """Read a label file as annotations with COCO's fields, in pixels."""
    annotations = []
    try:
        lines = _decoded(path.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({one_line(error)})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        category, *values = line.split()
        key = whole_number(category)
        numbers = [read for read in map(to_number, values) if read is not None]
        if key is None or len(numbers) < len(values):
            raise InputError(f"{path}: line {number} is not a class and numbers: {line.strip()[:60]!r}")
        if len(numbers) % 2 or not numbers:
            raise InputError(
                f"{path}: line {number} has {len(numbers)} numbers after the class; expected a box (centre, width and "
                "height), or x and y of at least three points"
            )
        if key not in names:
            raise InputError(f"{path}: line {number} has class {category}, which has no name")
        if max(map(abs, numbers)) > 2:
            raise InputError(
                f"{path}: line {number} has the coordinate {max(numbers, key=abs):g}; expected shares of the image's "
                "width and height, from 0 to 1, not pixels"
            )
        points = np.reshape(numbers, (-1, 2)) * (width, height)
        if len(points) == 1:
            left_out.add(STRAY_POLYGON, f"{path}, line {number}")
        elif len(points) == 2:
            (x, y), (across, down) = points.tolist()
            if across <= 0 or down <= 0:
                left_out.add(UNMARKED, f"{path}, line {number}")
                continue
            annotations.append({"category_id": key, "bbox": [x - across / 2, y - down / 2, across, down]})
        else:
            box = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
            annotations.append({"category_id": key, "segmentation": [points.ravel().tolist()], "bbox": box})
    return annotations


__all__ = ["read_yolo", "write_yolo_config", "write_yolo_labels", "yolo_classes", "yolo_label_path"]
