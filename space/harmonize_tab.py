"""The Harmonize tab: a composite and its mask in, before and after out."""

import time
from pathlib import Path

import gradio as gr
import numpy as np
from harmonizer import Looked, fit_in_words, look, mask_of, packed, recolored, unpacked
from PIL import Image
from uploads import (
    LIFETIME,
    photo_upload,
    preview,
    read_photo,
    save_result,
    shown,
    uploaded,
    visitors_errors,
)

from aict_hf.files.images import ImageFile

EXAMPLES = Path(__file__).parent / "examples"
UPLOADED, PAINTED, ALPHA = "Upload a mask", "Paint it", "The photo's transparency"
TINT = np.array([255, 59, 48], np.float32)  # of the foreground in the overlay, and of the brush


def build() -> None:
    """Lay out the tab and connect it."""
    looked = gr.State(time_to_live=LIFETIME)
    gr.Markdown("Upload a photo with something pasted into it and say what was pasted. Drag the handle to compare.")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photo = photo_upload(label="Composite photo", elem_id="harmonize-photo")
            source = gr.Radio([UPLOADED, PAINTED, ALPHA], value=UPLOADED, label="What was pasted?")
            with gr.Column() as mask_column:
                mask = photo_upload(label="Mask (object white)", elem_id="harmonize-mask")
            painting = gr.ImageEditor(
                label="Paint the object",
                type="pil",
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=["#ff3b30"], color_mode="fixed", default_size=40),
                format="png",
                visible=False,
                elem_id="harmonize-painting",
            )
            invert = gr.Checkbox(label="Invert the mask: fit the background to the object instead")
            button = gr.Button("Harmonize", variant="primary", elem_id="harmonize-run")
        with gr.Column(scale=3, min_width=320):
            slider = gr.ImageSlider(
                label="Before | after",
                type="filepath",
                interactive=False,
                max_height=640,
                elem_id="harmonize-result",
            )
            strength = gr.Slider(0, 100, 100, step=1, label="Strength (%)", elem_id="harmonize-strength")
            told = gr.Markdown(elem_id="harmonize-told")
            with gr.Row():
                format = gr.Radio(["PNG", "JPEG"], value="PNG", label="Download as")
                prepare = gr.Button("Download", elem_id="harmonize-download")
            saved = gr.DownloadButton("Save", visible=False, elem_id="harmonize-saved")
            with gr.Accordion("The mask over the photo", open=False):
                overlay = gr.Image(label="Foreground in red", format="jpeg", interactive=False)
    results = [slider, looked, told, overlay, saved]
    gr.Examples(
        [
            [str(EXAMPLES / f"{name}.jpg"), str(EXAMPLES / f"{name}_mask.png")]
            for name in ("dandelion_on_hills", "drum_in_yard")
        ],
        inputs=[photo, mask],
        fn=run_example,
        outputs=[*results, source, painting],
        run_on_click=True,
        cache_examples=False,
        label="Examples: one click harmonizes",
        api_visibility="private",
    )

    private = {"api_visibility": "private"}
    # On the page, at once: an answer of the server's might come after that to an early press of the button.
    photo.input(None, None, [slider, told, overlay, saved], js="() => [null, '', null, null]", **private)
    photo.input(take_photo, photo, [source, painting], trigger_mode="always_last", **private)
    source.change(show_source, source, [mask_column, painting], **private)
    button.click(run, [photo, source, mask, painting, invert, strength], results, **private)
    strength.change(
        change_strength, [looked, photo, strength], [slider, told, saved], trigger_mode="always_last", **private
    )
    prepare.click(save, [looked, photo, strength, format], saved, **private).success(
        None, js="() => setTimeout(() => document.querySelector('#harmonize-saved')?.click(), 300)", **private
    )


@visitors_errors
def take_photo(file: str | None) -> tuple:
    """A new photo: where its mask comes from, if that is plain, and a small copy to paint on."""
    if file is None:
        return gr.skip(), None
    small = preview(read_photo(file))
    has_alpha = small.mode == "RGBA" and small.getextrema()[3][0] < 255
    return ALPHA if has_alpha else gr.skip(), small.convert("RGB")


