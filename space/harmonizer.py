"""What every tab does with a photo: one look at the network, then the LUTs at any strength."""

import io
import math
import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from aict_hf.files.images import ImageFile
from aict_hf.model.image_processing_aict import AICTImageProcessor, photo_tensors
from aict_hf.model.levels import to_unit
from aict_hf.model.modeling_aict import AICTModel, AICTOutput
from aict_hf.pretrained import load_checkpoint

try:
    from spaces import GPU  # ZeroGPU: a GPU for as long as the decorated function runs
except ImportError:

    def GPU(function):  # noqa: N802  its name on ZeroGPU
        return function


# Below these differences (CIEDE2000) the colours of an object ...
FITS = (
    (3.0, "fit the photo already"),
    (6.0, "are a little off"),
    (12.0, "are clearly off"),
    (math.inf, "are far off"),
)


@dataclass(frozen=True)
class Looked:
    """A photo the network has looked at: with this, another strength costs only the LUTs.

    Attributes:
        photo: path of the upload, which is read again, because photos kept in memory would soon fill it.
        mask: the mask as PNG.
        maps: the LUT maps on the CPU, float32.
        before: path of the picture shown beside the result.
    """

    photo: str
    mask: bytes
    maps: AICTOutput
    before: str


@cache
def checkpoint() -> tuple[AICTModel, AICTImageProcessor]:
    """The checkpoint that AICT_MODEL names (bundled name, folder or Hub repository), on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_checkpoint(os.environ.get("AICT_MODEL") or None, device=device)


def mask_of(photo: ImageFile, mask: Image.Image | np.ndarray | None, *, invert: bool = False) -> np.ndarray:
    """The foreground mask, uint8, shape (H, W): the one given, or the photo's alpha channel.

    Raises:
        ValueError: if there is none, its size is another than the photo's, or nothing or everything is foreground.
    """
    _, foreground = photo_tensors(photo.pixels, mask)
    levels = (to_unit(foreground[0]) * 255).round().to(torch.uint8).numpy()
    if invert:
        levels = 255 - levels
    if not levels.any():
        raise ValueError("The mask is empty: mark the pasted object, white on black.")
    if levels.min() == 255:
        raise ValueError("The mask covers the whole picture: leave the background black, so that there is one.")
    return levels


def look(photo: ImageFile, mask: np.ndarray) -> AICTOutput:
    """Ask the network for the LUT maps of a photo: shapes as `AICTOutput` says, batch of 1, on the CPU."""
    inputs = checkpoint()[1](photo.pixels, mask, return_tensors="pt")
    intervals, knots, color_lut = _predict_maps(inputs["pixel_values"], inputs["mask"])
    return AICTOutput(sampling_intervals=intervals, knots=knots, color_lut=color_lut)


def fit_in_words(photo: ImageFile, mask: np.ndarray, maps: AICTOutput) -> str:
    """How well the object's colours fit, as a sentence with its figure (`AICTImageProcessor.disharmony`)."""
    [distance] = checkpoint()[1].disharmony(maps, [photo.pixels], [mask])
    words = next(words for limit, words in FITS if distance < limit)
    return f"The object's colours {words} (difference {distance:.1f})."


def recolored(photo: ImageFile, mask: np.ndarray, maps: AICTOutput, strength: float) -> ImageFile:
    """The photo with its foreground recoloured, full size, same type, ICC profile and EXIF."""
    pixels = checkpoint()[1].post_process_harmonization(maps, [photo.pixels], [mask], strength)[0]
    return ImageFile(pixels, photo.icc_profile, photo.exif)


def packed(mask: np.ndarray) -> bytes:
    """A mask as PNG: some hundredths of its size."""
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def unpacked(mask: bytes) -> np.ndarray:
    """What `packed` packed."""
    return np.asarray(Image.open(io.BytesIO(mask)))


@GPU
@torch.inference_mode()
def _predict_maps(pixel_values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # On ZeroGPU this runs in another process: small tensors go there and come back on the CPU.
    model, _ = checkpoint()
    maps = model(pixel_values.to(model.device), mask.to(model.device), return_harmonized=False)
    return tuple(values.float().cpu() for values in (maps.sampling_intervals, maps.knots, maps.color_lut))
