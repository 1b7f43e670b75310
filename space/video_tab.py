"""The Video tab: a clip and its mask in, the harmonized clip out."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from harmonizer import predict
from uploads import (
    FORMAT_WORDS,
    MAX_FILE_MB,
    MAX_MEGAPIXELS,
    new_file,
    read_photo,
    safe_name,
    uploaded,
    visitors_errors,
    warn,
    without_folders,
    working_folder,
)

from aict_hf.errors import InputError
from aict_hf.files.clips import ClipReader, is_clip
from aict_hf.files.images import write_image
from aict_hf.harmonize.options import VideoOptions
from aict_hf.harmonize.photo_luts import PhotoLUTs
from aict_hf.harmonize.video_files import harmonize_video
from aict_hf.model.opened_photo import OpenedPhoto

MAX_SECONDS = float(os.environ.get("AICT_SPACE_CLIP_SECONDS", "20"))
MAX_FRAMES = int(os.environ.get("AICT_SPACE_CLIP_FRAMES", "600"))
MAX_FRAME_MEGAPIXELS = min(MAX_MEGAPIXELS, 2.1)  # 1920 x 1080


class Frames:
    """The Space's network as `harmonize_video` uses one, which refuses clips of too many frames."""

    def __init__(self) -> None:
        self.count = 0

    def predict_opened(self, photos: Sequence[OpenedPhoto]) -> list[PhotoLUTs]:
        """Predict the LUTs of the next frames."""
        self.count += len(photos)
        if self.count > MAX_FRAMES:
            raise InputError(f"The clip has more than {MAX_FRAMES} frames: shorten it.")
        return [predict(photo) for photo in photos]


def build() -> None:
    """Lay out the tab and connect it."""
    gr.Markdown(
        f"A clip of up to {MAX_SECONDS:g} seconds, {MAX_FRAMES} frames and 1920 x 1080 pixels, with the mask of its "
        "object: a video of the same length, white on black, or one picture if the object does not move. The colours "
        "are steadied over time, so that they do not flicker. Sound and frame times are kept."
    )
    with gr.Row():
        clip = gr.Video(label="Clip", sources=["upload"], height=300, elem_id="video-clip")
        mask = gr.File(label="Mask: a video or a picture", type="filepath", height=300, elem_id="video-mask")
    with gr.Row():
        strength = gr.Slider(0, 100, 100, step=1, label="Strength (%)")
        smoothing = gr.Slider(
            0, 2, VideoOptions.smoothing, step=0.05, label="Smoothing (seconds)", info="0 harmonizes each frame alone."
        )
        invert = gr.Checkbox(label="Fit the background to the object instead")
    button = gr.Button("Harmonize the clip", variant="primary", elem_id="video-run")
    result = gr.Video(label="Harmonized clip", interactive=False, height=400, elem_id="video-result")
    told = gr.Textbox(label="Summary", lines=1, interactive=False, elem_id="video-told")
    button.click(run, [clip, mask, strength, smoothing, invert], [result, told], api_visibility="private")


@visitors_errors
def run(
    clip: Any,
    mask: Any,
    strength: float = 100,
    smoothing: float = VideoOptions.smoothing,
    invert: bool = False,
    progress: gr.Progress = gr.Progress(track_tqdm=True),  # noqa: B008  Gradio's way
) -> tuple[str, str]:
    """Harmonize an uploaded clip: the path of the result, and what is to be said of it.

    Raises:
        ValueError: if the clip or its mask is missing, too large, too long or cannot be read.
    """
    path, mask_path = _checked(clip, "clip"), _checked(mask, "mask")
    if not is_clip(path):
        raise InputError(f"{path.name}: does not have the extension of a video; upload MP4, MOV, MKV or WebM.")
    with ClipReader(path, max_megapixels=MAX_FRAME_MEGAPIXELS) as reader:
        if reader.stated_seconds > MAX_SECONDS:
            raise InputError(f"The clip takes {reader.stated_seconds:.1f} s; at most {MAX_SECONDS:g} s are taken.")
        if reader.frame_count > MAX_FRAMES:
            raise InputError(f"The clip has {reader.frame_count} frames; at most {MAX_FRAMES} are taken.")
    options = VideoOptions(
        smoothing=smoothing, strength=strength / 100, invert_mask=invert, max_megapixels=MAX_FRAME_MEGAPIXELS
    )
    notes: list[str] = []
    output = new_file(safe_name(path.stem) + ".mp4")
    with working_folder() as folder:
        if not is_clip(mask_path):
            still = read_photo(mask_path, f"mask (a video, or {FORMAT_WORDS})")
            mask_path = Path(folder) / "mask.png"
            write_image(mask_path, still)
        done = harmonize_video(path, mask_path, output, Frames(), options, warn=notes.append, progress=True)
    warn("Video", notes)
    cuts = f" {done.cuts} scene {'cut was' if done.cuts == 1 else 'cuts were'} found." if done.cuts else ""
    return str(output), without_folders(f"{done.frames} frames harmonized.{cuts}")


def _checked(file: Any, what: str) -> Path:
    """The path of an upload that is not too large."""
    path = uploaded(file, what)
    if path.stat().st_size > MAX_FILE_MB * 2**20:
        raise InputError(f"The {what} {path}: is larger than {MAX_FILE_MB} MB; shorten it")
    return path
