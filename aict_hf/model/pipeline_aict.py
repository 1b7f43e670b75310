"""transformers pipeline of AICT: a composite and its mask in, the harmonized photo out."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from itertools import zip_longest
from types import GeneratorType
from typing import Any

from torch.utils.data import Dataset
from transformers.pipelines.base import Pipeline

from .image_processing_aict import ImageLike
from .opened_photo import is_several, open_photo, pair_images, warn_of_surprises


class ImageHarmonizationPipeline(Pipeline):
    """Fits the colours of a pasted foreground to its background (task `image-harmonization`).

    Examples:
        >>> from transformers import pipeline
        >>> from aict_hf import DEFAULT_CHECKPOINT, AICTImageProcessor, AICTModel
        >>> model = AICTModel.from_pretrained(DEFAULT_CHECKPOINT)
        >>> processor = AICTImageProcessor.from_pretrained(DEFAULT_CHECKPOINT)
        >>> pipe = pipeline("image-harmonization", model=model, image_processor=processor)
        >>> pipe("composite.jpg", "mask.png", strength=0.8).size
        (56, 40)

    Source: AICT (NeurIPS 2024).
    """

    _load_processor = False
    _load_image_processor = True
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, inputs: Any = None, masks: Any = None, *, images: Any = None, **kwargs: Any) -> Any:
        """Harmonize one or several composites.

        Args:
            inputs: a composite: anything `AICTImageProcessor` takes, so also web addresses and base64. Or a row
                `{"image": ..., "mask": ...}`, whose other columns are ignored. Or several of these: a list, a
                generator, a data set, or transformers' `KeyDataset`. Sizes may differ.
            masks: one foreground mask per composite, not with rows: a list, a generator or a data set for several. A
                composite with an alpha channel needs no mask (nor a "mask" in its row): its alpha channel is then the
                mask.
            images: another name for `inputs`, as in transformers' own pipelines.
            strength: share of the change to apply, 0 to 1 (default 1).
            timeout: seconds that the server of a web address may stay silent (default 60).
            batch_size: how many composites go through the network at once (default 1).
            num_workers: how many processes read the composites (default 0).
        Returns:
            the harmonized image, of the composite's type, size and mode (PIL for a path). A list for a list, an
            iterator for a generator or a data set.
        Raises:
            ValueError: for the reasons of `AICTImageProcessor.preprocess`, if an address cannot be fetched, or if a row
                has no image, or a mask under another name.
        """
        if images is not None:
            if inputs is not None:
                raise ValueError("composites were given twice; pass them first, or as images=")
            inputs = images
        if inputs is None:
            raise ValueError("no composite was given; pass one, or a list, a generator or a data set of them")
        if masks is not None:
            inputs = _with_masks(inputs, masks)
        elif is_several(inputs):
            inputs = list(inputs)
        elif _is_stream(inputs) and not isinstance(inputs, Dataset | GeneratorType):
            inputs = (item for item in inputs)  # transformers streams these two alone
        if isinstance(inputs, list | Dataset) and isinstance(inputs, Sized) and len(inputs) == 0:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self, strength: float | None = None, timeout: float | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        if kwargs:
            taken = "images, masks, strength, timeout, batch_size, num_workers"
            raise ValueError(f"unknown argument {', '.join(sorted(kwargs))}; this pipeline takes {taken}")
        preprocess = {} if timeout is None else {"timeout": timeout}
        return preprocess, {} if strength is None else {"strength": strength}, {}

    def preprocess(self, input_: Any, timeout: float | None = None) -> dict[str, Any]:
        image, mask = _image_and_mask(input_)
        photo = open_photo(image, mask, timeout=timeout)
        warn_of_surprises([photo])
        return {**self.image_processor.network_inputs([photo]), "photo": photo}

    def _forward(self, input_tensors: dict[str, Any], strength: float = 1.0) -> dict[str, Any]:
        # transformers leaves an `OpenedPhoto` alone: it would stack or move a bare tensor or array.
        photos = input_tensors.pop("photo")
        outputs = self.model(**input_tensors, return_harmonized=False)
        options = {"kind": self.model.config.transform_kind, "strength": strength}
        maps = zip(*outputs.maps, strict=True)
        if not isinstance(photos, list):
            return {"harmonized": _Result(photos.recolored(*next(maps), **options))}
        results = [photo.recolored(*own, **options) for photo, own in zip(photos, maps, strict=True)]
        return {"harmonized": [_Result(result) for result in results]}

    def postprocess(self, model_outputs: dict[str, Any]) -> Any:
        return model_outputs["harmonized"].image


def _is_stream(given: Any) -> bool:
    """Whether this is a generator, another iterable or a data set, and neither an image, a row nor a list."""
    if is_several(given) or isinstance(given, ImageLike | Mapping | bytes):
        return False
    return isinstance(given, Iterable | Dataset)


def _items(given: Any) -> Iterator[Any]:
    if is_several(given) or (isinstance(given, Iterable) and _is_stream(given)):
        yield from given
    elif isinstance(given, Dataset):
        yield from (given[index] for index in range(len(given)))  # type: ignore[arg-type]  # KeyDataset's kind
    else:
        yield given


def _count(given: Any) -> int | None:
    """How many images these are; None for a stream that does not know."""
    if not is_several(given) and not _is_stream(given):
        return 1
    return len(given) if isinstance(given, Sized) else None


def _with_masks(images: Any, masks: Any) -> Any:
    """Rows of composites with their masks: one for one composite, a list for a list, a generator for a stream."""
    if not _is_stream(images) and not _is_stream(masks):
        for image in _items(images):
            _refuse_row(image)
        rows = [{"image": image, "mask": mask} for image, mask in pair_images(images, masks)]
        return rows if is_several(images) else rows[0]
    counts = _count(images), _count(masks)
    if None not in counts and counts[0] != counts[1]:
        raise ValueError(f"{counts[0]} images came with {counts[1]} masks; pass one mask per image")
    pairs = _pairs(images, masks)
    if _is_stream(images):
        return pairs
    rows = list(pairs)
    return rows if is_several(images) else rows[0]


def _pairs(images: Any, masks: Any) -> Iterator[dict[str, Any]]:
    missing = object()
    for count, (image, mask) in enumerate(zip_longest(_items(images), _items(masks), fillvalue=missing)):
        if image is missing or mask is missing:
            fewer, more = ("images", "masks") if image is missing else ("masks", "images")
            raise ValueError(f"there are {count} {fewer} and more {more}; pass one mask per image")
        _refuse_row(image)
        yield {"image": image, "mask": mask}


def _refuse_row(image: Any) -> None:
    if isinstance(image, Mapping):
        raise ValueError('masks were given both inside the dicts and beside them; pass {"image", "mask"} only')


def _image_and_mask(row: Any) -> tuple[Any, Any]:
    """The composite and the mask of one input; None for a mask that was left out."""
    if not isinstance(row, Mapping):
        return row, None
    names = ", ".join(map(str, row))
    if "image" not in row:
        raise ValueError(f'a pipeline input is a row of {names or "nothing"}; expected {{"image": ..., "mask": ...}}')
    if "mask" not in row and any("mask" in str(name).lower() for name in row):
        raise ValueError(f'a pipeline input is a row of {names}; expected the mask under the name "mask"')
    return row["image"], row.get("mask")


@dataclass(frozen=True)
class _Result:
    """A full-resolution result on its way to `postprocess`: transformers would split or move a bare one."""

    image: Any


__all__ = ["ImageHarmonizationPipeline"]
