"""Datasets that Hugging Face `datasets` reads: imagefolder, parquet and webdataset shards.

The column `objects` holds the annotations, as in the object detection datasets on the Hub, with a field for the masks:

    {"bbox": [[left, top, width, height], ...], "category": ["dog", ...], "segmentation": [...], "iscrowd": [0, ...]}

It may also be a list of objects. `category` (or `categories`) may be text, class labels or numbers. `segmentation` has
COCO's form: polygons or RLE. It may be missing, and so may `bbox` where there is one. Objects without a category (null,
or the class label -1) are left out, with a warning.

The writers produce lists of objects with compressed RLE, and with categories as text (in parquet as class labels).
Columns other than `image`, `file_name`, `width`, `height` and `objects` are dropped.
"""

import io
import json
import math
import os
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from ...errors import InputError, one_line
from ...files.atomic_write import atomic_file
from ..annotations import AnnotatedDataset, AnnotatedImage, mask_rle, segmentation_mask
from ..fields import NO_CATEGORY, LeftOut, has_segmentation, read_annotation, whole_number

NO_LABEL = -1  # of a ClassLabel
CATEGORY_FIELDS = ("category", "categories", "category_id", "label")


def read_hf(name: str | os.PathLike, split: str = "train") -> AnnotatedDataset:
    """Read a dataset with the columns `image` and `objects`. The column `file_name`, if there, names the images.

    Args:
        name: a folder that `datasets` reads (imagefolder with metadata, parquet), a parquet file, or a dataset on the
            Hub.
        split: name of the split.
    Returns:
        the dataset; its images are read on demand. Category ids are the class labels' numbers, or follow the order of
        the names.
    Raises:
        InputError: if the dataset cannot be opened, lacks a column, or has objects without a category.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError('this format needs datasets; install it with pip install "aict_hf[augment]"') from error
    try:
        if Path(name).suffix == ".parquet":
            rows = datasets.load_dataset("parquet", data_files={split: str(name)}, split=split)
        else:
            rows = datasets.load_dataset(str(name), split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}: cannot be opened as a dataset ({one_line(error)})") from error
    lacking = {"image", "objects"} - set(rows.column_names)
    if lacking:
        columns = ", ".join(rows.column_names)
        raise InputError(f"{name}: has the columns {columns}; expected {' and '.join(sorted(lacking))} too")
    rows = rows.cast_column("image", datasets.Image(decode=False))
    objects = [_as_list(value, f"{name}: row {number}") for number, value in enumerate(rows["objects"])]
    fields = {name for several in objects for one in several for name in one}
    field = next((name for name in CATEGORY_FIELDS if name in fields), "")
    if not field and any(objects):
        raise InputError(f"{name}: objects have no category; expected one of {', '.join(CATEGORY_FIELDS)}")
    labels = _class_labels(rows.features["objects"], field)
    found = set()
    left_out = LeftOut(name)
    for row, several in enumerate(objects):
        for number, one in enumerate(several):
            place = f"row {row}, object {number}"
            category = _category(one.get(field))
            if isinstance(category, list | dict):
                raise InputError(f"{name}: {place} has the {field} {category!r}; expected a name or a number")
            if category is None or (labels and category == NO_LABEL):
                left_out.add(NO_CATEGORY, place)
                continue
            try:
                if read_annotation(one, left_out, place) is None:
                    continue
            except InputError as error:
                raise InputError(f"{name}: {place} {error}") from error
            found.add(category)
    ids: dict[Any, int]
    if labels:
        categories, ids = list(enumerate(labels)), {number: number for number in range(len(labels))}
        if not found <= ids.keys():
            beyond = sorted(found - ids.keys())[0]
            raise InputError(f"{name}: an object has the {field} {beyond!r}, but there are {len(labels)} class labels")
    elif all(isinstance(value, int) for value in found):
        categories, ids = [(value, str(value)) for value in sorted(found)], {value: value for value in found}
    else:
        categories = list(enumerate(sorted(found)))
        ids = {value: number for number, value in categories}
    left_out.warn()
    images = _Rows(rows, field, ids)
    if len(set(images.names)) < len(images.names):
        raise InputError(f"{name}: several images have one name; add a column file_name that tells them apart")
    return AnnotatedDataset(images, [{"id": key, "name": value} for key, value in categories])


def write_imagefolder_metadata(path: Path, dataset: AnnotatedDataset, images: Iterable[Mapping[str, Any]]) -> None:
    """Write the `metadata.jsonl` of a folder of images. The file appears once it is complete.

    Args:
        path: the file, in the folder that the `file_name`s are relative to.
        dataset: provides the category names.
        images: COCO's image records, each with its `annotations`.
    """
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for image in images:
            file.write(json.dumps(_row(image, dataset)) + "\n")


def write_parquet(path: Path, dataset: AnnotatedDataset, images: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write a shard that `datasets` reads. The file appears once it is complete.

    Args:
        path: the shard.
        dataset: provides the category names.
        images: COCO's image record of each image with its `annotations`, and the bytes of its file.
    """
    import datasets

    rows = [{"image": {"bytes": content, "path": i["file_name"]}, **_row(i, dataset)} for i, content in images]
    number, text = datasets.Value("int64"), datasets.Value("string")
    features = {
        "image": datasets.Image(),
        "file_name": text,
        "width": number,
        "height": number,
        "objects": [
            {
                "bbox": [datasets.Value("float64")],
                "category": datasets.ClassLabel(names=list(dataset.unique_names.values())),
                "area": datasets.Value("float64"),
                "iscrowd": number,
                "segmentation": {"size": [number], "counts": text},
                "foreground": text,
            }
        ],
    }
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    with atomic_file(path) as partial:
        table.to_parquet(str(partial))


