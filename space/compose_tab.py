"""The Compose tab: a cut-out laid onto a background, naively and harmonized."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from harmonizer import look, mask_of, recolored
from PIL import Image
from uploads import LIFETIME, new_file, photo_upload, preview, read_photo, save_result, shown, visitors_errors

from aict_hf.compose.paste import paste
from aict_hf.files.images import ImageFile, in_profile, write_image
from aict_hf.model.modeling_aict import AICTOutput

EXAMPLES = Path(__file__).parent / "examples"
PREVIEW_SIDE = 900


@dataclass(frozen=True)
class Arrangement:
    """Where the foreground goes: in shares of the background, so that it holds for previews too.

    Attributes:
        x, y: its centre, percent of the background's width and height.
        size: its longer side, percent of the background's shorter side.
        rotation: degrees, counterclockwise.
        flip: mirrored.
        feather: percent of the background's shorter side.
        clean_edges: whether to estimate the colours of soft edges anew.
    """

    x: float = 50.0
    y: float = 50.0
    size: float = 50.0
    rotation: float = 0.0
    flip: bool = False
    feather: float = 0.0
    clean_edges: bool = False


@dataclass(frozen=True)
class Pieces:
    """Uploads of the Compose tab: paths, or None."""

    foreground: str | None
    mask: str | None
    background: str | None


@dataclass(frozen=True)
class Composed:
    """A harmonized composite: what it was made of (it is pasted again where needed), and its LUT maps."""

    pieces: Pieces
    arrangement: Arrangement
    maps: AICTOutput
    before: str


def build() -> None:
    """Lay out the tab and connect it."""
    composed = gr.State(time_to_live=LIFETIME)
    small = gr.State(time_to_live=LIFETIME)  # previews of foreground and background
    gr.Markdown("The foreground is a cut-out with transparency, or a photo with a mask (object white).")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            foreground = photo_upload(label="Foreground", elem_id="compose-foreground")
            mask = photo_upload(label="Foreground's mask", elem_id="compose-mask")
            background = photo_upload(label="Background", elem_id="compose-background")
        with gr.Column(scale=3, min_width=320):
            placed = gr.Image(
                label="Click to place it",
                format="jpeg",
                interactive=False,
                buttons=["fullscreen"],
                alt_text="The arrangement: a click puts the foreground's centre there; the sliders do the same",
                elem_id="compose-placed",
            )
            with gr.Row():
                x = gr.Slider(0, 100, 50, step=0.1, label="Across (%)", elem_id="compose-x")
                y = gr.Slider(0, 100, 50, step=0.1, label="Down (%)", elem_id="compose-y")
            with gr.Row():
                size = gr.Slider(2, 200, 50, step=0.5, label="Size (% of the background)")
                rotation = gr.Slider(-180, 180, 0, step=0.5, label="Rotation (degrees)")
                feather = gr.Slider(0, 5, 0, step=0.05, label="Feather (% of the background)")
            with gr.Row():
                flip = gr.Checkbox(label="Mirror")
                clean_edges = gr.Checkbox(label="Clean the colours of soft edges")
            button = gr.Button("Paste and harmonize", variant="primary", elem_id="compose-run")
    slider = gr.ImageSlider(
        label="Pasted | harmonized",
        type="filepath",
        interactive=False,
        max_height=640,
        elem_id="compose-result",
    )
    strength = gr.Slider(0, 100, 100, step=1, label="Strength (%)", elem_id="compose-strength")
    told = gr.Markdown(elem_id="compose-told")
    with gr.Row():
        format = gr.Radio(["PNG", "JPEG"], value="PNG", label="Download as")
        prepare = gr.Button("Make composite, mask and result", elem_id="compose-download")
    files = gr.File(label="Composite, mask and result", file_count="multiple", interactive=False, visible=False)

    pieces = [foreground, mask, background]
    arrangement = [x, y, size, rotation, flip, feather, clean_edges]
    results = [slider, composed, told, files]
    gr.Examples(
        [
            [str(EXAMPLES / "dandelion_cutout.webp"), None, str(EXAMPLES / "hills.jpg"), 26, 72, 48],
            [str(EXAMPLES / "drum_cutout.webp"), None, str(EXAMPLES / "yard.jpg"), 24, 84, 48],
        ],
        inputs=[*pieces, x, y, size],
        fn=run_example,
        outputs=[*results, small, placed],
        run_on_click=True,
        cache_examples=False,
        label="Examples: one click composes",
        api_visibility="private",
    )

    private = {"api_visibility": "private"}
    quick = {"trigger_mode": "always_last", "show_progress": "hidden", **private}
    for piece in pieces:
        piece.input(None, None, [slider, told, files], js="() => [null, '', null]", **private)
        taken = piece.input(take_pieces, pieces, small, trigger_mode="always_last", **private)
        taken.success(place, [small, *arrangement], placed, **quick)
    for control in arrangement:
        control.change(place, [small, *arrangement], placed, **quick)
    placed.select(click, small, [x, y], **quick)
    button.click(run, [*pieces, strength, *arrangement], results, **private)
    strength.change(
        change_strength, [composed, *pieces, strength], [slider, told, files], trigger_mode="always_last", **private
    )
    prepare.click(save, [composed, *pieces, strength, format], files, **private)


@visitors_errors
def take_pieces(foreground: str | None, mask: str | None, background: str | None) -> tuple:
    """Small copies of what there is already, to arrange them quickly."""
    return small_pieces(Pieces(foreground, mask, background))


@visitors_errors
def place(small: tuple | None, *arrangement: Any) -> Image.Image | None:
    """The arrangement in small: the background alone, or the foreground alone, while the other is missing."""
    cut_out, background = small or (None, None)
    if cut_out is None or background is None:
        return background if background is not None else cut_out
    rgb, alpha = np.asarray(cut_out.convert("RGB")), np.asarray(cut_out.getchannel("A"))
    arranged = replace(Arrangement(*arrangement), clean_edges=False)  # too slow while arranging
    return Image.fromarray(paste_arranged(rgb, alpha, np.asarray(background), arranged)[0])


def click(small: tuple | None, event: gr.SelectData) -> tuple:
    """The clicked point as percent of the background."""
    if small is None or small[1] is None:
        return gr.skip(), gr.skip()
    width, height = small[1].size
    return round(100 * event.index[0] / width, 1), round(100 * event.index[1] / height, 1)


@visitors_errors
def run(foreground: str | None, mask: str | None, background: str | None, strength: float, *arrangement: Any) -> tuple:
    """Paste at full size and harmonize: slider, state, what is told, no files yet."""
    pieces, arranged = Pieces(foreground, mask, background), Arrangement(*arrangement)
    started = time.perf_counter()
    composite, alpha = paste_pieces(pieces, arranged)
    pasted = time.perf_counter() - started
    maps = look(composite, mask_of(composite, alpha))
    seen = time.perf_counter() - started - pasted
    composed = Composed(pieces, arranged, maps, shown(composite, "composite"))
    pictures = (composed.before, shown(recolored(composite, alpha, maps, strength / 100), "harmonized"))
    width, height = composite.size
    told = f"{width} x {height} pixels; pasting {pasted:.2f} s, network {seen:.2f} s"
    return pictures, composed, told, gr.File(visible=False)


@visitors_errors
def run_example(foreground: str, mask: None, background: str, x: float, y: float, size: float) -> tuple:
    """An example's result, and its small copies to go on arranging with."""
    arranged = Arrangement(x, y, size)
    small = small_pieces(Pieces(foreground, None, background))
    return (
        *run(foreground, None, background, 100, *asdict(arranged).values()),
        small,
        place(small, *asdict(arranged).values()),
    )


