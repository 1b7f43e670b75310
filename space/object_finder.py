"""The object in a photo: rembg finds it, and the brush corrects its mask."""

import importlib.util
import io
import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from harmonizer import packed, unpacked
from PIL import Image
from uploads import preview

from aict_hf.compose.cutout import CUT_OUT_MODEL, find_object, open_session
from aict_hf.files.images import ImageFile

if TYPE_CHECKING:
    from rembg.sessions.base import BaseSession

INSTALLED = all(map(importlib.util.find_spec, ("onnxruntime", "rembg")))  # the buttons are hidden otherwise
PAINT = (255, 59, 48)  # colour of the brush and of masks in the editor
SAME = 24  # of 255: the browser changes the opacity of unpainted pixels by less
ONE_AT_A_TIME = threading.Lock()  # a large model needs some GB for a photo


@dataclass(frozen=True)
class Found:
    """An object that was found.

    Attributes:
        photo: path of the upload it was found in.
        mask: its mask of full size, as PNG.
    """

    photo: str
    mask: bytes


def mask_editor(label: str, elem_id: str) -> gr.ImageEditor:
    """A hidden editor in which the object is painted, or its mask corrected."""
    return gr.ImageEditor(
        label=label,
        type="pil",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=[f"#{bytes(PAINT).hex()}"], color_mode="fixed", default_size=40),
        format="png",
        canvas_size=(1, 1),  # the photo enlarges it; in a canvas larger than the photo, Gradio displaces the layers
        visible=False,
        elem_id=elem_id,
    )


def find(path: str, photo: ImageFile) -> Found:
    """Find the object in an upload that has been decoded.

    Raises:
        ValueError: if rembg is not installed, its model cannot be had, or nothing is found.
    """
    with ONE_AT_A_TIME:
        return Found(path, packed(find_object(photo, _session())))


def in_editor(photo: ImageFile, found: Found) -> dict[str, Any]:
    """The value of an editor that shows the photo with a found mask painted over it."""
    background = preview(photo).convert("RGB")
    layer = Image.new("RGBA", background.size, PAINT)
    layer.putalpha(_small(found, background.size))
    return {"background": background, "layers": [layer], "composite": None}


def painted_mask(painting: dict | None, size: tuple[int, int], found: Found | None = None) -> Image.Image:
    """The mask in an editor, scaled to the photo's width and height.

    Args:
        painting: the editor's value.
        size: width and height of the photo.
        found: what the editor showed at first, or None. Where it was not corrected, its mask of full size holds.
    Raises:
        ValueError: if nothing is painted.
    """
    layers = (painting or {}).get("layers") or []
    alphas = [np.asarray(layer.convert("RGBA"))[..., 3] for layer in layers]
    if not alphas or not np.max(alphas):
        raise ValueError("Nothing is painted yet: paint over the pasted object, or upload its mask.")
    painted = Image.fromarray(np.max(alphas, axis=0))
    scaled = painted.resize(size, Image.Resampling.BILINEAR)
    if found is None:
        return scaled
    difference = np.asarray(painted, np.int16) - np.asarray(_small(found, painted.size), np.int16)
    changed = Image.fromarray(abs(difference) > SAME).convert("L").resize(size, Image.Resampling.BILINEAR)
    return Image.composite(
        scaled, Image.fromarray(unpacked(found.mask)), changed.point(lambda level: 255 * (level > 0))
    )


def _small(found: Found, size: tuple[int, int]) -> Image.Image:
    with Image.open(io.BytesIO(found.mask)) as mask:
        return mask.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


@cache
def _session() -> "BaseSession":
    """The model of rembg that AICT_CUT_OUT_MODEL names. It stays in memory."""
    return open_session(os.environ.get("AICT_CUT_OUT_MODEL") or CUT_OUT_MODEL)
