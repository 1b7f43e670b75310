"""The Compose tab: a cut-out pasted onto a background, naively and harmonized."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from harmonizer import Opened, open_with_mask, predict, recolored, recolored_again, unpacked
from object_finder import INSTALLED, Found, find, in_editor, mask_editor, painted_mask
from PIL import Image
from stage import LEAST_SIZE, MOST_SIZE, READ, SHOW, WRITE, Small, stage_component, stage_value
from uploads import (
    LIFETIME,
    PREVIEWS,
    new_file,
    photo_upload,
    preview,
    read_photo,
    save_result,
    shown,
    uploaded,
    visitors_errors,
    warn,
)

from aict_hf.compose.photos import paste_photo
from aict_hf.errors import InputError, NothingPastedError
from aict_hf.files.images import ImageFile, write_image
from aict_hf.harmonize.files import given_mask_surprises, turn_surprises
from aict_hf.harmonize.photo_luts import LUTMaps
from aict_hf.model.foreground_mask import TURNED, mask_surprises
from aict_hf.model.image_arrays import mask_array, opacity_array, photo_arrays
from aict_hf.model.levels import to_eight_bits

EXAMPLES = Path(__file__).parent / "examples"
PREVIEW_SIDE = 900
MASK = "mask of the cut-out"  # its name in messages


@dataclass(frozen=True)
class Arrangement:
    """The place of the cut-out. Percentages of the background hold for previews too.

    Attributes:
        x, y: the cut-out's centre, percent of the background's width and height.
        size: its longer side, percent of the background's shorter side.
        rotation: degrees, counterclockwise.
        flip: whether it is mirrored left to right.
        feather: width of a soft edge, percent of the background's shorter side.
        clean_edges: whether its own colours are estimated at translucent pixels.
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
    """Uploads of the Compose tab: paths, or None for those that are missing. The mask is the cut-out's."""

    cutout: str | None
    mask: str | None
    background: str | None


@dataclass(frozen=True)
class Composed:
    """A harmonized composite. It is pasted again for another strength, because photos in memory would soon fill it.

    Attributes:
        pieces: the uploads it was made of.
        arrangement: the place of the cut-out.
        maps: the LUT maps on the CPU.
        before: path of the picture shown as "before".
    """

    pieces: Pieces
    arrangement: Arrangement
    maps: LUTMaps
    before: str


