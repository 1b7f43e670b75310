"""Paste decoded photo files, with their colour profiles."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..errors import NothingPastedError
from ..files.images import ImageFile, in_profile
from .paste import paste


def paste_photo(
    cutout: ImageFile,
    alpha: Any,
    background: ImageFile,
    *,
    position: tuple[float, float],
    scale: float = 1.0,
    rotation: float = 0.0,
    flip: bool = False,
    feather: float = 0.0,
    decontaminate: bool = False,
) -> tuple[ImageFile, np.ndarray]:
    """Paste a cut-out into a photo, in the photo's colour profile.

    Args:
        cutout: what to paste. Its colours are converted to the background's profile.
        alpha: its opacity, as for `paste`, or None if `cutout` has an alpha channel.
        background: the photo to paste into.
        position, scale, rotation, flip, feather, decontaminate: as for `paste`.
    Returns:
        the composite with the background's size, profile and EXIF, and the mask of what was pasted, uint8, (H, W).
    Raises:
        NothingPastedError: if nothing of the cut-out lies in the background.
        ValueError, InputError: for the reasons of `paste`.
    """
    profile = background.rgb_profile
    composite = paste(
        in_profile(cutout, profile),
        alpha,
        background.pixels,
        position=position,
        scale=scale,
        rotation=rotation,
        flip=flip,
        feather=feather,
        decontaminate=decontaminate,
    )
    if composite.box is None:
        raise NothingPastedError(background.size)
    pixels = composite.image if composite.image.dtype == np.uint16 else Image.fromarray(composite.image)
    return replace(background, pixels=pixels, icc_profile=profile), composite.mask


__all__ = ["paste_photo"]
