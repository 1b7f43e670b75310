"""List pools of real photos with foreground masks: folders with a `metadata.csv`."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, one_line
from .photo_folders import NamedFiles, name_key


@dataclass(frozen=True)
class MaskedPhoto:
    """One real photo with a foreground mask.

    Attributes:
        image, mask: the two files.
        name: file name of the image in metadata.csv.
        kind: "object", "stuff" or "" if metadata.csv does not say.
        category: category of the foreground, or "".
        source: collection that the photo comes from, or "".
    """

    image: Path
    mask: Path
    name: str
    kind: str
    category: str = ""
    source: str = ""


def read_photo_pool(folders: Sequence[str | os.PathLike]) -> list[MaskedPhoto]:
    """List the real photos with masks in folders that hold a `metadata.csv`.

    The file has the columns `file_name` and `mask`. The columns `kind`, `category` and `source` are optional. Rows
    without a mask are skipped. Names may have backslashes, and another case or Unicode composition than the files.

    Raises:
        InputError: if a metadata.csv, one of its two columns or a file that it names is missing, or no photo has a
            mask.
    """
    photos = []
    for folder in map(Path, folders):
        metadata = folder / "metadata.csv"
        if not metadata.is_file():
            raise InputError(f"{metadata}: no such file; a pool needs one with the columns file_name and mask")
        files = NamedFiles(folder)
        with metadata.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            for row in csv.DictReader(file):
                if "file_name" not in row or "mask" not in row:
                    raise InputError(
                        f"{metadata}: has columns {', '.join(row)}; expected file_name and mask among them"
                    )
                if not row["mask"]:
                    continue
                image, mask = (files.find(row[column]) for column in ("file_name", "mask"))
                for path, name in ((image, row["file_name"]), (mask, row["mask"])):
                    if path is None:
                        raise InputError(f"{folder / name}: no such file, but {metadata} names it")
                assert image is not None
                assert mask is not None
                details = (row.get(column) or "" for column in ("kind", "category", "source"))
                photos.append(MaskedPhoto(image, mask, row["file_name"], *details))
    if not photos:
        raise InputError(f"{', '.join(map(str, folders))}: no photo has a mask")
    return photos


def photos_named_in(path: str | os.PathLike, photos: Sequence[MaskedPhoto]) -> list[MaskedPhoto]:
    """Select the photos that a text file lists, one name of metadata.csv per line; case does not matter.

    Raises:
        InputError: if the file cannot be read, is empty, or names a photo that is not in `photos`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of photos ({one_line(error)})") from error
    names = {_listed_key(line): line.strip() for line in lines if line.strip()}
    missing = sorted(names[key] for key in names.keys() - {_listed_key(photo.name) for photo in photos})
    if missing or not names:
        words = f"{len(missing)} photos that no folder has, {missing[0]} first" if missing else "no photo"
        raise InputError(f"{path}: names {words}; is it the list of these folders?")
    return [photo for photo in photos if _listed_key(photo.name) in names]


def _listed_key(name: str) -> str:
    """Equal for names in lists of photos that mean the same file."""
    return name_key(name.strip().replace("\\", "/"))


__all__ = ["MaskedPhoto", "photos_named_in", "read_photo_pool"]
