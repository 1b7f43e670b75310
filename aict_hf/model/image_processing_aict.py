"""Image processor of AICT: it makes the network's inputs from photos and masks, and applies the LUTs to the photos."""

import base64
import io
import os
import urllib.request
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from inspect import signature
from typing import Any
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers.image_processing_base import ImageProcessingMixin  # noqa: F401  diffusers looks for it here
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import SizeDict

from .color_difference import ciede2000, rgb_to_lab
from .foreground_mask import TURNED, is_painted, luminance, mask_surprises, read_mask
from .levels import FULL_SCALE, to_unit
from .lut import apply_luts
from .lut_reference import sample_luts
from .resizing import low_resolution_copies

ImageLike = Image.Image | np.ndarray | Tensor | str | os.PathLike

DISHARMONY_PIXELS = 2**16
MAX_DOWNLOAD = 256 * 2**20  # bytes
LONGEST_PATH = 4096  # characters
SHORTEST_BASE64 = 64  # characters; a shorter text is the name of a file that is missing

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


@dataclass(frozen=True)
class OpenedPhoto:
    """A photo and its foreground mask, decoded once. `open_photo` makes one.

    Attributes:
        original: the photo as it was given: a PIL image (also for a path), NumPy array or torch tensor.
        rgb: its colours, shape (3, H, W), uint8, uint16 or float in [0, 1].
        mask: its foreground, shape (1, H, W), uint8 or float in [0, 1].
        input_data_format: as in `AICTImageProcessor.preprocess`.
        opacity: its alpha channel, shape (1, H, W), of the dtype of `rgb`; None if it is opaque.
    """

    original: Any
    rgb: Tensor
    mask: Tensor
    input_data_format: str | None = None
    opacity: Tensor | None = None

    def inverted(self) -> "OpenedPhoto":
        """The same photo with foreground and background exchanged. Transparent pixels are neither."""
        mask = 255 - self.mask if self.mask.dtype == torch.uint8 else 1 - self.mask
        return replace(self, mask=_without_hidden(mask, self.opacity))

    def surprises(self) -> list[str]:
        """Say what the mask probably does not mean, as `mask_surprises` does, and whether a background is missing.

        Returns:
            one sentence for each surprise; none for a mask without foreground.
        """
        if not self.mask.any():
            return []
        found = mask_surprises(self.mask)
        if self.opacity is None:
            background = to_unit(self.mask.min()).item() < 0.5
        else:  # most photos show some in a few rows
            background = any(
                bool((to_unit(self.opacity[:, ::step]) - to_unit(self.mask[:, ::step]) > 0.5).any()) for step in (16, 1)
            )
        if not background:
            found.append(
                "the mask covers the whole picture; there is no background to fit the colours to"
                if self.opacity is None
                else "nothing visible lies outside the foreground, because colours under transparent pixels do not "
                "count; there is no background to fit the colours to"
            )
        return found

    def low_resolution(self, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The network's inputs.

        Args:
            size: height and width.
        Returns:
            RGB, shape (3, *size), and mask, shape (1, *size), both float32 in [0, 1].
        """
        return low_resolution_copies(self.rgb, self.mask, size, opacity=self.opacity)

    @torch.no_grad()
    def recolored(self, knots: Tensor, color_lut: Tensor, *, strength: float = 1.0) -> Any:
        """Apply LUT maps at full resolution.

        Args:
            knots: the photo's maps as the model returns them, without the batch dimension, shape (3, K + 1, h, w).
            color_lut: likewise, shape (3, K, h, w).
            strength: share of the change to apply, 0 (returns the input bit for bit) to 1.
        Returns:
            an image of the type, size and mode of `original`. Alpha channels are kept. Pixels with mask 0 are
            identical to the input.
        Raises:
            ValueError: if the strength is out of range.
        """
        rgb, mask = (values[None].to(knots.device) for values in (self.rgb, self.mask))
        harmonized = apply_luts(rgb, mask, knots[None], color_lut[None], strength=strength)[0].to(self.rgb.device)
        changed = (self.mask > 0) if strength > 0 else torch.zeros_like(self.mask, dtype=torch.bool)
        return _put_back(self.original, harmonized, changed, self.input_data_format)

    @torch.no_grad()
    def disharmony(self, knots: Tensor, color_lut: Tensor) -> float:
        """Measure how far the foreground's colours are from where the LUT maps put them.

        Args:
            knots, color_lut: as for `recolored`.
        Returns:
            mean CIEDE2000 as `AICTImageProcessor.disharmony` defines it.
        """
        height, width = self.mask.shape[1:]
        inside = self.mask.flatten().nonzero()[:, 0]
        if len(inside) == 0:
            return 0.0
        if len(inside) > DISHARMONY_PIXELS:
            inside = inside[torch.linspace(0, len(inside) - 1, DISHARMONY_PIXELS, dtype=torch.float64).long()]
        row, column = inside // width, inside % width
        x, y = column * (2 / max(width - 1, 1)) - 1, row * (2 / max(height - 1, 1)) - 1
        positions = torch.stack([x, y], dim=-1)[None].float().to(knots.device)
        colors, weight = to_unit(self.rgb[:, row, column])[None].float(), to_unit(self.mask[0, row, column]).float()
        colors, weight = colors.to(knots.device), weight.to(knots.device)
        changed = sample_luts(colors, positions, knots[None].float(), color_lut[None].float())
        result = weight * changed + (1 - weight) * colors
        difference = ciede2000(*(rgb_to_lab(image.cpu().numpy()) for image in (colors, result)))[0]
        share = weight.cpu().numpy()
        return float((share * difference).sum() / share.sum())


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
        data: dict[str, Any] = {"pixel_values": torch.stack(pixel_values), "mask": torch.stack(masks)}
        if return_tensors != "pt":  # BatchFeature makes arrays of arrays only
            data = {name: tensor.cpu().numpy() for name, tensor in data.items()}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def post_process_harmonization(
        self,
        outputs: Any,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        strength: float = 1.0,
        *,
        input_data_format: str | None = None,
    ) -> list[Any]:
        """Apply the predicted LUTs to the photos at full resolution.

        Args:
            outputs: the output of `AICTModel` for `composites` and `masks` (`knots` and `color_lut` are read).
            composites: the photos that were given to the processor.
            masks: their masks, as given to the processor.
            strength: share of the change to apply, 0 (returns the input bit for bit) to 1.
            input_data_format: as in `preprocess`.
        Returns:
            one image per composite, of the composite's type, size and mode (PIL for a path). Alpha channels are kept.
            Pixels with mask 0 are identical to the input. Palette images keep their palette: convert them to RGB
            first for a result of full quality.
        Raises:
            ValueError: for the reasons of `preprocess`, or if `outputs` holds another number of images.
        """
        photos = _paired(outputs, composites, masks, input_data_format)
        return [photo.recolored(knots, color_lut, strength=strength) for photo, knots, color_lut in photos]

    def disharmony(
        self,
        outputs: Any,
        composites: ImageLike | Sequence[ImageLike],
        masks: ImageLike | Sequence[ImageLike | None] | None = None,
        *,
        input_data_format: str | None = None,
    ) -> list[float]:
        """Measure how far the foreground's colours are from where the network would put them.

        Args:
            outputs: the output of `AICTModel` for `composites` and `masks` (`knots` and `color_lut` are read).
            composites, masks, input_data_format: as for `post_process_harmonization`.
        Returns:
            for each composite the mean CIEDE2000 between its foreground and the full-strength result, weighted by the
            mask: 0 fits, 5 is plain to see. A foreground of more than 65 536 pixels is measured at that many, evenly
            spaced. The result is 0 if the mask has no foreground. Colours are taken to be sRGB.
        Raises:
            ValueError: for the reasons of `post_process_harmonization`.
        """
        photos = _paired(outputs, composites, masks, input_data_format)
        return [photo.disharmony(knots, color_lut) for photo, knots, color_lut in photos]


def open_photo(
    image: ImageLike,
    mask: ImageLike | None = None,
    input_data_format: str | None = None,
    *,
    timeout: float | None = None,
) -> OpenedPhoto:
    """Decode a photo and its mask.

    Args:
        image, mask, input_data_format: one of each, as in `AICTImageProcessor.preprocess`.
        timeout: as for `open_image`.
    Raises:
        ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
    """
    return _opened(open_image(image, timeout=timeout), open_image(mask, timeout=timeout), input_data_format)


def open_photos(
    images: ImageLike | Sequence[ImageLike],
    masks: ImageLike | Sequence[ImageLike | None] | None = None,
    input_data_format: str | None = None,
) -> Iterator[OpenedPhoto]:
    """Decode photos and their masks, one after the other; errors name the file, or the number of the image.

    Args:
        images, masks, input_data_format: as in `AICTImageProcessor.preprocess`.
    Raises:
        ValueError, FileNotFoundError: for the reasons of `AICTImageProcessor.preprocess`.
    """
    for index, (image, given_mask) in enumerate(pair_images(images, masks)):
        original, foreground = open_image(image), open_image(given_mask)
        try:
            photo = _opened(original, foreground, input_data_format)
        except ValueError as error:
            raise ValueError(f"{_name(image, given_mask, index)}: {error}") from error
        yield photo


def warn_of_surprises(photos: Sequence[OpenedPhoto]) -> None:
    """Warn of what `OpenedPhoto.surprises` finds; with several photos, the number of the photo comes first."""
    for index, photo in enumerate(photos):
        for surprise in photo.surprises():
            warnings.warn(f"image {index}: {surprise}" if len(photos) > 1 else surprise, stacklevel=3)


def _paired(
    outputs: Any, composites: Any, masks: Any, input_data_format: str | None
) -> Iterator[tuple[OpenedPhoto, Tensor, Tensor]]:
    """Each photo with its knots and color_lut."""
    pairs = pair_images(composites, masks)
    if len(pairs) != len(outputs.knots):
        raise ValueError(f"outputs holds {len(outputs.knots)} images, composites {len(pairs)}; pass the same ones")
    photos = open_photos(composites, masks, input_data_format)
    yield from zip(photos, outputs.knots, outputs.color_lut, strict=True)


def pair_images(
    images: ImageLike | Sequence[ImageLike], masks: ImageLike | Sequence[ImageLike | None] | None
) -> list[tuple[Any, Any]]:
    """Pair composites with their masks (None if left out).

    Raises:
        ValueError: if there are no images, or not as many masks as images.
    """
    photos = _as_list(images)
    foregrounds = [None] * len(photos) if masks is None else _as_list(masks)
    if not photos:
        raise ValueError("no images were given; pass at least one")
    if len(photos) != len(foregrounds):
        raise ValueError(f"{len(photos)} images came with {len(foregrounds)} masks; pass one mask per image")
    return list(zip(photos, foregrounds, strict=True))


def is_several(images: Any) -> bool:
    """Whether this is a list of images or a stack of images in one array, not a single image."""
    return isinstance(images, list | tuple) or (isinstance(images, np.ndarray | Tensor) and images.ndim == 4)


def open_image(image: Any, *, timeout: float | None = None) -> Any:
    """Decode an image and turn it upright. Anything but a path, an address or base64 is returned unchanged.

    Args:
        image: a path; an address that begins with `http://` or `https://`; a `data:` address, or an image file as
            base64, as transformers' own pipelines take them; or an image in memory.
        timeout: seconds that a server may stay silent; 60 if left out.
    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if an address cannot be fetched or leads to more than `MAX_DOWNLOAD` bytes, the file is no image,
            has 16 bits a channel in colour, or has more pixels than Pillow's own limit (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    if not isinstance(image, str | os.PathLike):
        return image
    name, source = _source(image, timeout)
    try:
        with Image.open(source) as opened:
            deep = not opened.mode.startswith("I;16") and any(
                ";16" in str(tile) for tile in getattr(opened, "tile", ())
            )
            upright = ImageOps.exif_transpose(opened)  # loads it
    except FileNotFoundError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} cannot be read as an image: its format is not known") from error
    except Exception as error:  # decoders raise of many kinds on damaged files
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    if deep:
        raise ValueError(
            f"{name} has 16 bits a channel, which Pillow would cut to 8; read it as a uint16 array, "
            "or use aict_hf.files.images.read_image"
        )
    return upright