def show_source(source: str) -> tuple:
    """Only the input that the chosen mask comes from is shown."""
    return gr.update(visible=source == UPLOADED), gr.update(visible=source == PAINTED)


@visitors_errors
def run(
    photo_file: str | None, source: str, mask_file: str | None, painting: dict | None, invert: bool, strength: float
) -> tuple:
    """Look at the photo and recolour it: slider, state, what is told, overlay, no download yet."""
    photo = read_photo(photo_file)
    given = None
    if source == UPLOADED:
        given = read_photo(mask_file, "mask").pixels
    elif source == PAINTED:
        given = painted_mask(painting, photo.size)
    mask = mask_of(photo, given, invert=invert)
    started = time.perf_counter()
    maps = look(photo, mask)
    seen = time.perf_counter() - started
    stem = uploaded(photo_file, "photo").stem
    looked = Looked(str(photo_file), packed(mask), maps, shown(photo, f"{stem}_before"))
    pictures, told = show_result(photo, mask, looked, strength)
    fit = fit_in_words(photo, mask, maps)
    told = f"{fit} {photo.size[0]} x {photo.size[1]} pixels; network {seen:.2f} s, {told}"
    return pictures, looked, told, mask_overlay(photo, mask), gr.DownloadButton(visible=False)


@visitors_errors
def run_example(photo_file: str, mask_file: str) -> tuple:
    """An example's result, and the example in the brush."""
    results = run(photo_file, UPLOADED, mask_file, None, False, 100)
    return (*results, UPLOADED, preview(read_photo(photo_file)))


@visitors_errors
def change_strength(looked: Looked | None, photo_file: str | None, strength: float) -> tuple:
    """Another strength, without the network; nothing where the result is another photo's."""
    if looked is None or photo_file != looked.photo:
        return gr.skip(), gr.skip(), gr.skip()
    photo = read_photo(looked.photo)
    pictures, told = show_result(photo, unpacked(looked.mask), looked, strength)
    told = f"{photo.size[0]} x {photo.size[1]} pixels; network not needed again, {told}"
    return pictures, told, gr.DownloadButton(visible=False)


@visitors_errors
def save(looked: Looked | None, photo_file: str | None, strength: float, format: str) -> gr.DownloadButton:
    """The result as a file of the format asked for."""
    if looked is None or photo_file != looked.photo:
        raise ValueError("There is no result yet: press Harmonize first.")
    photo = read_photo(looked.photo)
    result = recolored(photo, unpacked(looked.mask), looked.maps, strength / 100)
    path = save_result(result, f"{Path(looked.photo).stem}_harmonized", format)
    return gr.DownloadButton(f"Save {path.name} ({path.stat().st_size / 2**20:.1f} MB)", str(path), visible=True)


def show_result(photo: ImageFile, mask: np.ndarray, looked: Looked, strength: float) -> tuple[tuple[str, str], str]:
    """Before and after as files, and how long the colours took."""
    started = time.perf_counter()
    result = recolored(photo, mask, looked.maps, strength / 100)
    seconds = time.perf_counter() - started
    after = shown(result, f"{Path(looked.photo).stem}_harmonized")
    return (looked.before, after), f"colours {seconds:.2f} s"


def painted_mask(painting: dict | None, size: tuple[int, int]) -> Image.Image:
    """What was painted, scaled from the preview to the photo's width and height.

    Raises:
        ValueError: if nothing was.
    """
    layers = (painting or {}).get("layers") or []
    alphas = [np.asarray(layer.convert("RGBA"))[..., 3] for layer in layers]
    if not alphas or not np.max(alphas):
        raise ValueError("Nothing is painted yet: paint over the pasted object, or upload its mask.")
    return Image.fromarray(np.max(alphas, axis=0)).resize(size, Image.Resampling.BILINEAR)


def mask_overlay(photo: ImageFile, mask: np.ndarray) -> Image.Image:
    """A small copy of the photo with its foreground tinted."""
    small = np.asarray(preview(photo).convert("RGB"), np.float32)
    share = np.asarray(Image.fromarray(mask).resize(small.shape[1::-1]), np.float32)[..., None] / 255 * 0.6
    return Image.fromarray((small * (1 - share) + TINT * share).round().astype(np.uint8))
