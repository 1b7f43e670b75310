"""Decode the photos and masks of training and evaluation.

Needs OpenCV (`pip install "aict_hf[training]"`).
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.images import read_image
from ..files.photo_pools import MaskedPhoto
from ..model.foreground_mask import TURNED
from ..model.image_arrays import mask_array
from ..model.levels import to_eight_bits


def load_photo(photo: MaskedPhoto) -> tuple[np.ndarray, np.ndarray]:
    """Decode a photo and its mask. A mask of another size is resized to the photo.

    Returns:
        photo, uint8, shape (H, W, 3), and mask, uint8, shape (H, W).
    Raises:
        InputError: if a file cannot be read, or the mask is turned against the photo.
    """
    image, mask = load_rgb(photo.image), load_mask(photo.mask)
    height, width = image.shape[:2]
    if mask.shape == (width, height) != (height, width):
        raise InputError(f"{photo.mask}: is turned against {photo.image}; {TURNED}")
    return image, mask_scaled_to(image, mask)


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
    """Decode a mask, uint8 0..255, shape (H, W), by the rules of `aict_hf.model.foreground_mask.read_mask`.

    Raises:
        InputError: if the file cannot be read or is not a mask.
    """
    try:
        return mask_levels(read_image(path).pixels)
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from error


def mask_levels(mask: Image.Image | np.ndarray) -> np.ndarray:
    """The levels of a decoded mask, uint8 0..255, shape (H, W).

    Raises:
        ValueError: if it is not a mask, by the rules of `aict_hf.model.foreground_mask.read_mask`.
    """
    return to_eight_bits(mask_array(mask)[0])


__all__ = ["load_mask", "load_photo", "load_rgb", "mask_levels", "mask_scaled_to"]