@visitors_errors
def change_strength(
    composed: Composed | None, foreground: str | None, mask: str | None, background: str | None, strength: float
) -> tuple:
    """Another strength, without the network; nothing where the result is of other pieces."""
    if composed is None or composed.pieces != Pieces(foreground, mask, background):
        return gr.skip(), gr.skip(), gr.skip()
    started = time.perf_counter()
    composite, alpha = paste_pieces(composed.pieces, composed.arrangement)
    after = shown(recolored(composite, alpha, composed.maps, strength / 100), "harmonized")
    seconds = time.perf_counter() - started
    told = f"{composite.size[0]} x {composite.size[1]} pixels; network not needed again, {seconds:.2f} s"
    return (composed.before, after), told, gr.File(visible=False)


@visitors_errors
def save(
    composed: Composed | None,
    foreground: str | None,
    mask: str | None,
    background: str | None,
    strength: float,
    format: str,
) -> gr.File:
    """Composite, mask and result as files."""
    if composed is None or composed.pieces != Pieces(foreground, mask, background):
        raise ValueError("There is no result yet: press Paste and harmonize first.")
    composite, alpha = paste_pieces(composed.pieces, composed.arrangement)
    result = recolored(composite, alpha, composed.maps, strength / 100)
    mask_path = new_file("mask.png")
    write_image(mask_path, ImageFile(Image.fromarray(alpha)))
    paths = [save_result(composite, "composite", format), mask_path, save_result(result, "harmonized", format)]
    return gr.File([str(path) for path in paths], visible=True)


