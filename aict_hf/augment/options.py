"""Options of copy-paste augmentation: of the transform, and of a job that augments a dataset on the disk."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import InputError

DatasetFormat = Literal["coco", "yolo", "imagefolder", "parquet", "webdataset"]
"""Formats that `augment_files` writes."""


@dataclass(frozen=True)
class CopyPasteOptions:
    """How objects are drawn, pasted and harmonized.

    Attributes:
        probability: share of the samples that get objects, 0 to 1.
        objects: fewest and most objects that such a sample gets, drawn uniformly.
        strengths: range of the harmonization's strength, drawn for each object, within 0 to 1.
        naive: paste without harmonizing, as a baseline. Everything but the colours stays the same.
        max_disharmony: leave out objects whose colours would have to change by more than this to fit (mean CIEDE2000,
            see `AICTImageProcessor.disharmony`); None keeps all.
        size: range of a cut-out's longer side, as a share of the image's shorter side.
        rotation: range of degrees, counterclockwise.
        flip: share of the cut-outs that are mirrored left to right, 0 to 1.
        max_scale: largest magnification of a cut-out, so that it does not look blurred next to the photo.
        feather: width of a cut-out's soft edge, in pixels of the image.
        min_visible: drop objects of the sample that keep a smaller share of their pixels, 0 to 1.
        batch_size: objects that go through the network at once; in a job, also images that are augmented at once.
        seed: seed of all random draws, 0 or more.
    Raises:
        InputError: if an option is out of range.
    """

    probability: float = 1.0
    objects: tuple[int, int] = (1, 3)
    strengths: tuple[float, float] = (1.0, 1.0)
    naive: bool = False
    max_disharmony: float | None = None
    size: tuple[float, float] = (0.15, 0.5)
    rotation: tuple[float, float] = (-10.0, 10.0)
    flip: float = 0.5
    max_scale: float = 1.5
    feather: float = 1.0
    min_visible: float = 0.2
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("probability", "flip", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        for name in ("objects", "strengths", "size", "rotation"):
            values = getattr(self, name)
            if len(values) != 2 or not -math.inf < values[0] <= values[1] < math.inf:
                raise InputError(f"{name} is {values}; expected two numbers, the smaller first")
        if self.objects[0] < 0:
            raise InputError(f"objects is {self.objects}; expected the fewest and the most, 0 or more")
        if not (self.strengths[0] >= 0 and self.strengths[1] <= 1):
            raise InputError(f"strengths is {self.strengths}; expected a range within 0 to 1")
        if self.size[0] <= 0:
            raise InputError(f"size is {self.size}; expected a range of shares above 0")
        if not 0 < self.max_scale < math.inf:
            raise InputError(f"max_scale is {self.max_scale}; expected a number above 0")
        if not 0 <= self.feather < math.inf:
            raise InputError(f"feather is {self.feather}; expected a width in pixels, 0 or more")
        if self.max_disharmony is not None and not self.max_disharmony >= 0:
            raise InputError(f"max_disharmony is {self.max_disharmony}; expected 0 or more")
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; expected 1 or more")
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}; expected 0 or more")


@dataclass(frozen=True)
class AugmentJob:
    """Everything that decides the result of augmenting a dataset.

    Attributes:
        source: a COCO JSON file; a YOLO dataset's YAML file or the folder that holds it; or whatever `datasets` reads
            with a column `objects` (a folder, a parquet file, a dataset on the Hub).
        output: the folder to write.
        options: how objects are pasted.
        format: format to write; the source's own if left out.
        images: folder of a COCO file's images, if they are not next to it.
        split: split to read, if the source has several.
        cutouts: where objects to paste come from: photo pools with a metadata.csv, folders of cut-outs, or one COCO
            JSON file. If empty, the source's own objects are pasted.
        cutout_images: folder of the images of a COCO file in `cutouts`, if they are not next to it.
        category: category of the cut-outs for which neither folders nor metadata name one.
        copies: augmented copies of each image, 1 or more.
        keep_originals: also write the unchanged images, before the copies.
        checkpoint: name or folder of the network; the bundled one if left out.
        device: where the network runs.
        block_size: images that are recorded as done together, and that make up a shard, 1 or more.
    Raises:
        InputError: if an option is out of range.
    """

    source: str
    output: str
    options: CopyPasteOptions = field(default_factory=CopyPasteOptions)
    format: DatasetFormat | None = None
    images: str | None = None
    split: str = "train"
    cutouts: tuple[str, ...] = ()
    cutout_images: str | None = None
    category: str | None = None
    copies: int = 1
    keep_originals: bool = False
    checkpoint: str | None = None
    device: str = "cpu"
    block_size: int = 32

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in get_args(DatasetFormat):
            raise InputError(f"format is {self.format}; expected one of {', '.join(get_args(DatasetFormat))}")
        for name in ("copies", "block_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def with_absolute_paths(self) -> "AugmentJob":
        """Return the same job for a process in another folder. Names of datasets and checkpoints stay as they are."""
        changes: dict[str, Any] = {"output": str(Path(self.output).absolute())}
        for name in ("source", "images", "cutout_images", "checkpoint"):
            value = getattr(self, name)
            if value is not None and Path(value).exists():
                changes[name] = str(Path(value).absolute())
        return replace(self, cutouts=tuple(str(Path(path).absolute()) for path in self.cutouts), **changes)


__all__ = ["AugmentJob", "CopyPasteOptions", "DatasetFormat"]
