"""Cut-outs to paste, from photo pools, folders and annotated datasets."""

import os
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from ..compose.boxes import mask_box
from ..compose.paste import OPAQUE
from ..errors import InputError
from ..files.photo_folders import find_photos, pair_masks
from ..files.photo_pools import read_photo_pool
from ..model.foreground_mask import TURNED
from ..model.image_arrays import mask_array
from ..model.levels import to_eight_bits
from .annotations import AnnotatedDataset, AnnotatedImage, read_eight_bit, segmentation_mask
from .fields import has_segmentation


@dataclass(frozen=True)
class Cutout:
    """An object cut out of a photo.

    Attributes:
        rgb: colours, uint8, shape (h, w, 3).
        alpha: opacity, uint8, shape (h, w).
        category: name of the object's category.
        name: name of the cut-out, which tells where it comes from.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    category: str
    name: str


@dataclass(frozen=True)
class CutoutSource:
    """Where a cut-out is read from.

    Attributes:
        image: the photo's file, or its index in the bank's `images`.
        mask: a mask file, a COCO segmentation, or None if the photo's alpha channel is the mask.
        category, name: as in `Cutout`.
    """

    image: Path | int
    mask: Any
    category: str
    name: str


class CutoutBank(Sequence[Cutout]):
    """Cut-outs to paste. They are read on demand and cropped to their visible part.

    Args:
        sources: where the cut-outs are read from.
        images: annotated images that sources refer to by index.
    Raises:
        ValueError: if there are no sources.
    """

    def __init__(self, sources: Sequence[CutoutSource], images: Sequence[AnnotatedImage] = ()):
        if not sources:
            raise ValueError("there are no cut-outs; a bank needs at least one")
        self.sources, self.images = list(sources), images

    @property
    def categories(self) -> list[str]:
        """Categories of the cut-outs, sorted."""
        return sorted({source.category for source in self.sources})

    @classmethod
    def from_pool(cls, folders: Sequence[str | os.PathLike], *, category: str | None = None) -> "CutoutBank":
        """Collect the masked objects of photo pools.

        Args:
            folders: pools, each with a `metadata.csv` with the columns `file_name`, `mask` and `category`. Rows without
                a mask, and rows of the `kind` "stuff" (sky, grass), are skipped.
            category: category of the objects for which the metadata gives none.
        Raises:
            InputError: if a metadata file, a column, a category or a photo is missing; the message names it.
        """
        sources = []
        for photo in read_photo_pool(folders):
            if photo.kind == "stuff":
                continue
            named = photo.category or category
            if not named:
                raise InputError(f"{photo.image}: its metadata gives no category; name one for all of them")
            sources.append(CutoutSource(photo.image, photo.mask, named, photo.name))
        if not sources:
            raise InputError(f"{', '.join(map(str, folders))}: no photo has a mask of an object")
        return cls(sources)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, *, category: str | None = None) -> "CutoutBank":
        """Collect cut-outs from folders that are named after their category.

        A cut-out is an image with an alpha channel, or with its mask beside it (`a.jpg` and `a_mask.png`). Hidden files
        and folders, and those of tools, are left out; a warning counts what is left out.

        Args:
            folder: the folder that holds these folders.
            category: category of the images that are directly in `folder`.
        Raises:
            InputError: if there are no images, or one has no category or several masks.
        Examples:
            >>> bank = CutoutBank.from_folder("cutouts")
            >>> bank.categories
            ['bird', 'kite']
        """
        found = find_photos(Path(folder))
        if not found.files:
            words = f" but {found.left_out}" if found.left_out else ""
            raise InputError(f"{folder}: holds no images{words}; expected cut-outs with an alpha channel")
        sources = []
        for path, masks in pair_masks(found).items():
            relative = found.relative(path)
            # macOS may write é as two characters, and annotations have one
            named = unicodedata.normalize("NFC", relative.parent.name) or category
            if not named:
                raise InputError(f"{path}: is not in a folder named after its category; move it, or name one for all")
            if len(masks) > 1:
                raise InputError(f"{path}: has {len(masks)} masks ({', '.join(m.name for m in masks)}); keep one")
            sources.append(CutoutSource(path, masks[0] if masks else None, named, relative.as_posix()))
        if found.left_out:
            warnings.warn(f"{folder}: left out {found.left_out}", stacklevel=2)
        return cls(sources)

    @classmethod
    def from_dataset(
        cls, dataset: AnnotatedDataset, *, categories: Sequence[str] | None = None, min_area: float = 32**2
    ) -> "CutoutBank":
        """Collect the annotated objects of a dataset, for example from `read_coco`.

        Crowds are skipped. So are objects whose box touches the image's border, because they look cut off elsewhere; an
        object is kept if its box or the image's size is not recorded. Objects that have only a box cannot be cut out;
        a warning counts them.

        Args:
            dataset: the dataset to cut objects out of.
            categories: names of the categories to collect; all if left out.
            min_area: smallest recorded area of an object, in pixels.
        Raises:
            InputError: if no object is left.
        """
        names = dataset.category_names
        sources: list[CutoutSource] = []
        boxes = 0
        for index, image in enumerate(dataset.images):
            for annotation in image.annotations:
                key = annotation["category_id"]
                if annotation.get("iscrowd") or (categories is not None and names[key] not in categories):
                    continue
                if not has_segmentation(annotation):
                    boxes += 1
                    continue
                if (annotation.get("area") or min_area) < min_area or _touches_border(annotation, image.record):
                    continue
                name = f"{image.name}#{annotation.get('id', len(sources))}"
                sources.append(CutoutSource(index, annotation["segmentation"], dataset.unique_names[key], name))
        if not sources:
            only = f"; {boxes} have only a box, and cannot be cut out: give cut-outs to paste" if boxes else ""
            count = len(dataset.images)
            raise InputError(f"no object of {count} images is whole and has {min_area:g} pixels or more{only}")
        if boxes:
            warnings.warn(f"{boxes} objects have only a box, and are not cut out", stacklevel=2)
        return cls(sources, dataset.images)

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Cutout: ...
    @overload
    def __getitem__(self, index: slice) -> "CutoutBank": ...
    def __getitem__(self, index: int | slice) -> "Cutout | CutoutBank":
        """Read a cut-out; a slice is another bank.

        Raises:
            InputError: if a file cannot be read, a segmentation cannot be decoded, or the mask is empty.
        """
        if isinstance(index, slice):
            return CutoutBank(self.sources[index], self.images)
        source = self.sources[index]
        photo = None
        if isinstance(source.image, int):
            rgb = self.images[source.image].read()
        else:
            photo = read_eight_bit(str(source.image), source.image)
            rgb = np.array(photo.convert("RGB"))
        if isinstance(source.mask, Path):
            mask = read_eight_bit(str(source.mask), source.mask)
            try:
                alpha = to_eight_bits(mask_array(mask))[0]
            except ValueError as error:
                raise InputError(f"{source.mask}: {error}") from error
            if alpha.shape != rgb.shape[:2] and alpha.shape == rgb.shape[1::-1]:
                raise InputError(f"{source.mask}: is turned against {source.image}; {TURNED}")
            alpha = np.array(Image.fromarray(alpha).resize(rgb.shape[1::-1]))
        elif source.mask is None and photo is not None:
            if not photo.has_transparency_data:
                raise InputError(f"{source.image}: has no alpha channel; expected a cut-out")
            alpha = np.array(photo.getchannel("A"))
            if alpha.min() >= OPAQUE:
                raise InputError(f"{source.image}: its alpha channel is opaque everywhere; expected a cut-out")
        else:
            try:
                alpha = segmentation_mask(source.mask, *rgb.shape[:2]).astype(np.uint8) * 255
            except InputError as error:
                raise InputError(f"{source.name}: {error}") from error
        box = mask_box(alpha > 0)
        if box is None or alpha.max() < OPAQUE:
            raise InputError(f"{source.name}: the mask has no foreground; leave it out")
        left, top, right, bottom = box
        rgb, alpha = (array[top:bottom, left:right].copy() for array in (rgb, alpha))
        return Cutout(rgb, alpha, source.category, source.name)


def _touches_border(annotation: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether an object's box touches the image's border; False if box or size is not recorded."""
    if not annotation.get("bbox") or not {"width", "height"} <= record.keys():
        return False
    left, top, width, height = annotation["bbox"]
    return left < 1 or top < 1 or left + width > record["width"] - 1 or top + height > record["height"] - 1


__all__ = ["Cutout", "CutoutBank", "CutoutSource"]
