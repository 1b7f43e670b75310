"""Datasets in COCO's JSON format."""

import json
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError
from ...files.atomic_write import atomic_file
from ...files.images import upright_size
from ...files.photo_folders import NamedFiles
from ..annotations import AnnotatedDataset, AnnotatedImage
from ..fields import NO_CATEGORY, LeftOut, read_annotation, whole_number

CORNERS = (
    "boxes reach beyond their image, as if they were left, top, right and bottom; "
    "COCO's are left, top, width and height"
)


def read_coco(annotations: str | os.PathLike, images: str | os.PathLike | None = None) -> AnnotatedDataset:
    """Read instance annotations.

    Numbers may be text, or lists of one number. Objects without a category, or with neither a mask nor a box, and
    polygons of fewer than three points are left out, with one warning for each reason.

    Args:
        annotations: the JSON file.
        images: the folder that the `file_name`s are relative to. If left out, it is the folder `images` next to the
            JSON file, or the JSON file's own folder. Backslashes separate folders too.
    Returns:
        the images in the file's order. `extra` has `info`, `licenses` and any other fields of the file.
    Raises:
        InputError: if the file is not in COCO's format, ids clash, a field cannot be read, or an image or category is
            missing.
    """
    path = Path(annotations)
    try:
        content = json.loads(path.read_bytes())  # bytes, so that a byte order mark decides on the encoding
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    fields = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(field), list) for field in fields):
        raise InputError(f"{path}: is not in COCO's format; expected lists of {', '.join(fields)}")
    by_id = {field: _by_id(path, field, content[field]) for field in fields}
    categories = _categories(path, by_id["categories"])
    left_out = LeftOut(path)
    of_image: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in by_id["images"]}
    image_ids, category_ids = _numbered(of_image), _numbered(categories)
    for key, annotation in by_id["annotations"].items():
        place = f"annotation {key!r}"
        if annotation.get("category_id") is None:
            left_out.add(NO_CATEGORY, place)
            continue
        ids: dict[str, tuple[Mapping[Any, Any], Mapping[Any, Any]]] = {
            "image_id": (of_image, image_ids),
            "category_id": (categories, category_ids),
        }
        for field, (known, numbered) in ids.items():
            value = annotation.get(field)
            found = value if isinstance(value, Hashable) and value in known else numbered.get(whole_number(value))
            if found is None:
                raise InputError(f"{path}: {place} has {field} {value!r}, which the file lacks")
            annotation = {**annotation, field: found}
        try:
            read = read_annotation(annotation, left_out, place)
        except InputError as error:
            raise InputError(f"{path}: {place} {error}") from error
        if read is not None:
            of_image[annotation["image_id"]].append(read)
    places = [path.parent / "images", path.parent] if images is None else [Path(images)]
    folders = [NamedFiles(place) for place in places]
    named: dict[str, Any] = {}
    read_images = []
    for key, record in by_id["images"].items():
        name, file = _image_file(path, folders, record, len(of_image[key]))
        if name in named:
            raise InputError(f"{path}: images {named[name]!r} and {key!r} are both {name}; give each file one record")
        named[name] = key
        width, height = (whole_number(record.get(side)) or 0 for side in ("width", "height"))
        if min(width, height) < 1:
            width, height = upright_size(file) or (0, 0)
        size = {"width": width, "height": height} if width and height else {}
        kept = {field: value for field, value in record.items() if field not in ("width", "height")}
        for one in of_image[key] if size else ():
            if _looks_like_corners(one.get("bbox"), width, height):
                left_out.add(CORNERS, f"annotation {one['id']!r}, {one['bbox']}")
        read_images.append(AnnotatedImage(name, file, of_image[key], {**kept, "file_name": name, **size}))
    if not read_images:
        raise InputError(f"{path}: has no images")
    left_out.warn()
    extra = {name: value for name, value in content.items() if name not in fields}
    return AnnotatedDataset(read_images, list(categories.values()), extra)


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
        if not isinstance(record, dict) or not isinstance(record.get("id"), int | float | str):
            raise InputError(f"{path}: one of the {field} is not a record with an id")
        if record["id"] in known:
            raise InputError(f"{path}: two of the {field} have the id {record['id']!r}; ids must differ")
        known[record["id"]] = record
    return known


def _categories(path: Path, records: Mapping[Any, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the categories by id, with whole numbers as ids and text as names."""
    categories: dict[int, dict[str, Any]] = {}
    for key, category in records.items():
        number, name = whole_number(key), category.get("name")
        if number is None or not isinstance(name, str | int | float) or name == "":
            raise InputError(
                f"{path}: category {key} has no name, or an id that is not a whole number (id {key!r}, name {name!r})"
            )
        if number in categories:
            raise InputError(f"{path}: two of the categories have the id {number}; ids must differ")
        categories[number] = {**category, "id": number, "name": str(name)}
    return categories


def _numbered(known: Iterable[Any]) -> dict[int | None, Any]:
    """Return ids by the whole number that each is, where no two are the same one."""
    numbers = [(whole_number(key), key) for key in known]
    times = Counter(number for number, _ in numbers)
    return {number: key for number, key in numbers if number is not None and times[number] == 1}


def _image_file(
    path: Path, folders: Sequence[NamedFiles], record: Mapping[str, Any], annotations: int
) -> tuple[str, Path]:
    """Return the name of an image, relative and with forward slashes, and its file."""
    given = record.get("file_name") or record.get("coco_url")  # LVIS has only addresses
    if not isinstance(given, str) or not given:
        raise InputError(f"{path}: image {record['id']} has no file_name (but {given!r})")
    names = [given]
    places = [folder.folder for folder in folders]
    if "://" in given:
        address = given.split("://", 1)[1].split("?")[0].split("#")[0]
        names = ["/".join(address.split("/")[-parts:]) for parts in (2, 1)]
    for name in names:
        for folder in folders:
            if file := folder.find(name):
                literal = (folder.folder / name).is_file()
                return PurePosixPath(name if literal else name.replace("\\", "/")).as_posix(), file
    if "://" in given:
        raise InputError(
            f"{path}: image {record['id']!r} has the address {given!r} as its file_name, and {places[0]} holds no "
            f"{names[-1]}; download the images"
        )
    missing = next((place for place in places if place.is_dir()), places[0]) / given
    raise InputError(f"{missing}: no such file, but {path} has {annotations} annotations for it")


def _looks_like_corners(box: Sequence[float] | None, width: int, height: int) -> bool:
    """Whether a box only lies in the image if it is read as left, top, right and bottom."""
    if box is None:
        return False
    beyond = box[0] + box[2] > width + 1 or box[1] + box[3] > height + 1
    return beyond and 0 <= box[0] < box[2] <= width + 1 and 0 <= box[1] < box[3] <= height + 1


__all__ = ["read_coco", "write_coco"]
