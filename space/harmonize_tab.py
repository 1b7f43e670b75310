"""The Harmonize tab: a composite and its mask in, before and after out."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from harmonizer import (
    fit_in_words,
    open_uploads,
    open_with_mask,
    packed,
    predict,
    recolored,
    recolored_again,
    unpacked,
)
from object_finder import INSTALLED, PAINT, Found, find, in_editor, mask_editor, painted_mask
from PIL import Image
from uploads import (
    LIFETIME,
    PREVIEWS,
    photo_upload,
    preview,
    read_photo,
    save_result,
    shown,
    uploaded,
    visitors_errors,
    warn,
)

from aict_hf.files.images import ImageFile
from aict_hf.harmonize.photo_luts import LUTMaps

EXAMPLES = Path(__file__).parent / "examples"
UPLOADED, PAINTED, ALPHA = "Upload a mask", "Paint it", "The photo's transparency"
TINT = np.array(PAINT, np.float32)  # colour of the foreground in the overlay


@dataclass(frozen=True)
class Looked:
    """A photo that went through the network: another strength costs only the LUTs.

    Attributes:
        photo: path of the upload. It is read again, because photos kept in memory would soon fill it.
        mask: the mask as PNG.
        maps: the LUT maps on the CPU.
        before: path of the picture shown as "before".
    """

    photo: str
    mask: bytes
    maps: LUTMaps
    before: str


def build() -> None:
    """Lay out the tab and connect it."""
    looked = gr.State(time_to_live=LIFETIME)
    found = gr.State(time_to_live=LIFETIME)  # the mask that the editor showed before it was corrected
    gr.Markdown("Upload a photo with something pasted into it and say what was pasted. Drag the handle to compare.")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            photo = photo_upload(label="Composite", elem_id="harmonize-composite")
            source = gr.Radio([UPLOADED, PAINTED, ALPHA], value=UPLOADED, label="What was pasted?")
            with gr.Column() as mask_column:
                mask = photo_upload(label="Foreground mask (object white)", elem_id="harmonize-mask")
            painting = mask_editor("Paint the object", "harmonize-painting")
            finding = gr.Button("Find the object", visible=INSTALLED, elem_id="harmonize-find")
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
        outputs=[*results, source, painting, found],
        run_on_click=True,
        cache_examples=False,
        label="Examples: one click harmonizes",
        api_visibility="private",
    )

    private: dict[str, Any] = {"api_visibility": "private"}
    # In the browser, because the server's answer might come after the result of an early press of the button.
    photo.input(None, None, [slider, told, overlay, saved], js="() => [null, '', null, null]", **private)
    photo.input(take_composite, photo, [source, painting, found], trigger_mode="always_last", **private)
    source.change(show_source, source, [mask_column, painting], concurrency_id=PREVIEWS, **private)
    finding.click(find_object, photo, [source, painting, found], trigger_mode="once", **private)
    button.click(run, [photo, source, mask, painting, invert, strength, found], results, **private)
    strength.change(
        change_strength, [looked, photo, strength], [slider, told, saved], trigger_mode="always_last", **private
    )
    prepare.click(save, [looked, photo, strength, format], saved, **private).success(
        None, js="() => setTimeout(() => document.querySelector('#harmonize-saved')?.click(), 300)", **private
    )


@visitors_errors
def take_composite(file: str | None) -> tuple:
    """A new photo: its alpha channel becomes the mask's source if it has one; a small copy is made to paint on."""
    if file is None:
        return gr.skip(), None, None
    small = preview(read_photo(file, "composite"))
    has_alpha = small.mode == "RGBA" and np.asarray(small)[..., 3].min() < 255
    return ALPHA if has_alpha else gr.skip(), small.convert("RGB"), None


@visitors_errors
def find_object(file: str | None) -> tuple:
    """The object that rembg finds, in the editor to be corrected. It may be another one than what was pasted."""
    photo = read_photo(file, "composite")
    found = find(str(file), photo)
    return PAINTED, in_editor(photo, found), found


