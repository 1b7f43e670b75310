"""The network of the Space. A photo is decoded once, the network runs once, and then the LUTs give any strength."""

import io
import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from uploads import read_photo, uploaded

from aict_hf import Harmonizer
from aict_hf.errors import InputError
from aict_hf.files.images import ImageFile
from aict_hf.harmonize.files import PAINTED, turn_surprises
from aict_hf.harmonize.photo_luts import LUTMaps, PhotoLUTs
from aict_hf.model.image_arrays import is_painted_mask, mask_array, rgb_array
from aict_hf.model.levels import to_eight_bits
from aict_hf.model.opened_photo import OpenedPhoto, open_photo

Function = TypeVar("Function", bound=Callable)

try:
    from spaces import GPU  # ZeroGPU: a GPU for as long as the decorated function runs
except ImportError:

    def GPU(function: Function) -> Function:  # noqa: N802  its name on ZeroGPU
        return function


# Below each disharmony (CIEDE2000), the colours of an object ...
FITS = (
    (3.0, "fit the photo already"),
    (6.0, "are a little off"),
    (12.0, "are clearly off"),
    (math.inf, "are far off"),
)


@cache
def harmonizer() -> Harmonizer:
    """The checkpoint that AICT_MODEL names (bundled name, folder or Hub repository), on the GPU if there is one.

    Raises:
        InputError: if it cannot be loaded, or has other maps than the LUTs that the tabs draw.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = Harmonizer.from_pretrained(os.environ.get("AICT_MODEL") or None, device=device)
    transform = loaded.model.config.color_transform
    if transform != "aict":
        raise InputError(f"AICT_MODEL has the colour transformation {transform}; the Space needs one with aict")
    return loaded


class Opened(NamedTuple):
    """A composite with its mask.

    Attributes:
        file: the decoded file.
        photo: its arrays; the mask is uint8.
        notes: the signs that the mask is misread, one sentence each.
    """

    file: ImageFile
    photo: OpenedPhoto
    notes: list[str]

    @property
    def mask(self) -> np.ndarray:
        """The mask, uint8, shape (H, W)."""
        return self.photo.mask[0]


def open_uploads(composite: Any, mask: Any = None, *, invert: bool = False) -> Opened:
    """Decode an uploaded composite and its uploaded mask or, without one, its alpha channel.

    Raises:
        ValueError: for the reasons of `read_photo` and `open_with_mask`.
    """
    file = read_photo(composite, "composite")
    if mask is None:
        return open_with_mask(file, None, invert=invert)
    opened = open_with_mask(file, read_photo(mask, "mask").pixels, invert=invert)
    turned = turn_surprises(uploaded(composite, "composite"), uploaded(mask, "mask"), file.size)
    return opened._replace(notes=[*opened.notes, *turned])


def open_with_mask(file: ImageFile, mask: Image.Image | np.ndarray | None, *, invert: bool = False) -> Opened:
    """Take the given mask for a composite or, without one, its alpha channel.

    Raises:
        ValueError: if there is no mask, it cannot be read as one, its size is not the photo's, or nothing or everything
            is foreground.
    """
    photo = open_photo(file.pixels, mask)
    photo = photo.inverted() if invert else photo
    levels = to_eight_bits(photo.mask)
    which = "The inverted mask" if invert else "The mask"
    if not levels.any():
        if mask is None and not invert:
            raise ValueError("The composite is transparent everywhere: there is nothing visible to harmonize.")
        if mask is not None and not invert and mask_array(mask).any():
            raise ValueError("The composite is transparent wherever the mask is white: mark something that shows.")
        raise ValueError(f"{which} is empty: mark the pasted object, white on black.")
    if levels.min() == 255:
        raise ValueError(f"{which} covers the whole picture: leave the background black.")
    notes = photo.surprises()
    if invert:
        notes = [note.replace("the mask", "the inverted mask", 1) for note in notes]
    if mask is not None and is_painted_mask(mask):
        notes.append(PAINTED)
    return Opened(file, replace(photo, mask=levels), notes)


def predict(opened: OpenedPhoto) -> PhotoLUTs:
    """Run the network once. The LUT maps are on the CPU."""
    inputs = harmonizer().processor.network_inputs([opened])
    return PhotoLUTs(opened, LUTMaps(*_predict_maps(inputs["pixel_values"], inputs["mask"])))


def fit_in_words(luts: PhotoLUTs) -> str:
    """How well the object's colours fit, as a sentence with the disharmony."""
    distance = luts.disharmony()
    words = next(words for limit, words in FITS if distance < limit)
    return f"The object's colours {words} (difference {distance:.1f})."


def recolored(photo: ImageFile, luts: PhotoLUTs, strength: float) -> ImageFile:
    """The harmonized photo at full size, with the type, compression and metadata of the original."""
    return replace(photo, pixels=luts.apply(strength=strength))


def recolored_again(photo: ImageFile, mask: np.ndarray, maps: LUTMaps, strength: float) -> ImageFile:
    """`recolored` without the network, from the mask and the LUT maps of an earlier run."""
    opened = OpenedPhoto(photo.pixels, rgb_array(photo.pixels), mask[None])
    return recolored(photo, PhotoLUTs(opened, maps), strength)


def packed(mask: np.ndarray) -> bytes:
    """A mask as PNG, which is much smaller."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def unpacked(mask: bytes) -> np.ndarray:
    """The mask that `packed` packed."""
    return np.array(Image.open(io.BytesIO(mask)))


@GPU
@torch.inference_mode()
def _predict_maps(pixel_values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # On ZeroGPU this runs in another process: only small tensors are sent there, and they come back on the CPU.
    model = harmonizer().model
    maps = model(pixel_values.to(model.device), mask.to(model.device), return_harmonized=False)
    return tuple(values[0].float().cpu() for values in (maps.sampling_intervals, maps.knots, maps.color_lut))
