"""Cut-out objects to paste, from photo pools, folders and annotated datasets."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.images import IMAGE_SUFFIXES, in_profile, read_image
from .annotations import AnnotatedDataset, AnnotatedImage, segmentation_mask

OPAQUE = 128  # of 255: pixels of a pasted object that are its own


@dataclass(frozen=True)
class Foreground:
    """A cut-out object.

    Attributes:
        rgb: uint8, shape (h, w, 3).
        alpha: its opacity, uint8, shape (h, w).
        category: what it is.
        name: where it is from.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    category: str
    name: str


@dataclass(frozen=True)
class ForegroundSource:
    """Where a cut-out comes from.

    Attributes:
        image: the photo's file, or its number among the bank's `images`.
        mask: a mask file, a COCO segmentation, or None where the photo's alpha channel is the mask.
        category, name: as in `Foreground`.
    """

    image: Path | int
    mask: Any
    category: str
    name: str


class ForegroundBank(Sequence[Foreground]):
    """Cut-outs to paste, read when they are asked for and cropped to what can be seen of them.

    Args:
        sources: where they come from.
        images: annotated images that some of them are parts of.
    Raises:
        ValueError: if there are none.
    """

    def __init__(self, sources: Sequence[ForegroundSource], images: Sequence[AnnotatedImage] = ()):
        if not sources:
            raise ValueError("there are no foregrounds; a bank needs at least one")
        self.sources, self.images = list(sources), images

    @property
    def categories(self) -> list[str]:
        """What its foregrounds are, sorted."""
        return sorted({source.category for source in self.sources})

    @classmethod
    def from_pool(cls, folders: Sequence[str | os.PathLike], *, category: str | None = None) -> "ForegroundBank":
        """The masked objects of photo pools.

        Args:
            folders: each with a `metadata.csv` with the columns `file_name`, `mask` and `category`. Rows without a
                mask, and those whose `kind` is "stuff" (sky, grass), are left out.
            category: what those are for which the column says nothing.
        Raises:
            InputError: naming the missing metadata or column, the photo without a category, or the missing file.
        """
        try:
            from ..files.photo_pools import read_photo_pool
        except ImportError as error:
            raise InputError('photo pools need OpenCV; pip install "aict_hf[augment]"') from error
        sources = []
        for photo in read_photo_pool(folders):
            if photo.kind == "stuff":
                continue
            named = photo.category or category
            if not named:
                raise InputError(f"{photo.image}: its metadata gives no category; name one for all of them")
            sources.append(ForegroundSource(photo.image, photo.mask, named, photo.name))
        if not sources:
            raise InputError(f"{', '.join(map(str, folders))}: no photo has a mask of an object")
        return cls(sources)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, *, category: str | None = None) -> "ForegroundBank":
        """Images with an alpha channel, in folders that say what they are.

        Args:
            folder: holds such folders.
            category: what the images are that lie in `folder` itself.
        Raises:
            InputError: if there are none, or one lies in no such folder.
        """
        folder = Path(folder)
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"{folder}: holds no images; expected cut-outs with an alpha channel")
        sources = []
        for path in files:
            named = category if path.parent == folder else path.parent.name
            if not named:
                raise InputError(f"{path}: lies in no folder named after its category; move it, or name one for all")
            sources.append(ForegroundSource(path, None, named, path.relative_to(folder).as_posix()))
        return cls(sources)

    @classmethod
    def from_dataset(
        cls, dataset: AnnotatedDataset, *, categories: Sequence[str] | None = None, min_area: float = 32**2
    ) -> "ForegroundBank":
        """The annotated objects of a dataset (`coco_format.read_coco` and its like).

        Crowds are left out, and objects whose box touches the image's border, as far as box and size are recorded: what
        is cut off there looks cut off anywhere else.

        Args:
            dataset: where they come from.
            categories: the names of those wanted; all where left out.
            min_area: smallest area of an object, in pixels, as far as the annotation says.
        Raises:
            InputError: if no object is left.
        """
        names = dataset.category_names
        sources: list[ForegroundSource] = []
        for index, image in enumerate(dataset.images):
            for annotation in image.annotations:
                category = names[annotation["category_id"]]
                if annotation.get("iscrowd") or (categories is not None and category not in categories):
                    continue
                if (annotation.get("area") or min_area) < min_area or _touches_border(annotation, image.record):
                    continue
                name = f"{image.name}#{annotation.get('id', len(sources))}"
                sources.append(ForegroundSource(index, annotation.get("segmentation"), category, name))
        if not sources:
            raise InputError(f"no object of {len(dataset.images)} images is whole and has {min_area:g} pixels or more")
        return cls(sources, dataset.images)

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Foreground: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Foreground]: ...
    def __getitem__(self, index):
        """Read a cut-out.

        Raises:
            InputError: if a file cannot be read, a segmentation cannot be decoded, or the mask has no foreground.
        """
        if isinstance(index, slice):
            return ForegroundBank(self.sources[index], self.images)
        source = self.sources[index]
        cutout = None
        if isinstance(source.image, int):
            rgb = self.images[source.image].read()
        else:
            cutout = _eight_bit(source.image)  # in sRGB, as photos are
            rgb = np.array(cutout.convert("RGB"))
        if isinstance(source.mask, Path):
            alpha = np.array(_eight_bit(source.mask).convert("L").resize(rgb.shape[1::-1]))
        elif source.mask is None and cutout is not None:
            if not cutout.has_transparency_data:
                raise InputError(f"{source.image}: has no alpha channel; expected a cut-out")
            alpha = np.array(cutout.getchannel("A"))
        else:
            try:
                alpha = segmentation_mask(source.mask, *rgb.shape[:2]).astype(np.uint8) * 255
            except InputError as error:
                raise InputError(f"{source.name}: {error}") from error
        rows, columns = np.flatnonzero((alpha > 0).any(axis=1)), np.flatnonzero((alpha > 0).any(axis=0))
        if alpha.max(initial=0) < OPAQUE:
            raise InputError(f"{source.name}: the mask has no foreground; leave it out")
        block = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        return Foreground(rgb[block].copy(), alpha[block].copy(), source.category, source.name)


def _touches_border(annotation: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    if not annotation.get("bbox") or not {"width", "height"} <= record.keys():
        return False
    left, top, width, height = annotation["bbox"]
    return left < 1 or top < 1 or left + width > record["width"] - 1 or top + height > record["height"] - 1


def _eight_bit(path: Path) -> Image.Image:
    pixels = in_profile(read_image(path))
    if isinstance(pixels, np.ndarray):
        raise InputError(f"{path}: has 16 bits a channel; convert it to 8 to paste it")
    return pixels


__all__ = ["OPAQUE", "Foreground", "ForegroundBank", "ForegroundSource"]