def show_source(source: str) -> tuple:
    """Show only the input of the chosen source."""
    return gr.update(visible=source == UPLOADED), gr.update(visible=source == PAINTED)


@visitors_errors
def run(
    photo_file: str | None,
    source: str,
    mask_file: str | None,
    painting: dict | None,
    invert: bool,
    strength: float,
    found: Found | None = None,
) -> tuple:
    """Harmonize the photo: the slider, the state, the text, the overlay, and no download yet."""
    if source == PAINTED:
        photo = read_photo(photo_file, "composite")
        found = found if found is not None and found.photo == photo_file else None
        opened = open_with_mask(photo, painted_mask(painting, photo.size, found), invert=invert)
    else:
        if source == UPLOADED and photo_file:
            uploaded(mask_file, "mask")  # otherwise the alpha channel would be taken
        opened = open_uploads(photo_file, mask_file if source == UPLOADED else None, invert=invert)
    warn("The composite", opened.notes)
    photo = opened.file
    started = time.perf_counter()
    luts = predict(opened.photo)
    seen = time.perf_counter() - started
    stem = uploaded(photo_file, "composite").stem
    looked = Looked(str(photo_file), packed(opened.mask), luts.lut_maps, shown(photo, f"{stem}_before"))
    started = time.perf_counter()
    result = recolored(photo, luts, strength / 100)
    colored = time.perf_counter() - started
    times = f"network {seen:.2f} s, colours {colored:.2f} s"
    told = f"{fit_in_words(luts)} {photo.size[0]} x {photo.size[1]} pixels; {times}"
    return (
        (looked.before, shown(result, f"{stem}_harmonized")),
        looked,
        told,
        mask_overlay(photo, opened.mask),
        gr.DownloadButton(visible=False),
    )


@visitors_errors
def run_example(photo_file: str, mask_file: str) -> tuple:
    """An example's result, and the example to paint on."""
    results = run(photo_file, UPLOADED, mask_file, None, False, 100)
    return (*results, UPLOADED, preview(read_photo(photo_file, "composite")), None)


@visitors_errors
def change_strength(looked: Looked | None, photo_file: str | None, strength: float) -> tuple:
    """Another strength, without the network. Nothing changes if the result on the page is another photo's."""
    if looked is None or photo_file != looked.photo:
        return gr.skip(), gr.skip(), gr.skip()
    photo = read_photo(looked.photo, "composite")
    started = time.perf_counter()
    result = recolored_again(photo, unpacked(looked.mask), looked.maps, strength / 100)
    seconds = time.perf_counter() - started
    after = shown(result, f"{Path(looked.photo).stem}_harmonized")
    told = f"{photo.size[0]} x {photo.size[1]} pixels; network not needed again, colours {seconds:.2f} s"
    return (looked.before, after), told, gr.DownloadButton(visible=False)


@visitors_errors
def save(looked: Looked | None, photo_file: str | None, strength: float, format: str) -> gr.DownloadButton:
    """The result as a file of the chosen format."""
    if looked is None or photo_file != looked.photo:
        raise ValueError("There is no result yet: press Harmonize first.")
    photo = read_photo(looked.photo, "composite")
    result = recolored_again(photo, unpacked(looked.mask), looked.maps, strength / 100)
    path, lost = save_result(result, f"{Path(looked.photo).stem}_harmonized", format)
    warn(path.name, lost)
    return gr.DownloadButton(f"Save {path.name} ({path.stat().st_size / 2**20:.1f} MB)", str(path), visible=True)


def mask_overlay(photo: ImageFile, mask: np.ndarray) -> Image.Image:
    """A small copy of the photo with its foreground tinted."""
    small = np.asarray(preview(photo).convert("RGB"), np.float32)
    share = np.asarray(Image.fromarray(mask).resize(small.shape[1::-1]), np.float32)[..., None] / 255 * 0.6
    return Image.fromarray((small * (1 - share) + TINT * share).round().astype(np.uint8))
