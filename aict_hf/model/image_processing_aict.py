"""Image processor of AICT: it makes the network's inputs from photos and masks, and applies the LUTs to the photos."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.image_processing_base import ImageProcessingMixin  # noqa: F401  diffusers looks for it here
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import SizeDict

from .opened_photo import OpenedPhoto, open_photos, pair_images, warn_of_surprises

ImageLike = Image.Image | np.ndarray | Tensor | str | os.PathLike

# Keywords of transformers' image processors, each with the values that say what is done here anyway.
_STANDARD_KEYWORDS: dict[str, tuple[Any, ...]] = {
    "do_convert_rgb": (True,),
    "do_resize": (True,),
    "default_to_square": (True,),
    "resample": (Image.Resampling.BILINEAR.value,),
    "do_rescale": (True,),
    "rescale_factor": (1 / 255,),
    "do_normalize": (False,),
    "image_mean": (0, [0, 0, 0]),
    "image_std": (1, [1, 1, 1]),
    "do_center_crop": (False,),
    "crop_size": (),
    "do_pad": (False,),
    "pad_size": (),
    "data_format": ("channels_first",),
    "disable_grouping": (True, False),  # photos are never grouped; the results are the same
    "image_seq_length": (),
}
_CALL_KEYWORDS = ("input_data_format", "return_tensors", "device")
_FILE_KEYWORDS = ("auto_map", "feature_extractor_type", "image_processor_type", "processor_class")


class AICTImageProcessor(BaseImageProcessor):
    """Makes the low-resolution copies that the network sees, and applies its LUTs to the full-resolution photos.

    Photos and masks may be PIL images, NumPy arrays, torch tensors, file paths, web addresses (`https://...`) or base64
    (with or without `data:image/png;base64,`), one or a list. Arrays are (H, W),
    (H, W, C) or (C, H, W). C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA). Values are uint8 0..255, uint16
    0..65535 or float 0..1. If both layouts fit an array, a torch tensor is read as (C, H, W) and a NumPy array as
    (H, W, C); `input_data_format` overrides this. Files are turned upright according to their EXIF orientation.

    Args:
        size: height and width of the low-resolution copies, in pixels: `{"height": 256, "width": 256}`, a pair or one
            number.
        kwargs: other keywords of transformers' image processors, if they say what is done anyway, for example
            `do_resize=True`, `resample=2` (bilinear) or `do_normalize=False`.
    Raises:
        TypeError: if a keyword is not one of transformers' image processors.
        ValueError: if a keyword asks for what is not done, for example `do_normalize=True`.

    Examples:
        >>> from aict_hf import AICTImageProcessor
        >>> inputs = AICTImageProcessor()(photo, mask, return_tensors="pt")
        >>> inputs["pixel_values"].shape, inputs["mask"].shape
        (torch.Size([1, 3, 256, 256]), torch.Size([1, 1, 256, 256]))

    Source: AICT (NeurIPS 2024), section 3.1; the resize of the authors' data loader (OpenCV's `INTER_LINEAR`).
    """

    model_input_names = ["pixel_values", "mask"]  # noqa: RUF012  as transformers declares it

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._auto_class = None  # or saving a subclass would copy the file it is written in

    def __init__(self, size: dict[str, int] | Sequence[int] | int | None = 256, **kwargs: Any) -> None:
        _check_keywords({name: value for name, value in kwargs.items() if not _is_of_files(name)})
        super().__init__(**{name: value for name, value in kwargs.items() if value is not None})
        self.size = _size_dict(256 if size is None else size)

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make an image processor from the content of its file, as transformers does.

        Warns:
            UserWarning: for what the file says and is not done. Files written before such keywords were refused may
                hold it.
        """
        known, ignored = {}, []
        own = signature(cls).parameters  # a subclass may have more
        for name, value in image_processor_dict.items():
            try:
                if name not in own and not _is_of_files(name):
                    _check_keywords({name: value})
            except (TypeError, ValueError):
                ignored.append(f"{name}={value!r}")
            else:
                known[name] = value
        if ignored:
            warnings.warn(
                f"the image processor's file says {', '.join(ignored)}, which has no effect here and never had; "
                "save the image processor again to be rid of it",
                stacklevel=2,
            )
        return super().from_dict(known, **kwargs)

    def __call__(self, images: Any, masks: Any = None, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        return self.preprocess(images, masks, **kwargs)

    def preprocess(
        self,
        images: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        *,
        size: dict[str, int] | Sequence[int] | int | None = None,
        input_data_format: str | None = None,
        return_tensors: str | None = None,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Make the network's inputs.

        Args:
            images: one composite or several.
            masks: one foreground mask per composite. White (255, 65535, 1.0 or True) is foreground, and values between
                black and white are soft. `aict_hf.model.foreground_mask.read_mask` says what else a mask may be. A
                composite with an alpha channel needs no mask (None in a list): its alpha channel is then the mask.
            size: low-resolution size, instead of the processor's own.
            input_data_format: "channels_first" or "channels_last" for arrays of ambiguous layout.
            return_tensors: "pt" for torch tensors, "np" for NumPy arrays.
            device: where the torch tensors are put.
            kwargs: other keywords of transformers' image processors, if they say what is done anyway.
        Returns:
            `pixel_values`, RGB in [0, 1], shape (B, 3, height, width), and `mask`, in [0, 1], (B, 1, height, width).
        Warns:
            UserWarning: for what `OpenedPhoto.surprises` finds.
        Raises:
            ValueError: if an image has an unsupported shape, type or value, a mask is missing, holds several colours or
                numbers instead of levels, or differs in size from its image, or the alpha channel that is the mask is
                opaque everywhere; if a keyword asks for what is not done.
            FileNotFoundError: if a path does not exist.
            TypeError: if a keyword is not one of transformers' image processors.
        """
        _check_keywords(kwargs)
        if device is not None and return_tensors != "pt" and torch.device(device).type != "cpu":
            raise ValueError(f'device is {device}, where arrays cannot be; pass return_tensors="pt" with it')
        photos = list(open_photos(images, masks, input_data_format))
        warn_of_surprises(photos)
        inputs = self.network_inputs(photos, size=size, return_tensors=return_tensors)
        if device is not None:
            inputs.to(device)  # in place
        return inputs

    def network_inputs(
        self,
        photos: Iterable[OpenedPhoto],
        *,
        size: dict[str, int] | Sequence[int] | int | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Make the network's inputs from opened photos: what `preprocess` returns."""
        size = self.size if size is None else _size_dict(size)
        shape = (size["height"], size["width"])
        pixel_values, masks = zip(*(photo.low_resolution(shape) for photo in photos), strict=True)
        data = {"pixel_values": np.stack(pixel_values), "mask": np.stack(masks)}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def post_process_harmonization(
        self,
        outputs: Any,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        strength: float = 1.0,
        *,
        input_data_format: str | None = None,
        kind: str = "aict",
    ) -> list[Any]:
        """Apply the predicted LUTs to the photos at full resolution.

        Args:
            outputs: the output of `AICTModel` for `composites` and `masks`. Its `knots` and `color_lut`, or its
                `transform_maps`, are read.
            composites: the photos that were given to the processor.
            masks: their masks, as given to the processor.
            strength: share of the change to apply, 0 (returns the input bit for bit) to 1.
            input_data_format: as in `preprocess`.
            kind: `model.config.transform_kind`, for a network with another colour transformation.
        Returns:
            one image per composite, of the composite's type, size and mode (PIL for a path). Alpha channels are kept.
            Pixels with mask 0 are identical to the input. Palette images keep their palette: convert them to RGB
            first for a result of full quality.
        Raises:
            ValueError: for the reasons of `preprocess`, or if `outputs` holds another number of images or maps of
                another kind.
        """
        photos = _paired(outputs, composites, masks, input_data_format, kind)
        return [photo.recolored(*maps, kind=kind, strength=strength) for photo, *maps in photos]

    def disharmony(
        self,
        outputs: Any,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        *,
        input_data_format: str | None = None,
        kind: str = "aict",
    ) -> list[float]:
        """Measure how far the foreground's colours are from where the network would put them.

        Args:
            outputs: the output of `AICTModel` for `composites` and `masks`. Its `knots` and `color_lut`, or its
                `transform_maps`, are read.
            composites, masks, input_data_format, kind: as for `post_process_harmonization`.
        Returns:
            for each composite the mean CIEDE2000 between its foreground and the full-strength result, weighted by the
            mask: 0 fits, 5 is plain to see. A foreground of more than 65 536 pixels is measured at that many, evenly
            spaced. The result is 0 if the mask has no foreground. Colours are taken to be sRGB.
        Raises:
            ValueError: for the reasons of `post_process_harmonization`.
        """
        photos = _paired(outputs, composites, masks, input_data_format, kind)
        return [photo.disharmony(*maps, kind=kind) for photo, *maps in photos]


def _paired(
    outputs: Any, composites: Any, masks: Any, input_data_format: str | None, kind: str
) -> Iterator[tuple[Any, ...]]:
    """Each photo with its maps."""
    maps = (outputs.knots, outputs.color_lut) if outputs.knots is not None else outputs.transform_maps
    if (outputs.knots is not None) != (kind == "aict"):
        raise ValueError(
            f"outputs come from another colour transformation than kind {kind}; pass kind=model.config.transform_kind"
        )
    pairs = pair_images(composites, masks)
    if len(pairs) != len(maps[0]):
        raise ValueError(f"outputs holds {len(maps[0])} images, composites {len(pairs)}; pass the same ones")
    yield from zip(open_photos(composites, masks, input_data_format), *maps, strict=True)


def _size_dict(size: Any) -> dict[str, int]:
    sides: Any = {"height": size, "width": size} if isinstance(size, int) else size
    if isinstance(sides, list | tuple) and len(sides) == 2:
        sides = dict(zip(("height", "width"), sides, strict=True))
    if isinstance(sides, SizeDict):
        sides = dict(sides)
    fits = isinstance(sides, dict) and set(sides) == {"height", "width"}
    if not fits or not all(isinstance(side, int) and side > 0 for side in sides.values()):
        raise ValueError(f"size is {size}; expected a number of pixels or {{'height': ..., 'width': ...}}")
    return dict(sides)


def _is_of_files(name: str) -> bool:
    """Whether libraries write this into an image processor's file; diffusers' names begin with an underscore."""
    return name in _FILE_KEYWORDS or name.startswith("_")


def _check_keywords(keywords: dict[str, Any]) -> None:
    """Refuse keywords that ask for what is not done; None leaves it to the image processor."""
    for name, value in keywords.items():
        if name in _CALL_KEYWORDS and value is not None:
            raise ValueError(f"{name}={value!r} belongs to the call; pass it with the images")
        if name not in _STANDARD_KEYWORDS and name not in _CALL_KEYWORDS:
            taken = ", ".join(("size", *_CALL_KEYWORDS, *_STANDARD_KEYWORDS))
            raise TypeError(f"unknown keyword {name}; the image processor of AICT takes {taken}")
        plain = list(value) if isinstance(value, list | tuple | np.ndarray) else value
        if value is not None and plain not in _STANDARD_KEYWORDS[name]:
            done = " or ".join(f"{name}={choice!r}" for choice in _STANDARD_KEYWORDS[name]) or f"no {name}"
            raise ValueError(f"{name}={value!r} is not supported, the image processor of AICT has {done}; leave it out")


__all__ = ["AICTImageProcessor", "ImageLike"]