def _source(image: str | os.PathLike, timeout: float | None) -> tuple[str, Any]:
    """What errors call an image, and what Pillow opens: a path, or the bytes of an address or of base64."""
    text = os.fspath(image)
    if not isinstance(image, str) or os.path.isfile(text):  # noqa: PTH113  Path.is_file fails on long texts
        return text, image
    if text[:8].lower().startswith(("http://", "https://")):
        return _short(text), io.BytesIO(_download(text, timeout))
    if text[:5].lower() == "data:":
        kind, comma, encoded = text.partition(",")
        if not comma or not kind.lower().endswith(";base64"):
            raise ValueError(f"the data address {_short(text)} is not base64; expected data:image/png;base64,...")
        content = _decoded(unquote(encoded))
        if content is None:
            raise ValueError(f"the data address {_short(text)} is damaged; expected base64 after the comma")
        return f"the data address {_short(text)}", io.BytesIO(content)
    content = _decoded(text) if len(text) >= SHORTEST_BASE64 and " " not in text else None
    if content is not None and (len(text) > LONGEST_PATH or _is_known(content)):
        return f"the base64 {_short(text)}", io.BytesIO(content)
    if len(text) > LONGEST_PATH:
        raise ValueError(f"{_short(text)} is no file, and neither an address nor base64; check the text")
    return text, image


