"""The stage of the Compose tab: the cut-out is dragged, scaled and turned on the background, in the browser.

stage.js draws it with Konva, which travels with the Space (vendor/README.md). The server sends small pictures. A place
on the stage is what the sliders say: percentages, which hold at any size.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio import FileData
from PIL import Image
from uploads import new_file

from aict_hf.compose.paste import paste
from aict_hf.files.images import ImageFile, write_image

SPACE = Path(__file__).parent
LEAST_SIZE, MOST_SIZE = 2, 200  # percent of the background's shorter side
HELP = (
    "Drag the object, or tap where its centre shall be. Corners scale it, the round handle turns it. Letting go "
    "harmonizes. Keys: arrows move it by 1 % (with Shift by 0.1 %), + and - scale it, [ and ] turn it by a degree. "
    "The sliders do the same."
)
# Gradio passes what a JavaScript function returns to the outputs, and the values of the inputs to it.
READ = "() => document.querySelector('#compose-stage .stage').place()"
WRITE = "(...arrangement) => document.querySelector('#compose-stage .stage')?.follow?.(...arrangement)"
SHOW = "(...result) => document.querySelector('#compose-stage .stage')?.show?.(...result)"


@dataclass(frozen=True)
class Small:
    """A small copy of a picture.

    Attributes:
        pixels: the copy, RGB or RGBA.
        profile: the picture's ICC profile, or None.
        size: width and height of the picture itself.
    """

    pixels: Image.Image
    profile: bytes | None
    size: tuple[int, int]


def stage_component() -> gr.HTML:
    """The stage.

    It fires `input` while the object moves, `release` when it is let go, and `follow` to be told what the sliders say.
    """
    return gr.HTML(
        html_template=(SPACE / "stage.html").read_text(),
        css_template=(SPACE / "stage.css").read_text(),
        js_on_load=(SPACE / "stage.js").read_text(),
        head=f"<script>{(SPACE / 'vendor/konva/konva.min.js').read_text()}</script>",
        apply_default_css=False,
        elem_id="compose-stage",
        help=HELP,
        least_size=LEAST_SIZE,
        most_size=MOST_SIZE,
    )


def stage_value(cutout: Small | None, background: Small | None, size: float, feather: float) -> dict[str, Any]:
    """What the stage shows.

    Args:
        cutout, background: None for what is missing.
        size: the cut-out's longer side, percent of the background's shorter side.
        feather: width of its soft edge, percent of the background's shorter side. The stage scales the edge with the
            cut-out until the next value comes.
    """
    if cutout is not None and feather:
        width, height = cutout.pixels.size
        canvas = np.zeros((height, width, 3), np.uint8)
        edge = feather / size * max(width, height)
        colors, opacity = cutout.pixels.convert("RGB"), cutout.pixels.getchannel("A")
        alpha = paste(colors, opacity, canvas, position=(width / 2, height / 2), feather=edge).mask
        softened = cutout.pixels.copy()
        softened.putalpha(Image.fromarray(alpha))
        cutout = replace(cutout, pixels=softened)
    return {"cutout": _sent(cutout, "cutout.png"), "background": _sent(background, "background.jpg")}


def _sent(small: Small | None, name: str) -> dict[str, Any] | None:
    """A small picture as a file that the page loads."""
    if small is None:
        return None
    path = new_file(name)
    write_image(path, ImageFile(small.pixels, small.profile))
    width, height = small.size
    return {"file": FileData(path=str(path)).model_dump(), "width": width, "height": height}
