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
import video_tab
from gradio import FileData
from harmonizer import harmonizer, open_uploads, predict, recolored
from uploads import (
    FORMAT_WORDS,
    LIFETIME,
    MAX_FILE_MB,
    MAX_MEGAPIXELS,
    PREVIEWS,
    save_result,
    uploaded,
    visitors_errors,
    without_folders,
)

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
            ("Video", video_tab),
            ("Look inside", inside_tab),
        ):
            with gr.Tab(title):
                tab.build()
        gr.Markdown(
            f"Photos up to {MAX_MEGAPIXELS:g} megapixels and {MAX_FILE_MB} MB, in {FORMAT_WORDS}. Uploads and results "
            f"are deleted after {LIFETIME // 60} minutes. The method is AICT (NeurIPS 2024), computed by "
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
    mask: FileData = None,  # type: ignore[assignment]  # Gradio's MCP takes no addresses for `FileData | None`
    strength: float = 1.0,
    invert_mask: bool = False,
    format: str = "png",
) -> tuple[FileData, list[str]]:
    """Fit the colours of a pasted foreground to its background, at the photo's full resolution.

    Returns the harmonized photo, and notes: signs that the mask is misread, and what the result does not keep.

    Args:
        composite: the photo with a pasted object: JPEG, PNG, WebP, TIFF or similar.
        mask: the foreground mask of the same size, white on black. If left out, the alpha channel is the mask.
        strength: share of the change to apply, 0 to 1.
        invert_mask: fit the background to the foreground instead.
        format: "png" or "jpeg". The composite's ICC profile and EXIF are kept.
    """
    share, save_format = _number("strength", strength, 0, 1), _save_format(format)
    opened = open_uploads(composite, mask, invert=_flag("invert_mask", invert_mask))
    result = recolored(opened.file, predict(opened.photo), share)
    stem = uploaded(composite, "composite").stem
    path, lost = save_result(result, f"{stem}_harmonized", save_format)
    return FileData(path=str(path), orig_name=path.name), _notes(opened.notes, lost)


@visitors_errors
def compose(
    cutout: FileData,
    background: FileData,
    mask: FileData = None,  # type: ignore[assignment]  # Gradio's MCP takes no addresses for `FileData | None`
    x: float = 50.0,
    y: float = 50.0,
    size: float = 50.0,
    rotation: float = 0.0,
    flip: bool = False,
    feather: float = 0.0,
    clean_edges: bool = False,
    strength: float = 1.0,
    format: str = "png",
) -> tuple[FileData, FileData, FileData, list[str]]:
    """Paste a cut-out into a background photo and harmonize it.

    Returns the naive composite, its foreground mask, the harmonized photo, and notes on what the given mask probably
    does not mean and what the results lack.

    Args:
        cutout: a picture with transparency, or a photo with `mask`.
        background: the photo to paste into. The results have its size, ICC profile and EXIF.
        mask: the part of the cut-out to paste, white on black, of the cut-out's size.
        x: the cut-out's centre, percent of the background's width from its left, -100 to 200.
        y: the cut-out's centre, percent of the background's height from its top, -100 to 200.
        size: the cut-out's longer side, percent of the background's shorter side, 0.1 to 1000.
        rotation: degrees, counterclockwise, -360 to 360.
        flip: mirror the cut-out left and right.
        feather: width of a soft edge, percent of the background's shorter side, 0 to 5.
        clean_edges: estimate the colours of soft edges, so that the old background does not show in them.
        strength: share of the harmonization to apply, 0 to 1.
        format: "png" or "jpeg", of the composite and the result.
    """
    ranges = {"x": (x, -100, 200), "y": (y, -100, 200), "size": (size, 0.1, 1000), "feather": (feather, 0, 5)}
    x, y, size, feather = (_number(name, *given) for name, given in ranges.items())
    rotation = _number("rotation", rotation, -360, 360)
    flip, clean_edges = _flag("flip", flip), _flag("clean_edges", clean_edges)
    arrangement = compose_tab.Arrangement(x, y, size, rotation, flip, feather, clean_edges)
    save_format, share = _save_format(format), _number("strength", strength, 0, 1)
    paths = [str(uploaded(file, what)) for file, what in ((cutout, "cut-out"), (background, "background"))]
    mask_path = None if mask is None else str(uploaded(mask, compose_tab.MASK))
    pieces = compose_tab.Pieces(paths[0], mask_path, paths[1])
    composite, alpha, notes = compose_tab.paste_pieces(pieces, arrangement)
    opened = compose_tab.open_composite(composite, alpha, pieces)
    result = recolored(composite, predict(opened.photo), share)
    written, lost = compose_tab.save_all(composite, alpha, result, save_format)
    naive, pasted, harmonized = (FileData(path=str(path), orig_name=path.name) for path in written)
    return naive, pasted, harmonized, _notes(notes, opened.notes, lost)


def _notes(*notes: list[str]) -> list[str]:
    return [without_folders(note) for some in notes for note in some]


def _number(name: str, value: Any, low: float, high: float) -> float:
    """Check a number from the network, where types are not checked."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; expected a number from {low:g} to {high:g}")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return value


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