def _is_known(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # a damaged or a huge one, which the caller opens again
        return True
    return True


def _decoded(text: str) -> bytes | None:
    """The bytes that base64 stands for, or None if it is none; line breaks and missing padding are accepted."""
    joined = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(joined + "=" * (-len(joined) % 4), validate=True)
    except ValueError:
        return None


def _download(address: str, timeout: float | None) -> bytes:
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "aict_hf"})
        with urllib.request.urlopen(request, timeout=60 if timeout is None else timeout) as answer:
            content = answer.read(MAX_DOWNLOAD + 1)
    except (OSError, HTTPException, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{_short(address)} cannot be downloaded ({reason}); check the address") from error
    if len(content) > MAX_DOWNLOAD:
        raise ValueError(f"{_short(address)} is larger than {MAX_DOWNLOAD // 2**20} MiB; download it yourself")
    return bytes(content)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:60]}... of {len(text)} characters"


def photo_tensors(photo: Any, foreground: Any, input_data_format: str | None = None) -> tuple[Tensor, Tensor]:
    """Make the tensors that the LUTs work on from one photo and its mask.

    Args:
        photo: PIL image, NumPy array or torch tensor, gray, RGB or with alpha.
        foreground: its mask, or None if the photo's alpha channel is the mask.
        input_data_format: as in `AICTImageProcessor.preprocess`.
    Returns:
        RGB, shape (3, H, W), uint8, uint16 or float in [0, 1] (a view of an RGB array, not a copy), and mask, shape
        (1, H, W), uint8 or float in [0, 1].
    Raises:
        ValueError: if a shape, dtype or value is not one of an image, or the sizes differ.
    """
    channels = _channels(photo, "image", input_data_format)
    if foreground is not None:
        mask = mask_tensor(foreground, input_data_format=input_data_format)
    elif channels.shape[0] in (2, 4):
        mask = channels[-1:]
        if to_unit(mask).min() > 0.5:
            raise ValueError(
                "no mask was given and the image's alpha channel is opaque everywhere; pass a mask, or a cut-out with "
                "a transparent background"
            )
    else:
        raise ValueError("no mask was given and the image has no alpha channel; pass a mask or an RGBA image")
    if mask.dtype == torch.uint16:
        mask = to_unit(mask)
    rgb = _colors(channels)
    height, width = rgb.shape[1:]
    if mask.shape[1:] != rgb.shape[1:]:
        advice = "resize the mask to the composite"
        if mask.shape[1:] == (width, height):
            advice = f"one of them is turned: {TURNED}"
        raise ValueError(f"mask is {mask.shape[2]} x {mask.shape[1]}, composite is {width} x {height}; {advice}")
    return rgb, _without_hidden(mask.to(rgb.device), _opacity(channels))