def build() -> None:
    """Lay out the tab and connect it."""
    composed = gr.State(time_to_live=LIFETIME)
    small = gr.State(time_to_live=LIFETIME)  # previews of cut-out and background
    pasted = gr.JSON(visible=False)  # the arrangement of the result on the page
    gr.Markdown("The cut-out is a picture with transparency, or a photo with a mask (object white).")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            cutout = photo_upload(label="Cut-out", elem_id="compose-cutout")
            mask = photo_upload(label="Mask of the cut-out", elem_id="compose-mask")
            cutting = gr.Button("Cut it out", visible=INSTALLED, elem_id="compose-cut")
            painting = mask_editor("Correct the mask with brush and eraser", "compose-painting")
            found = gr.State(time_to_live=LIFETIME)  # the mask that the editor showed before it was corrected
            background = photo_upload(label="Background", elem_id="compose-background")
        with gr.Column(scale=3, min_width=320):
            stage = stage_component()
            with gr.Row():
                x = gr.Slider(0, 100, 50, step=0.1, label="Across (%)", elem_id="compose-x")
                y = gr.Slider(0, 100, 50, step=0.1, label="Down (%)", elem_id="compose-y")
            with gr.Row():
                size = gr.Slider(
                    LEAST_SIZE, MOST_SIZE, 50, step=0.5, label="Size (% of the background)", elem_id="compose-size"
                )
                rotation = gr.Slider(-180, 180, 0, step=0.5, label="Rotation (degrees)", elem_id="compose-rotation")
                feather = gr.Slider(0, 5, 0, step=0.05, label="Feather (% of the background)")
            with gr.Row():
                flip = gr.Checkbox(label="Mirror", elem_id="compose-flip")
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

    pieces = [cutout, mask, background]
    arrangement: list[Any] = [x, y, size, rotation, flip, feather, clean_edges]
    results = [slider, composed, told, files]
    gr.Examples(
        [
            [str(EXAMPLES / "dandelion_cutout.webp"), None, str(EXAMPLES / "hills.jpg"), 26, 72, 48],
            [str(EXAMPLES / "drum_cutout.webp"), None, str(EXAMPLES / "yard.jpg"), 24, 84, 48],
        ],
        inputs=[*pieces, x, y, size],
        fn=run_example,
        outputs=[*results, pasted, small, stage, rotation, flip, feather, clean_edges],
        run_on_click=True,
        cache_examples=False,
        label="Examples: one click composes",
        api_visibility="private",
    )

    private: dict[str, Any] = {"api_visibility": "private"}
    hidden: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "hidden", **private}
    quick = {**hidden, "concurrency_id": PREVIEWS}
    for piece in pieces:
        piece.input(None, None, [slider, told, files], js="() => [null, '', null]", **private)
        taken = piece.input(take_pieces, pieces, small, trigger_mode="always_last", **private)
        taken.success(show, [small, size, feather], stage, **quick)
    cut = cutting.click(cut_out, cutout, [mask, painting, found, clean_edges], trigger_mode="once", **private)
    # Not in the same event, because an editor that appears during its own event keeps the sign that it is loading.
    cut.success(lambda: gr.ImageEditor(visible=True), None, painting, **private)
    correcting: dict[str, Any] = {
        "fn": correct,
        "inputs": [cutout, found, painting, mask],
        "outputs": [mask, slider, told, files],
        **private,
    }
    corrected = painting.input(**correcting, trigger_mode="always_last")
    renewed = cutout.input(forget, found, [mask, painting, found], **private)
    cut.success(None, None, [slider, told, files], js="() => [null, '', null]", **private)
    for event in (cut, corrected, renewed):
        event.success(take_pieces, pieces, small, **private).success(show, [small, size, feather], stage, **quick)
    mask.input(lambda: (gr.ImageEditor(visible=False), None), None, [painting, found], **private)
    for control in arrangement:
        control.change(None, arrangement, None, js=WRITE, **private)
    stage.follow(None, arrangement, None, js=WRITE, **private)
    slider.change(None, [slider, pasted], None, js=SHOW, **private)
    # Of the events of one component, each ends before the next begins: the sliders follow before anything is pasted.
    gr.on([stage.input, stage.release], None, None, [x, y, size, rotation], js=READ, **private)
    feather.change(show, [small, size, feather], stage, **quick)
    gr.on([size.release, stage.release], show_softer, [small, size, feather], stage, **quick)
    # A stroke of the moment before counts too.
    ready = gr.on([button.click, stage.release], **correcting, trigger_mode="always_last")
    ran = ready.success(
        run_on_stage,
        [*pieces, strength, *arrangement],
        [*results, pasted],
        trigger_mode="always_last",
        **private,
    )
    ran.success(None, [slider, pasted], None, js=SHOW, **private)  # `change` may come before the arrangement does
    strength.change(
        change_strength, [composed, *pieces, strength], [slider, told, files], trigger_mode="always_last", **private
    )
    prepare.click(save, [composed, *pieces, strength, format], files, **private)


@visitors_errors
def take_pieces(cutout: str | None, mask: str | None, background: str | None) -> tuple:
    """Small copies of the uploads so far, to arrange them quickly."""
    return small_pieces(Pieces(cutout, mask, background))


@visitors_errors
def cut_out(cutout: str | None) -> tuple:
    """The object that rembg finds: its mask, the editor to correct it, the state, and clean edges."""
    photo = read_photo(cutout, "cut-out")
    if opacity_array(photo.pixels) is not None:
        raise ValueError("The cut-out is transparent in places already: paste it as it is.")
    found = find(str(cutout), photo)
    return _mask_file(Image.fromarray(unpacked(found.mask))), in_editor(photo, found), found, True


@visitors_errors
def correct(cutout: str | None, found: Found | None, painting: dict | None, mask: str | None) -> tuple:
    """The found mask as the editor shows it, and no result. Nothing changes if it is the mask of before."""
    if found is None or found.photo != cutout:
        return (gr.skip(),) * 4
    corrected = painted_mask(painting, unpacked(found.mask).shape[::-1], found)
    if mask is not None and np.array_equal(np.asarray(corrected), mask_array(read_photo(mask, MASK).pixels)[0]):
        return (gr.skip(),) * 4  # the editor tells of its own loading too
    return _mask_file(corrected), None, "", gr.File(visible=False)


def forget(found: Found | None) -> tuple:
    """Remove the found mask of an earlier cut-out."""
    return (gr.skip(), gr.skip(), None) if found is None else (None, gr.ImageEditor(visible=False), None)