def paste_pieces(pieces: Pieces, arrangement: Arrangement) -> tuple[ImageFile, np.ndarray]:
    """The naive composite at the background's size with its profile and EXIF, and its mask."""
    foreground = read_photo(pieces.foreground, "foreground")
    mask = None if pieces.mask is None else read_photo(pieces.mask, "foreground's mask").pixels
    background = read_photo(pieces.background, "background")
    profile = background.rgb_profile
    image, alpha = paste_arranged(in_profile(foreground, profile), mask, background.pixels, arrangement)
    if image.dtype == np.uint8:
        image = Image.fromarray(image)
    return ImageFile(image, profile, background.exif), alpha


def paste_arranged(
    foreground: Any, alpha: Any, background: Any, arrangement: Arrangement
) -> tuple[np.ndarray, np.ndarray]:
    """`paste` with an arrangement's shares turned into pixels.

    Raises:
        ValueError: as `paste`; or if the foreground misses the background.
    """
    width, height = _size(background)
    composite = paste(
        foreground,
        alpha,
        background,
        position=(arrangement.x / 100 * width, arrangement.y / 100 * height),
        scale=arrangement.size / 100 * min(width, height) / max(_size(foreground)),
        rotation=arrangement.rotation,
        flip=arrangement.flip,
        feather=arrangement.feather / 100 * min(width, height),
        decontaminate=arrangement.clean_edges,
    )
    if composite.box is None:
        raise ValueError(
            "The foreground does not show: move it onto the background, make it larger or feather it less."
        )
    return composite.image, composite.mask


def small_pieces(pieces: Pieces) -> tuple[Image.Image | None, Image.Image | None]:
    """Small copies of the cut-out (RGBA) and the background (RGB), of what there is."""
    cut_out = background = None
    if pieces.background is not None:
        background = preview(read_photo(pieces.background, "background"), PREVIEW_SIDE).convert("RGB")
    if pieces.foreground is not None:
        photo = read_photo(pieces.foreground, "foreground")
        cut_out = preview(photo, PREVIEW_SIDE)
        if pieces.mask is not None:
            mask = read_photo(pieces.mask, "foreground's mask")
            if mask.size != photo.size:
                sizes = f"The mask is {mask.size[0]} x {mask.size[1]}, the foreground {photo.size[0]} x {photo.size[1]}"
                raise ValueError(f"{sizes}: they must be of one size.")
            cut_out.putalpha(preview(mask, PREVIEW_SIDE).convert("L"))
        elif cut_out.mode != "RGBA":
            cut_out = None  # its mask is yet to come
    return cut_out, background


def _size(image: Any) -> tuple[int, int]:
    return image.size if isinstance(image, Image.Image) else image.shape[1::-1]