def _opened(photo: Any, foreground: Any, input_data_format: str | None) -> OpenedPhoto:
    rgb, mask = photo_tensors(photo, foreground, input_data_format)
    opacity = None
    if not isinstance(photo, Image.Image) or photo.has_transparency_data:
        opacity = opacity_tensor(photo, input_data_format=input_data_format)
    return OpenedPhoto(photo, rgb, mask, input_data_format, opacity)


def _opacity(channels: Tensor) -> Tensor | None:
    """The alpha channel, or None if there is none or all is opaque."""
    if channels.shape[0] not in (2, 4):
        return None
    alpha = channels[-1:].int() if channels.dtype == torch.uint16 else channels[-1:]
    return None if alpha.min() == FULL_SCALE.get(channels.dtype, 1.0) else channels[-1:]


def _without_hidden(mask: Tensor, opacity: Tensor | None) -> Tensor:
    """The mask where something is visible."""
    return mask if opacity is None else torch.where(opacity.bool(), mask, torch.zeros_like(mask))


def rgb_tensor(photo: Any, *, name: str = "image", input_data_format: str | None = None) -> Tensor:
    """Make the RGB tensor of one photo, without its alpha channel: the first result of `photo_tensors`.

    Args:
        photo, input_data_format: as for `photo_tensors`.
        name: the photo's name in errors.
    Raises:
        ValueError: if the shape, dtype or a value is not one of an image.
    """
    return _colors(_channels(photo, name, input_data_format))