def _mask_file(mask: Image.Image) -> str:
    path = new_file("found_mask.png")
    write_image(path, ImageFile(mask))
    return str(path)


@visitors_errors
def show(small: tuple | None, size: float, feather: float) -> dict[str, Any]:
    """What the stage shows."""
    cutout, background = small or (None, None)
    return stage_value(cutout, background, size, feather)


@visitors_errors
def show_softer(small: tuple | None, size: float, feather: float) -> Any:
    """The soft edge for another size of the cut-out, if it has one."""
    return show(small, size, feather) if feather else gr.skip()


@visitors_errors
def run(cutout: str | None, mask: str | None, background: str | None, strength: float, *arrangement: Any) -> tuple:
    """Paste at full size and harmonize: the slider, the state, the text, and no files yet."""
    pieces, arranged = Pieces(cutout, mask, background), Arrangement(*arrangement)
    started = time.perf_counter()
    composite, alpha, notes = paste_pieces(pieces, arranged)
    pasted = time.perf_counter() - started
    opened = open_composite(composite, alpha, pieces)
    warn("The cut-out", notes)
    warn("The composite", opened.notes)
    luts = predict(opened.photo)
    seen = time.perf_counter() - started - pasted
    composed = Composed(pieces, arranged, luts.lut_maps, shown(composite, "composite"))
    pictures = (composed.before, shown(recolored(composite, luts, strength / 100), "harmonized"))
    width, height = composite.size
    told = f"{width} x {height} pixels; pasting {pasted:.2f} s, network {seen:.2f} s"
    return pictures, composed, told, gr.File(visible=False)


@visitors_errors
def run_on_stage(*given: Any) -> tuple:
    """What `run` returns, and the arrangement that it is of, by which the stage knows where to show it."""
    return *run(*given), list(given[4:])


@visitors_errors
def run_example(cutout: str, mask: None, background: str, x: float, y: float, size: float) -> tuple:
    """An example's result, its small copies to arrange anew, and the controls that no example sets."""
    arranged = Arrangement(x, y, size)
    small = small_pieces(Pieces(cutout, None, background))
    return (
        *run(cutout, None, background, 100, *asdict(arranged).values()),
        list(asdict(arranged).values()),
        small,
        stage_value(*small, size, arranged.feather),
        *(arranged.rotation, arranged.flip, arranged.feather, arranged.clean_edges),
    )


@visitors_errors
def change_strength(
    composed: Composed | None, cutout: str | None, mask: str | None, background: str | None, strength: float
) -> tuple:
    """Another strength, without the network. Nothing changes if the result on the page is of other uploads."""
    if composed is None or composed.pieces != Pieces(cutout, mask, background):
        return gr.skip(), gr.skip(), gr.skip()
    started = time.perf_counter()
    composite, alpha, _ = paste_pieces(composed.pieces, composed.arrangement)
    after = shown(recolored_again(composite, alpha, composed.maps, strength / 100), "harmonized")
    seconds = time.perf_counter() - started
    told = f"{composite.size[0]} x {composite.size[1]} pixels; network not needed again, {seconds:.2f} s"
    return (composed.before, after), told, gr.File(visible=False)


@visitors_errors
def save(
    composed: Composed | None,
    cutout: str | None,
    mask: str | None,
    background: str | None,
    strength: float,
    format: str,
) -> gr.File:
    """Composite, mask and result as files."""
    if composed is None or composed.pieces != Pieces(cutout, mask, background):
        raise ValueError("There is no result yet: press Paste and harmonize first.")
    composite, alpha, _ = paste_pieces(composed.pieces, composed.arrangement)
    result = recolored_again(composite, alpha, composed.maps, strength / 100)
    paths, notes = save_all(composite, alpha, result, format)
    warn("The results", notes)
    return gr.File([str(path) for path in paths], visible=True)


def save_all(composite: ImageFile, alpha: np.ndarray, result: ImageFile, format: str) -> tuple[list[Path], list[str]]:
    """Encode composite, mask and result.

    Returns:
        their paths, and notes on what composite and result lack of the background's file.
    """
    mask_path = new_file("mask.png")
    write_image(mask_path, ImageFile(Image.fromarray(alpha)))
    composite_path, notes = save_result(composite, "composite", format)
    return [composite_path, mask_path, save_result(result, "harmonized", format)[0]], notes


