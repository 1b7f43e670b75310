"""The AICT Space: paste, brush, harmonize, compare.

    python space/app.py          # on http://127.0.0.1:7860
    python space/app.py --mcp    # serves its API as MCP tools too

README.md lists the environment variables.
"""

import argparse
import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any

import batch_tab
import compose_tab
import gradio as gr
import harmonize_tab
import inside_tab
from gradio import FileData
from harmonizer import harmonizer, open_with_mask, predict, recolored
from PIL import Image
from uploads import (
    LIFETIME,
    MAX_FILE_MB,
    MAX_MEGAPIXELS,
    PREVIEWS,
    new_file,
    read_photo,
    save_result,
    uploaded,
    visitors_errors,
)

from aict_hf.files.images import ImageFile, write_image

SPACE = Path(__file__).parent
JOBS = int(os.environ.get("AICT_SPACE_JOBS", "2"))
QUEUE = int(os.environ.get("AICT_SPACE_QUEUE", "24"))
SAVE_FORMATS = {"png": "PNG", "jpeg": "JPEG"}
CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: 0 auto !important; }
#about { font-size: 0.95em; }
"""


def build() -> gr.Blocks:
    """The page and its API."""
    with gr.Blocks(title="AICT image harmonization", delete_cache=(600, LIFETIME), analytics_enabled=False) as page:
        gr.Markdown(
            "# Make a pasted object look as if it belongs\n"
            "Upload a composite photo and a mask of the pasted object. The object's colours are fitted to the rest of "
            "the photo, at full resolution. Pixels outside the mask do not change."
        )
        for title, tab in (
            ("Harmonize", harmonize_tab),
            ("Compose", compose_tab),
            ("Batch", batch_tab),
            ("Look inside", inside_tab),
        ):
            with gr.Tab(title):
                tab.build()
        gr.Markdown(
            f"Photos up to {MAX_MEGAPIXELS:g} megapixels and {MAX_FILE_MB} MB, in JPEG, PNG, WebP or TIFF. Uploads and "
            f"results are deleted after {LIFETIME // 60} minutes. The method is AICT (NeurIPS 2024), computed by "
            "aict_hf. Results are not always right: compare before and after, and lower the strength if needed.",
            elem_id="about",
        )
        gr.api(harmonize, api_name="harmonize")
        gr.api(compose, api_name="compose")
    # All slow events share one limit: JOBS of them run at once, and the page shows the queue of the others. The limit
    # is set here because gr.Examples has no argument for it.
    for event in page.fns.values():
        event.concurrency_limit = JOBS
        if event.concurrency_id != PREVIEWS:
            event.concurrency_id = "photos"
    return page.queue(max_size=QUEUE, api_open=False)  # an open API would bypass the queue


@visitors_errors
def harmonize(
    composite: FileData,
    mask: FileData | None = None,
    strength: float = 1.0,
    invert_mask: bool = False,
    format: str = "png",
) -> FileData:
    """Fit the colours of a pasted foreground to its background, at the photo's full resolution.

    Args:
        composite: the photo with a pasted object: JPEG, PNG, WebP or TIFF.
        mask: the pasted object, white on black, of the same size. If left out, the alpha channel is the mask.
        strength: share of the change to apply, 0 to 1.
        invert_mask: fit the background to the foreground instead.
        format: "png" or "jpeg". The composite's ICC profile and EXIF are kept.
    """
    photo = read_photo(composite, "composite")
    given = None if mask is None else read_photo(mask, "mask").pixels
    opened, _ = open_with_mask(photo, given, invert=invert_mask)
    share, save_format = _number("strength", strength, 0, 1), _save_format(format)
    result = recolored(photo, predict(opened), share)
    path = save_result(result, f"{uploaded(composite, 'composite').stem}_harmonized", save_format)
    return FileData(path=str(path), orig_name=path.name)


@visitors_errors
def compose(
    foreground: FileData,
    background: FileData,
    foreground_mask: FileData | None = None,
    x: float = 50.0,
    y: float = 50.0,
    size: float = 50.0,
    rotation: float = 0.0,
    flip: bool = False,
    feather: float = 0.0,
    clean_edges: bool = False,
    strength: float = 1.0,
    format: str = "png",
) -> tuple[FileData, FileData, FileData]:
    """Paste a foreground onto a background and harmonize it. Returns the naive composite, its mask and the result.

    Args:
        foreground: a cut-out with transparency, or a photo with `foreground_mask`.
        background: the photo to paste onto. The results have its size, ICC profile and EXIF.
        foreground_mask: the part of the foreground to paste, white on black, of the foreground's size.
        x: the foreground's centre, percent of the background's width from its left, -100 to 200.
        y: the foreground's centre, percent of the background's height from its top, -100 to 200.
        size: the foreground's longer side, percent of the background's shorter side, 0.1 to 1000.
        rotation: degrees, counterclockwise, -360 to 360.
        flip: mirror the foreground left and right.
        feather: width of a soft edge, percent of the background's shorter side, 0 to 5.
        clean_edges: estimate the colours of soft edges, so that the old background does not show in them.
        strength: share of the harmonization to apply, 0 to 1.
        format: "png" or "jpeg", of the composite and the result.
    """
    ranges = {"x": (x, -100, 200), "y": (y, -100, 200), "size": (size, 0.1, 1000), "feather": (feather, 0, 5)}
    x, y, size, feather = (_number(name, *given) for name, given in ranges.items())
    rotation = _number("rotation", rotation, -360, 360)
    arrangement = compose_tab.Arrangement(x, y, size, rotation, bool(flip), feather, bool(clean_edges))
    paths = [str(uploaded(file, what)) for file, what in ((foreground, "foreground"), (background, "background"))]
    mask = None if foreground_mask is None else str(uploaded(foreground_mask, "mask"))
    save_format, share = _save_format(format), _number("strength", strength, 0, 1)
    composite, alpha = compose_tab.paste_pieces(compose_tab.Pieces(paths[0], mask, paths[1]), arrangement)
    result = recolored(composite, predict(open_with_mask(composite, alpha)[0]), share)
    mask_path = new_file("mask.png")
    write_image(mask_path, ImageFile(Image.fromarray(alpha)))
    written = [
        save_result(composite, "composite", save_format),
        mask_path,
        save_result(result, "harmonized", save_format),
    ]
    naive, pasted, harmonized = (FileData(path=str(path), orig_name=path.name) for path in written)
    return naive, pasted, harmonized


def _number(name: str, value: Any, low: float, high: float) -> float:
    """Check a number from the network, where types are not checked."""
    if not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected a number from {low:g} to {high:g}")
    return float(value)


def _save_format(name: Any) -> str:
    if not isinstance(name, str) or name.lower() not in SAVE_FORMATS:
        raise ValueError(f"format is {name!r}; expected png or jpeg")
    return SAVE_FORMATS[name.lower()]


def theme() -> gr.themes.Base:
    """Gradio's Soft theme with the contrast of WCAG AA."""
    return gr.themes.Soft(primary_hue="teal", neutral_hue="slate").set(
        block_label_text_color="*primary_800",
        block_label_text_color_dark="*primary_100",
        block_label_background_fill_dark="*primary_900",
        block_title_text_color="*primary_800",
        block_title_text_color_dark="*primary_100",
        block_title_background_fill_dark="*primary_900",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        color_accent="*primary_700",
        link_text_color="*primary_700",
        link_text_color_hover="*primary_800",
        link_text_color_active="*primary_800",
        link_text_color_visited="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_active_dark="*primary_200",
        link_text_color_visited_dark="*primary_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


def launch_options() -> dict[str, Any]:
    """Arguments of `launch`, without the address."""
    return {
        "state_session_capacity": 200,  # visitors whose LUT maps and previews are kept; some MB for each
        "max_file_size": f"{MAX_FILE_MB}mb",
        "allowed_paths": [str(SPACE / "examples")],
        "show_error": False,  # visitors see only messages that are meant for them
        "css": CSS,
        "head": f"<script>{(SPACE / 'accessible.js').read_text()}</script>",
        "theme": theme(),
        "footer_links": ["api"],
    }


def give_memory_back() -> None:
    """Return freed memory of photos to the system. By default, glibc keeps much of it for each thread."""
    with contextlib.suppress(OSError, AttributeError):  # for other C libraries
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-8, 2), (-3, 4 * 2**20)):  # M_ARENA_MAX; M_MMAP_THRESHOLD in bytes, in malloc.h
            libc.mallopt(option, value)


def main() -> None:
    """Load the checkpoint, so that a wrong one is an error at the start, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mcp", action="store_true", help="also serve the API as MCP tools (or set GRADIO_MCP_SERVER=True)"
    )
    arguments = parser.parse_args()
    give_memory_back()
    harmonizer()
    build().launch(mcp_server=arguments.mcp or None, **launch_options())


if __name__ == "__main__":
    main()