def opacity_tensor(photo: Any, *, input_data_format: str | None = None) -> Tensor | None:
    """Make the tensor of one photo's alpha channel.

    Args:
        photo, input_data_format: as for `photo_tensors`.
    Returns:
        the alpha channel, shape (1, H, W), of the photo's dtype; None if the photo is opaque.
    Raises:
        ValueError: if the shape, dtype or a value is not one of an image.
    """
    return _opacity(_channels(photo, "image", input_data_format))


def mask_tensor(mask: Any, *, input_data_format: str | None = None) -> Tensor:
    """Make the tensor of one mask, as `aict_hf.model.foreground_mask.read_mask` reads it.

    Args:
        mask: PIL image, NumPy array or torch tensor.
        input_data_format: as in `AICTImageProcessor.preprocess`.
    Returns:
        uint8 or float in [0, 1], shape (1, H, W).
    Raises:
        ValueError: if the shape, dtype or a value is not one of a mask.
    """
    return read_mask(_channels(mask, "mask", input_data_format))


def is_painted_mask(mask: Any) -> bool:
    """Whether a mask, as for `mask_tensor`, is foreground where its one colour is, instead of where it is white."""
    return is_painted(_channels(mask, "mask", None))


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


def _as_list(images: Any) -> list[Any]:
    return list(images) if is_several(images) else [images]


def _name(image: Any, mask: Any, index: int) -> str:
    paths = [_short(os.fspath(given)) for given in (mask, image) if isinstance(given, str | os.PathLike)]
    return paths[0] if paths else f"image {index}"


def _channels(image: Any, name: str, input_data_format: str | None) -> Tensor:
    """An image as (C, H, W), 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA: uint8, uint16 or float (checked) in [0, 1]."""
    if isinstance(image, Image.Image):
        return _pil_channels(image)
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(f"{name} is a {type(image).__name__}; expected a PIL image, an array, a tensor or a file path")
    if image.ndim == 2:
        image = image[None]
        input_data_format = "channels_first"
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{name} has shape {tuple(image.shape)}; expected (H, W), (H, W, C) or (C, H, W)")
    channels_first = _is_channels_first(image, name, input_data_format)
    tensor = _as_tensor(image) if isinstance(image, np.ndarray) else image
    tensor = tensor if channels_first else tensor.permute(2, 0, 1)
    if tensor.dtype in FULL_SCALE:
        return tensor
    if tensor.dtype == torch.bool and name == "mask":
        return tensor.float()
    if not tensor.dtype.is_floating_point:
        raise ValueError(
            f"{name} has dtype {image.dtype}; expected uint8, uint16 or float in [0, 1], or bool for a mask"
        )
    low, high = tensor.aminmax()
    if not (low >= 0 and high <= 1):  # also where they are NaN
        raise ValueError(f"{name} has values from {low:.4g} to {high:.4g}; floats must lie in [0, 1] and not be NaN")
    return tensor


