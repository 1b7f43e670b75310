"""The Look inside tab: sampling intervals, LUT curves at a point, and the LUT maps as pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from harmonizer import open_uploads, predict
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F
from uploads import LIFETIME, PREVIEWS, photo_upload, preview, visitors_errors, warn

from aict_hf.harmonize.photo_luts import LUTMaps
from aict_hf.model.lut import apply_luts

EXAMPLES = Path(__file__).parent / "examples"
CHANNELS = {"red": "#d62728", "green": "#2ca02c", "blue": "#1f77b4"}


@dataclass(frozen=True)
class Inside:
    """A small copy of a photo and its LUT maps."""

    small: Image.Image
    maps: LUTMaps


def build() -> None:
    """Lay out the tab and connect it."""
    inside = gr.State(time_to_live=LIFETIME)
    gr.Markdown(
        "The network predicts two look-up tables for each colour channel, at every place of the photo. The first "
        "table spreads the intensities: its nodes follow the *sampling intervals*. The second table recolours them."
    )
    with gr.Row():
        photo = photo_upload(label="Composite", elem_id="inside-composite")
        mask = photo_upload(label="Foreground mask", elem_id="inside-mask")
    button = gr.Button("Look inside", variant="primary", elem_id="inside-run")
    with gr.Row():
        with gr.Column(min_width=320):
            clicked = gr.Image(
                label="Click anywhere",
                format="jpeg",
                interactive=False,
                buttons=["fullscreen"],
                alt_text="The photo with the chosen point: a click chooses another; the sliders do the same",
                elem_id="inside-clicked",
            )
            x = gr.Slider(0, 100, 50, step=0.5, label="Across (%)")
            y = gr.Slider(0, 100, 50, step=0.5, label="Down (%)")
        curves = gr.Plot(show_label=False, elem_id="inside-curves")
    intervals = gr.Plot(show_label=False, elem_id="inside-intervals")
    colors = gr.Plot(show_label=False, elem_id="inside-colors")
    results = [inside, clicked, curves, intervals, colors]
    gr.Examples(
        [
            [str(EXAMPLES / f"{name}.jpg"), str(EXAMPLES / f"{name}_mask.png"), *point]
            for name, point in (("dandelion_on_hills", (26, 60)), ("drum_in_yard", (30, 75)))
        ],
        inputs=[photo, mask, x, y],
        fn=run,
        outputs=results,
        run_on_click=True,
        cache_examples=False,
        label="Examples: one click opens them",
        api_visibility="private",
    )
    private: dict[str, Any] = {"api_visibility": "private"}
    quick = {**private, "concurrency_id": PREVIEWS}
    button.click(run, [photo, mask, x, y], results, **private)
    clicked.select(click, inside, [x, y], **quick)
    for control in (x, y):
        control.change(
            show_point, [inside, x, y], [clicked, curves], trigger_mode="always_last", show_progress="hidden", **quick
        )


@visitors_errors
def run(photo_file: str | None, mask_file: str | None, x: float, y: float) -> tuple:
    """Run the network and draw everything."""
    opened = open_uploads(photo_file, mask_file)
    warn("The composite", opened.notes)
    inside = Inside(preview(opened.file, 900).convert("RGB"), predict(opened.photo).lut_maps)
    intervals = map_pictures(inside.maps.sampling_intervals, "Sampling intervals over the photo")
    colors = map_pictures(inside.maps.color_lut, "Nodes of the colour LUT over the photo")
    return (inside, *show_point(inside, x, y), intervals, colors)


@visitors_errors
def show_point(inside: Inside | None, x: float, y: float) -> tuple:
    """The photo with the point marked, and the curves there."""
    if inside is None:
        return gr.skip(), gr.skip()
    marked = inside.small.copy()
    across, down = x / 100 * marked.width, y / 100 * marked.height
    draw = ImageDraw.Draw(marked)
    for radius, color, width in ((13, "black", 6), (12, "white", 3)):
        draw.ellipse([across - radius, down - radius, across + radius, down + radius], outline=color, width=width)
    knots, color_lut = (maps_at(maps, x / 100, y / 100) for maps in (inside.maps.knots, inside.maps.color_lut))
    return marked, curve_plot(knots, color_lut)


def click(inside: Inside | None, event: gr.SelectData) -> tuple:
    """The clicked point as percent of the photo."""
    if inside is None:
        return gr.skip(), gr.skip()
    return round(200 * event.index[0] / inside.small.width) / 2, round(200 * event.index[1] / inside.small.height) / 2


def maps_at(maps: Tensor, x: float, y: float) -> Tensor:
    """The nodes at one place (0 to 1 across and down) of maps (3, N, h, w): shape (1, 3, N, 1, 1)."""
    place = torch.tensor([[[[2 * x - 1, 2 * y - 1]]]], dtype=maps.dtype)
    return F.grid_sample(maps.flatten(0, 1)[None], place, align_corners=True).unflatten(1, maps.shape[:2])


def curve_plot(knots: Tensor, color_lut: Tensor) -> Figure:
    """Intensity after over intensity before, for each channel. Ticks at the bottom mark the colour LUT's nodes."""
    levels = torch.linspace(0, 1, 256)
    ramp = levels.expand(1, 3, 1, 256).contiguous()
    out = apply_luts(ramp, torch.ones(1, 1, 1, 256), knots, color_lut)[0, :, 0]
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 255], [0, 255], color="0.7", linestyle="--", linewidth=1, label="unchanged")
    # The first LUT maps evenly spaced intensities to the knots, so the intensity that reaches node i of the second is
    # where the knots pass i / (N - 1).
    nodes = np.linspace(0, 1, color_lut.shape[2])
    for channel, (name, color) in enumerate(CHANNELS.items()):
        axes.plot(levels * 255, out[channel].clamp(0, 1) * 255, color=color, label=name)
        curve = knots[0, channel, :, 0, 0].numpy()
        reached = np.interp(nodes, curve, np.linspace(0, 1, len(curve)))
        axes.plot(reached * 255, np.full(len(nodes), -8 - 7 * channel), "|", color=color, markersize=7)
    axes.set(xlabel="intensity in the composite", ylabel="intensity after", xlim=(0, 255), ylim=(-28, 258))
    axes.legend(loc="upper left")
    axes.set_title("What happens to each intensity there\n(strokes below: nodes of the colour LUT)", fontsize=10)
    return figure


def map_pictures(maps: Tensor, title: str) -> Figure:
    """Maps (3, N, h, w) as small pictures, one row for each channel. Each picture has its own scale."""
    channels, count = maps.shape[:2]
    figure = Figure(figsize=(1.3 * count, 1.25 * channels + 0.6), layout="constrained")
    axes = figure.subplots(channels, count, squeeze=False)
    for channel, name in enumerate(CHANNELS):
        for node in range(count):
            picture = maps[channel, node].numpy()
            cell = axes[channel][node]
            cell.imshow(picture, cmap="viridis")
            cell.set_xticks([])
            cell.set_yticks([])
            cell.set_xlabel(f"{picture.min():.2f} to {picture.max():.2f}", fontsize=7, labelpad=2)
        axes[channel][0].set_ylabel(name)
    figure.suptitle(title)
    return figure
