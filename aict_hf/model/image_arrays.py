"""Photos and masks in memory as NumPy arrays: PIL images, arrays and torch tensors of any layout, and back again."""

import sys
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from PIL import Image

from .foreground_mask import TURNED, is_painted, luminance, read_mask
from .levels import full_scale, to_unit


def photo_arrays(photo: Any, foreground: Any, input_data_format: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Make the arrays that the LUTs work on from one photo and its mask.

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
        mask = mask_array(foreground, input_data_format=input_data_format)
    elif channels.shape[0] in (2, 4):
        mask = channels[-1:]
        if to_unit(mask).min() > 0.5:
            raise ValueError(
                "no mask was given and the image's alpha channel is opaque everywhere; pass a mask, or a cut-out with "
                "a transparent background"
            )
    else:
        raise ValueError("no mask was given and the image has no alpha channel; pass a mask or an RGBA image")
    if mask.dtype == np.uint16:
        mask = to_unit(mask)
    rgb = _colors(channels)
    height, width = rgb.shape[1:]
    if mask.shape[1:] != rgb.shape[1:]:
        advice = "resize the mask to the composite"
        if mask.shape[1:] == (width, height):
            advice = f"one of them is turned: {TURNED}"
        raise ValueError(f"mask is {mask.shape[2]} x {mask.shape[1]}, composite is {width} x {height}; {advice}")
    return rgb, without_hidden(mask, _opacity(channels))


def _opacity(channels: np.ndarray) -> np.ndarray | None:
    """The alpha channel, or None if there is none or all is opaque."""
    if channels.shape[0] not in (2, 4):
        return None
    return None if channels[-1:].min() == full_scale(channels) else channels[-1:]


def without_hidden(mask: np.ndarray, opacity: np.ndarray | None) -> np.ndarray:
    """A mask, uint8 or float, shape (1, H, W), with 0 where nothing is visible; `opacity` as `opacity_array` has it."""
    return mask if opacity is None else np.where(opacity > 0, mask, np.zeros_like(mask))


def rgb_array(photo: Any, *, name: str = "image", input_data_format: str | None = None) -> np.ndarray:
    """Make the RGB array of one photo, without its alpha channel: the first result of `photo_arrays`.

    Args:
        photo, input_data_format: as for `photo_arrays`.
        name: the photo's name in errors.
    Raises:
        ValueError: if the shape, dtype or a value is not one of an image.
    """
    return _colors(_channels(photo, name, input_data_format))


def opacity_array(photo: Any, *, input_data_format: str | None = None) -> np.ndarray | None:
    """Make the array of one photo's alpha channel.

    Args:
        photo, input_data_format: as for `photo_arrays`.
    Returns:
        the alpha channel, shape (1, H, W), of the photo's dtype; None if the photo is opaque.
    Raises:
        ValueError: if the shape, dtype or a value is not one of an image.
    """
    return _opacity(_channels(photo, "image", input_data_format))


def mask_array(mask: Any, *, input_data_format: str | None = None) -> np.ndarray:
    """Make the array of one mask, as `aict_hf.model.foreground_mask.read_mask` reads it.

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
    """Whether a mask, as for `mask_array`, is foreground where its one colour is, instead of where it is white."""
    return is_painted(_channels(mask, "mask", None))


def _channels(image: Any, name: str, input_data_format: str | None) -> np.ndarray:
    """An image as (C, H, W), 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA: uint8, uint16 or float (checked) in [0, 1]."""
    if isinstance(image, Image.Image):
        return _pil_channels(image)
    if not (isinstance(image, np.ndarray) or is_tensor(image)):
        raise ValueError(f"{name} is a {type(image).__name__}; expected a PIL image, an array, a tensor or a file path")
    if image.ndim == 2:
        image = image[None]
        input_data_format = "channels_first"
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"{name} has shape {tuple(image.shape)}; expected (H, W), (H, W, C) or (C, H, W)")
    channels_first = _is_channels_first(image, name, input_data_format)
    array = _as_array(image)
    array = array if channels_first else array.transpose(2, 0, 1)
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.dtype == np.bool_ and name == "mask":
        return array.astype(np.float32)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name} has dtype {image.dtype}; expected uint8, uint16 or float in [0, 1], or bool for a mask"
        )
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # also where they are NaN
        raise ValueError(f"{name} has values from {low:.4g} to {high:.4g}; floats must lie in [0, 1] and not be NaN")
    return array


def is_tensor(image: Any) -> bool:
    """Whether this is a torch tensor; if it is, torch is loaded."""
    return "torch" in sys.modules and isinstance(image, sys.modules["torch"].Tensor)


def _as_array(image: Any) -> np.ndarray:
    """An array or tensor as an array that torch can share: of native byte order, writable, without steps back."""
    if not isinstance(image, np.ndarray):
        image = image.detach().cpu()
        return (image.float() if image.dtype == sys.modules["torch"].bfloat16 else image).numpy()
    if not image.dtype.isnative:
        image = image.astype(image.dtype.newbyteorder("="))
    if not image.flags.writeable or any(stride < 0 for stride in image.strides):
        image = image.copy()
    return image


def _is_channels_first(image: Any, name: str, input_data_format: str | None) -> bool:
    first, last = image.shape[0] in (1, 2, 3, 4), image.shape[-1] in (1, 2, 3, 4)
    if input_data_format is not None:
        if input_data_format not in ("channels_first", "channels_last"):
            raise ValueError(f"input_data_format is {input_data_format!r}; expected channels_first or channels_last")
        channels_first = input_data_format == "channels_first"
        first, last = first and channels_first, last and not channels_first
    if not (first or last):
        raise ValueError(f"{name} has shape {tuple(image.shape)}; expected 1, 2, 3 or 4 channels, first or last")
    return first and (not last or not isinstance(image, np.ndarray))


def _pil_channels(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)[None]  # its byte order may be another
    if image.mode in ("I", "F"):
        raise ValueError(f"image mode {image.mode} has no fixed range; convert it to L, RGB or a float array in [0, 1]")
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _colors(channels: np.ndarray) -> np.ndarray:
    """RGB, shape (3, H, W), of gray or RGB with or without alpha; a view."""
    return (
        channels[:3]
        if channels.shape[0] > 2
        else as_strided(channels, (3, *channels.shape[1:]), (0, *channels.strides[1:]))
    )


def put_back(photo: Any, harmonized: np.ndarray, mask: np.ndarray, input_data_format: str | None) -> Any:
    """Copy an image and write harmonized colours to it. Alpha channels are kept.

    Args:
        photo: PIL image, NumPy array or torch tensor.
        harmonized: RGB, uint8, uint16 or float in [0, 1], shape (3, H, W), with the image's own colours where it is
            unchanged.
        mask: above 0 where the colours may differ, shape (1, H, W). Colours that RGB cannot hold are kept elsewhere.
        input_data_format: as in `AICTImageProcessor.preprocess`.
    Returns:
        an image of the type, layout, mode and device of `photo`.
    """
    if not isinstance(photo, Image.Image):
        return _put_back_array(photo, harmonized, mask, input_data_format)
    if photo.mode.startswith("I;16"):
        values = _put_back_array(np.array(photo), harmonized, mask, input_data_format)
        return Image.frombytes(photo.mode, photo.size, values.tobytes())
    pixels = Image.fromarray(np.ascontiguousarray(harmonized.transpose(1, 2, 0)))
    if photo.mode == "RGB":  # no copy of a large photo is needed
        pixels.info = photo.info.copy()
        return pixels
    result = photo.copy()
    if photo.mode == "P":
        pixels = pixels.quantize(palette=photo, dither=Image.Dither.NONE)
    else:
        pixels = pixels.convert(photo.mode, dither=Image.Dither.NONE)
    if photo.mode in ("LA", "RGBA"):
        pixels.putalpha(photo.getchannel("A"))
    result.paste(pixels, mask=Image.fromarray((mask[0] > 0).astype(np.uint8) * 255))
    return result


def _put_back_array(array: Any, harmonized: np.ndarray, mask: np.ndarray, input_data_format: str | None) -> Any:
    result = _as_array(array).copy()
    channels_first = array.ndim == 2 or _is_channels_first(array, "image", input_data_format)
    layers = result[None] if array.ndim == 2 else result if channels_first else result.transpose(2, 0, 1)
    color_count = 3 if layers.shape[0] > 2 else 1
    values = harmonized if color_count == 3 else luminance(harmonized)
    np.copyto(layers[:color_count], values, where=mask > 0, casting="unsafe")
    if isinstance(array, np.ndarray):
        return result.astype(array.dtype, copy=False)
    return sys.modules["torch"].from_numpy(result).to(array.device, array.dtype)


__all__ = [
    "is_painted_mask",
    "is_tensor",
    "mask_array",
    "opacity_array",
    "photo_arrays",
    "put_back",
    "rgb_array",
    "without_hidden",
]
