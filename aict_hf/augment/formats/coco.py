"""Datasets in COCO's JSON format."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.atomic_write import atomic_file
from ...files.images import upright_size
from ...files.photo_folders import NamedFiles
from ..annotations import AnnotatedDataset, AnnotatedImage


def read_coco(annotations: str | os.PathLike, images: str | os.PathLike | None = None) -> AnnotatedDataset:
    """Read instance annotations.

    Args:
        annotations: the JSON file.
        images: the folder that the `file_name`s are relative to. If left out, it is the folder `images` next to the
            JSON file if that exists, else the JSON file's own folder.
    Returns:
        the images in the file's order. `extra` has `info`, `licenses` and any other fields of the file.
    Raises:
        InputError: if the file is not in COCO's format, ids clash, or an image or category is missing.
    """
    path = Path(annotations)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    fields = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(field), list) for field in fields):
        raise InputError(f"{path}: is not in COCO's format; expected lists of {', '.join(fields)}")
    if images is None:
        images = path.parent / "images" if (path.parent / "images").is_dir() else path.parent
    by_id = {field: _by_id(path, field, content[field]) for field in fields}
    for key, category in by_id["categories"].items():
        if not isinstance(key, int) or not category.get("name"):
            raise InputError(f"{path}: category {key} has no name, or an id that is not a whole number")
    of_image: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in by_id["images"]}
    for annotation in content["annotations"]:
        key = annotation["id"]
        for field, known in (("image_id", of_image), ("category_id", by_id["categories"])):
            if annotation.get(field) not in known:
                raise InputError(f"{path}: annotation {key} has {field} {annotation.get(field)}, which the file lacks")
        box = annotation.get("bbox")
        if box and not (len(box) == 4 and all(isinstance(side, int | float) for side in box)):
            raise InputError(f"{path}: annotation {key} has the bbox {box}; expected left, top, width and height")
        of_image[annotation["image_id"]].append(annotation)
    named: dict[str, Any] = {}
    read = []
    files = NamedFiles(Path(images))
    for key, record in by_id["images"].items():
        name = record.get("file_name")
        if not name:
            raise InputError(f"{path}: image {key} has no file_name")
        if name in named:
            raise InputError(f"{path}: images {named[name]} and {key} are both {name}; give each file one record")
        named[name] = key
        file = files.find(name)
        if file is None:
            missing = Path(images) / name
            raise InputError(f"{missing}: no such file, but {path} has {len(of_image[key])} annotations for it")
        if "\\" in name and not (Path(images) / name).is_file():
            name = name.replace("\\", "/")  # written on Windows; the copies get subfolders
        if not {"width", "height"} <= record.keys() and (size := upright_size(file)):
            record = {**record, "width": size[0], "height": size[1]}
        read.append(AnnotatedImage(name, file, of_image[key], record))
    if not read:
        raise InputError(f"{path}: has no images")
    return AnnotatedDataset(
        read, content["categories"], {name: value for name, value in content.items() if name not in fields}
    )


def write_coco(path: Path, dataset: AnnotatedDataset, images: Iterable[Mapping[str, Any]]) -> None:
    """Write annotations. The file appears once it is complete.

    Args:
        path: the JSON file.
        dataset: provides the categories and `extra` (`info`, `licenses` and others).
        images: COCO's image records, each with its `annotations`. Images and annotations get new ids, from 1.
    Raises:
        InputError: if the file cannot be written.
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        records.append({name: value for name, value in image.items() if name != "annotations"} | {"id": number})
        for annotation in image["annotations"]:
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
    content = {**dataset.extra, "images": records, "annotations": annotations, "categories": list(dataset.categories)}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _by_id(path: Path, field: str, records: list[Any]) -> dict[Any, dict[str, Any]]:
    """Return records by id, and refuse records without an id of their own."""
    known: dict[Any, dict[str, Any]] = {}
    for record in records:
        if not isinstance(record, dict) or "id" not in record:
            raise InputError(f"{path}: one of the {field} is not a record with an id")
        if record["id"] in known:
            raise InputError(f"{path}: two of the {field} have the id {record['id']}; ids must differ")
        known[record["id"]] = record
    return known


__all__ = ["read_coco", "write_coco"]
