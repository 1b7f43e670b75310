"""Paste decoded photo files, with their colour profiles."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ..errors import NothingPastedError
from ..files.images import ImageFile, in_profile
from ..model.image_arrays import photo_arrays
from ..model.levels import to_unit
from .paste import OPAQUE, Composite, paste


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
        background: the photo to paste into. Its alpha channel is kept; what is pasted becomes visible there.
        position, scale, rotation, flip, feather, decontaminate: as for `paste`.
    Returns:
        the composite with the background's size, profile and EXIF, and the mask of what was pasted, uint8, (H, W).
    Raises:
        NothingPastedError: if nothing of the cut-out shows: it lies outside the background, or the scale or the feather
            leaves nothing of it.
        ValueError, InputError: for the reasons of `paste`, or if the mask marks nothing.
    """
    profile = background.rgb_profile
    pixels = in_profile(cutout, profile)
    placed: dict[str, Any] = {"position": position, "scale": scale, "rotation": rotation, "flip": flip}
    composite = paste(pixels, alpha, background.pixels, **placed, feather=feather, decontaminate=decontaminate)
    if composite.box is None:
        opacity = to_unit(photo_arrays(pixels, alpha)[1])
        brightest = float(opacity.max())
        if brightest < OPAQUE / 255:
            kind = "alpha channel" if alpha is None else "mask"
            raise ValueError(
                f"the {kind} marks nothing to paste: its highest value is {brightest:.3g} of 1; expected white "
                "(255, or 65535 in 16 bits) for what to paste"
            )
        if feather and paste(pixels, alpha, background.pixels, **placed).box is not None:
            reason = f"a feather of {feather:g} pixels leaves nothing of the cut-out; feather it less"
            raise NothingPastedError(background.size, reason)
        width, height = cutout.size
        if scale * max(width, height) < 1:
            reason = f"a scale of {scale:g} leaves nothing of the cut-out of {width} x {height} pixels; make it larger"
            raise NothingPastedError(background.size, reason)
        raise NothingPastedError(background.size)
    image = _with_alpha(composite, background.pixels)
    pixels = image if image.dtype == np.uint16 else Image.fromarray(image)
    return replace(background, pixels=pixels, icc_profile=profile), composite.mask


def _with_alpha(composite: Composite, background: Image.Image | np.ndarray) -> np.ndarray:
    """Give a composite the alpha channel of its background, where what was pasted is visible.

    Source: Porter and Duff, "Compositing digital images" (SIGGRAPH 1984), operator over.
    """
    levels = np.asarray(background)
    if levels.ndim == 2 or levels.shape[2] in (1, 3):
        return composite.image
    full = np.iinfo(levels.dtype).max
    below, over = levels[..., -1] / full, composite.mask / 255
    visible = over + (1 - over) * below
    image = composite.image.copy()
    mixed = (over > 0) & (over < 1) & (below < 1)
    hidden = (1 - over[mixed]) * (1 - below[mixed])  # `paste` blends as if the background were opaque
    colors = image[mixed] - hidden[:, None] * levels[..., :-1][mixed]
    image[mixed] = (colors / visible[mixed][:, None]).round().clip(0, full)
    alpha = np.where(over > 0, (visible * full).round(), levels[..., -1]).astype(levels.dtype)
    return np.dstack([image, alpha])


__all__ = ["paste_photo"]
