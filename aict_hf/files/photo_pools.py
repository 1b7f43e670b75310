"""Read pools of real photos with foreground masks: folders with a `metadata.csv`.

Needs OpenCV (`pip install "aict_hf[training]"`).
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError, one_line
from .images import read_image


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
    without a mask are skipped.

    Raises:
        InputError: if a metadata.csv, one of its two columns or a file that it names is missing, or no photo has a
            mask.
    """
    photos = []
    for folder in map(Path, folders):
        metadata = folder / "metadata.csv"
        if not metadata.is_file():
            raise InputError(f"{metadata}: no such file; a pool needs one with the columns file_name and mask")
        with metadata.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            for row in csv.DictReader(file):
                if "file_name" not in row or "mask" not in row:
                    raise InputError(
                        f"{metadata}: has columns {', '.join(row)}; expected file_name and mask among them"
                    )
                if not row["mask"]:
                    continue
                photo = MaskedPhoto(
                    folder / row["file_name"],
                    folder / row["mask"],
                    row["file_name"],
                    row.get("kind") or "",
                    row.get("category") or "",
                    row.get("source") or "",
                )
                for path in (photo.image, photo.mask):
                    if not path.is_file():
                        raise InputError(f"{path}: no such file, but {metadata} names it")
                photos.append(photo)
    if not photos:
        raise InputError(f"{', '.join(map(str, folders))}: no photo has a mask")
    return photos


def photos_named_in(path: str | os.PathLike, photos: Sequence[MaskedPhoto]) -> list[MaskedPhoto]:
    """Select the photos that a text file lists, one name of metadata.csv per line.

    Raises:
        InputError: if the file cannot be read, is empty, or names a photo that is not in `photos`.
    """
    try:
        names = {line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of photos ({one_line(error)})") from error
    missing = sorted(names - {photo.name for photo in photos})
    if missing or not names:
        words = f"{len(missing)} photos that no folder has, {missing[0]} first" if missing else "no photo"
        raise InputError(f"{path}: names {words}; is it the list of these folders?")
    return [photo for photo in photos if photo.name in names]


def load_photo(photo: MaskedPhoto) -> tuple[np.ndarray, np.ndarray]:
    """Decode a photo and its mask. A mask of another size is resized to the photo.

    Returns:
        photo, uint8, shape (H, W, 3), and mask, uint8, shape (H, W).
    Raises:
        InputError: if a file cannot be read.
    """
    image = load_rgb(photo.image)
    return image, mask_scaled_to(image, load_mask(photo.mask))


def mask_scaled_to(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Resize a mask (H, W) bilinearly to the size of an image (H, W, 3), if they differ."""
    if mask.shape == image.shape[:2]:
        return mask
    return np.asarray(cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def load_rgb(path: Path) -> np.ndarray:
    """Decode an 8-bit photo as RGB, uint8, shape (H, W, 3).

    Raises:
        InputError: if the file cannot be read or has 16 bits per channel.
    """
    pixels = read_image(path).pixels
    if isinstance(pixels, np.ndarray):
        raise InputError(f"{path}: has 16 bits a channel; training and evaluation take 8-bit photos")
    return np.array(pixels.convert("RGB"))


def load_mask(path: Path) -> np.ndarray:
    """Decode an 8-bit mask, uint8 0..255, shape (H, W).

    Raises:
        InputError: if the file cannot be read, has 16 bits per channel, or no level of a tenth of white.
    """
    pixels = read_image(path).pixels
    if isinstance(pixels, np.ndarray):
        raise InputError(f"{path}: has 16 bits a channel; training and evaluation take 8-bit masks")
    mask = np.array(pixels.convert("L"))
    if mask.max() == 1:
        raise InputError(f"{path}: has the values 0 and 1; expected a mask from 0 to 255")
    if 0 < mask.max() < 26:  # less than a tenth of white, as in aict_hf.model.foreground_mask
        raise InputError(
            f"{path}: has levels up to {mask.max()}, as numbers of instances; expected a mask from 0 to 255"
        )
    return mask


__all__ = ["MaskedPhoto", "load_mask", "load_photo", "load_rgb", "mask_scaled_to", "photos_named_in", "read_photo_pool"]