def _as_tensor(array: np.ndarray) -> Tensor:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch wants neither
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise ValueError(f"arrays of dtype {array.dtype} are no images; expected uint8, uint16 or float") from error


def _is_channels_first(image: np.ndarray | Tensor, name: str, input_data_format: str | None) -> bool:
    first, last = image.shape[0] in (1, 2, 3, 4), image.shape[-1] in (1, 2, 3, 4)
    if input_data_format is not None:
        if input_data_format not in ("channels_first", "channels_last"):
            raise ValueError(f"input_data_format is {input_data_format!r}; expected channels_first or channels_last")
        channels_first = input_data_format == "channels_first"
        first, last = first and channels_first, last and not channels_first
    if not (first or last):
        raise ValueError(f"{name} has shape {tuple(image.shape)}; expected 1, 2, 3 or 4 channels, first or last")
    return first and (not last or isinstance(image, Tensor))


def _pil_channels(image: Image.Image) -> Tensor:
    if image.mode.startswith("I;16"):
        return torch.from_numpy(np.array(image).astype(np.uint16))[None]  # its byte order may be another
    if image.mode in ("I", "F"):
        raise ValueError(f"image mode {image.mode} has no fixed range; convert it to L, RGB or a float array in [0, 1]")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _colors(channels: Tensor) -> Tensor:
    """RGB, shape (3, H, W), of gray or RGB with or without alpha; a view."""
    return channels[:3] if channels.shape[0] > 2 else channels[:1].expand(3, -1, -1)


def _put_back(photo: Any, harmonized: Tensor, changed: Tensor, input_data_format: str | None) -> Any:
    """A copy of `photo`, of its type, layout and mode, with the harmonized RGB where `changed`; alpha is kept."""
    if not isinstance(photo, Image.Image):
        return _put_back_array(photo, harmonized, changed, input_data_format)
    if photo.mode.startswith("I;16"):
        values = _put_back_array(np.array(photo), harmonized, changed, input_data_format)
        return Image.frombytes(photo.mode, photo.size, values.tobytes())
    result = photo.copy()
    pixels = Image.fromarray(np.ascontiguousarray(harmonized.permute(1, 2, 0).numpy()))
    if photo.mode == "P":
        pixels = pixels.quantize(palette=photo, dither=Image.Dither.NONE)
    else:
        pixels = pixels.convert(photo.mode, dither=Image.Dither.NONE)
    if photo.mode in ("LA", "RGBA"):
        pixels.putalpha(photo.getchannel("A"))
    result.paste(pixels, mask=Image.fromarray(changed[0].numpy().astype(np.uint8) * 255))
    return result


def _put_back_array(array: Any, harmonized: Tensor, changed: Tensor, input_data_format: str | None) -> Any:
    result = array.clone() if isinstance(array, Tensor) else _as_tensor(array.copy())
    channels_first = array.ndim == 2 or _is_channels_first(array, "image", input_data_format)
    layers = result[None] if array.ndim == 2 else result if channels_first else result.permute(2, 0, 1)
    color_count = 3 if layers.shape[0] > 2 else 1
    values = harmonized if color_count == 3 else luminance(harmonized)
    layers[:color_count] = torch.where(changed, values.to(layers.dtype), layers[:color_count])
    return result if isinstance(array, Tensor) else result.numpy().astype(array.dtype, copy=False)


__all__ = [
    "AICTImageProcessor",
    "ImageLike",
    "OpenedPhoto",
    "is_painted_mask",
    "is_several",
    "mask_tensor",
    "opacity_tensor",
    "open_image",
    "open_photo",
    "open_photos",
    "pair_images",
    "photo_tensors",
    "rgb_tensor",
    "warn_of_surprises",
]