def shard_suffix(name: str) -> str:
    """Return the suffix of an image in webdataset shards, the same for all spellings of a format."""
    return Path(name).suffix.lower().replace(".jpeg", ".jpg")


def write_webdataset(path: Path, dataset: AnnotatedDataset, images: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Write a shard with two entries for each image: its file, and its annotations as JSON.

    The file appears once it is complete. `datasets` can read a dataset only if all its images have the same format.

    Args:
        path: the shard.
        dataset: provides the category names.
        images: COCO's image record of each image with its `annotations`, and the bytes of its file.
    """
    with atomic_file(path) as partial, tarfile.open(partial, "w") as archive:
        for number, (image, content) in enumerate(images):
            key = f"{path.stem}_{number:06d}"  # keys end at the first dot, so file names cannot be keys
            row = json.dumps(_row(image, dataset)).encode()
            for suffix, value in ((shard_suffix(image["file_name"]), content), (".json", row)):
                member = tarfile.TarInfo(key + suffix)
                member.size = len(value)
                archive.addfile(member, io.BytesIO(value))


class _Rows(Sequence[AnnotatedImage]):
    """The rows of a dataset as annotated images, read on demand."""

    def __init__(self, rows: Any, category_field: str, ids: Mapping[Any, int]):
        self.rows, self.category_field, self.ids = rows, category_field, ids
        if "file_name" in rows.column_names:
            self.names = list(rows["file_name"])
        else:
            paths = [image["path"] for image in rows["image"]]
            folders = [str(Path(path).parent) for path in paths if path]
            try:
                top = os.path.commonpath(folders)
            except ValueError:  # no folders, or absolute and relative ones mixed
                top = ""
            self.names = [
                (Path(path).relative_to(top).as_posix() if top else Path(path).name) if path else f"{number:08d}.png"
                for number, path in enumerate(paths)
            ]

    @property
    def checksum(self) -> int:
        """A checksum of all annotations."""
        return zlib.crc32(json.dumps(self.rows["objects"][:], default=str).encode())

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> AnnotatedImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[AnnotatedImage]: ...
    def __getitem__(self, index: int | slice) -> AnnotatedImage | list[AnnotatedImage]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        row = self.rows[index]
        content = row["image"]["bytes"]
        annotations = []
        left_out = LeftOut(self.names[index])  # counted when the dataset was opened
        for one in _as_list(row["objects"], self.names[index]):
            category = self.ids.get(_category(one.get(self.category_field)))
            fields = {name: value for name, value in one.items() if name != self.category_field and value is not None}
            annotation = None if category is None else read_annotation(fields, left_out, "")
            if annotation is not None:
                annotations.append({**annotation, "category_id": category})
        size = {side: whole_number(row.get(side)) for side in ("width", "height")}
        record = {side: value for side, value in size.items() if value is not None and value > 0}
        content = Path(row["image"]["path"]) if content is None else content
        return AnnotatedImage(self.names[index], content, annotations, record)


def _row(image: Mapping[str, Any], dataset: AnnotatedDataset) -> dict[str, Any]:
    """Convert a COCO image record with its annotations to a row."""
    objects = []
    for annotation in image["annotations"]:
        segmentation = annotation.get("segmentation")
        if not has_segmentation(annotation):
            segmentation = None
        elif not isinstance(segmentation, Mapping) or not isinstance(segmentation["counts"], str):
            segmentation = mask_rle(segmentation_mask(segmentation, image["height"], image["width"]))
        objects.append(
            {
                "bbox": [float(value) for value in annotation["bbox"]],
                "category": dataset.unique_names[annotation["category_id"]],
                "area": float(annotation["area"]),
                "iscrowd": int(annotation["iscrowd"]),
                "segmentation": segmentation,
                "foreground": annotation.get("foreground"),
            }
        )
    return {name: image[name] for name in ("file_name", "width", "height")} | {"objects": objects}


def _as_list(objects: Any, place: str) -> list[dict[str, Any]]:
    """Convert objects to a list of dicts if they are a dict of lists."""
    if isinstance(objects, Mapping):
        columns = {name: values for name, values in objects.items() if values is not None}
        if not all(isinstance(values, list) for values in columns.values()):
            raise InputError(f"{place}: objects has fields that are not lists: {str(objects)[:80]}")
        if len({len(values) for values in columns.values()}) > 1:
            lengths = ", ".join(f"{len(values)} {name}" for name, values in columns.items())
            raise InputError(f"{place}: objects have {lengths}; expected as many of each")
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if objects is not None and not (isinstance(objects, list) and all(isinstance(one, Mapping) for one in objects)):
        raise InputError(f"{place}: objects is {str(objects)[:80]!r}; expected a list of objects or a dict of lists")
    return list(objects or [])


def _category(value: Any) -> Any:
    """Return a category as a name or a whole number, which is a float where the column has nulls; None for nothing."""
    if isinstance(value, float):
        return None if math.isnan(value) else whole_number(value) if value.is_integer() else str(value)
    return str(value) if isinstance(value, bool) else None if value == "" else value


def _class_labels(features: Any, field: str) -> list[str]:
    """Return the category names that the dataset declares, or an empty list."""
    while features is not None and not isinstance(features, Mapping):  # unpack lists of objects
        features = features[0] if isinstance(features, list) else getattr(features, "feature", None)
    feature = (features or {}).get(field)
    while feature is not None and not hasattr(feature, "names"):
        feature = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return list(feature.names) if feature is not None else []


__all__ = ["read_hf", "shard_suffix", "write_imagefolder_metadata", "write_parquet", "write_webdataset"]