def paste_pieces(pieces: Pieces, arrangement: Arrangement) -> tuple[ImageFile, np.ndarray, list[str]]:
    """The naive composite at the background's size with its profile and EXIF, its mask, and notes on the given mask.

    Raises:
        ValueError: for the reasons of `read_photo` and `paste_arranged`, or if the mask's size is not the cut-out's.
    """
    cutout = read_photo(pieces.cutout, "cut-out")
    given = None if pieces.mask is None else read_photo(pieces.mask, MASK)
    background = read_photo(pieces.background, "background")
    if given is None:
        return *paste_arranged(cutout, None, background, arrangement), []
    check_sizes(cutout, given)
    composite, alpha = paste_arranged(cutout, given.pixels, background, arrangement)
    notes = given_mask_surprises(given.pixels)
    notes += turn_surprises(uploaded(pieces.cutout, "cut-out"), uploaded(pieces.mask, MASK), cutout.size)
    return composite, alpha, notes


def check_sizes(cutout: ImageFile, mask: ImageFile) -> None:
    """Check that a mask has the size of its cut-out.

    Raises:
        ValueError: with both sizes.
    """
    if mask.size == cutout.size:
        return
    sizes = f"The mask is {mask.size[0]} x {mask.size[1]}, the cut-out {cutout.size[0]} x {cutout.size[1]}"
    if mask.size == cutout.size[::-1]:
        raise ValueError(f"{sizes}: one of them is turned; {TURNED}.")
    raise ValueError(f"{sizes}: they must be of one size.")


def open_composite(composite: ImageFile, alpha: np.ndarray, pieces: Pieces) -> Opened:
    """What was pasted, with notes on the composite. Notes on a mask that was given are those of `paste_pieces`.

    Raises:
        ValueError: if the cut-out leaves nothing of the background.
    """
    if alpha.min() == 255:
        raise ValueError("The cut-out covers the whole background: make it smaller, or move it.")
    opened = open_with_mask(composite, alpha)
    said = [] if pieces.mask is None else mask_surprises(opened.photo.mask)
    return opened._replace(notes=[note for note in opened.notes if note not in said])


def paste_arranged(
    cutout: ImageFile, alpha: Image.Image | np.ndarray | None, background: ImageFile, arrangement: Arrangement
) -> tuple[ImageFile, np.ndarray]:
    """`paste_photo` with an arrangement's percentages turned into pixels.

    Raises:
        ValueError: if nothing of the cut-out shows, or the cut-out or its mask cannot be used.
    """
    width, height = background.size
    shorter = min(width, height)
    try:
        return paste_photo(
            cutout,
            alpha,
            background,
            position=(arrangement.x / 100 * width, arrangement.y / 100 * height),
            scale=arrangement.size / 100 * shorter / max(cutout.size),
            rotation=arrangement.rotation,
            flip=arrangement.flip,
            feather=arrangement.feather / 100 * shorter,
            decontaminate=arrangement.clean_edges,
        )
    except NothingPastedError as error:
        reason = error.reason or "it lies outside the background; move it"
        raise ValueError(f"The cut-out does not show: {reason}.") from error
    except InputError:
        raise
    except ValueError as error:
        raise ValueError(f"The cut-out: {error}") from error


def small_pieces(pieces: Pieces) -> tuple[Small | None, Small | None]:
    """Small copies of the cut-out (RGBA) and the background (RGB); None for what is missing."""
    cutout = background = None
    if pieces.background is not None:
        photo = read_photo(pieces.background, "background")
        pixels = preview(photo, PREVIEW_SIDE).convert("RGB")
        background = Small(pixels, photo.rgb_profile, photo.size)
    if pieces.cutout is not None:
        photo = read_photo(pieces.cutout, "cut-out")
        visible = photo
        if pieces.mask is not None:
            mask = read_photo(pieces.mask, MASK)
            check_sizes(photo, mask)
            # The mask comes before scaling, or the old background would bleed into the edges.
            rgb, alpha = photo_arrays(photo.pixels, mask.pixels)
            layer = np.dstack([*map(to_eight_bits, rgb), to_eight_bits(alpha[0])])
            visible = replace(photo, pixels=Image.fromarray(layer))
        pixels = preview(visible, PREVIEW_SIDE)
        if pixels.mode == "RGBA":  # else its mask is yet to come
            cutout = Small(pixels, photo.rgb_profile, photo.size)
    return cutout, background
