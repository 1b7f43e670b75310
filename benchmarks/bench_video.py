"""Flicker and error of harmonized clips whose truth is known, and frames per second of a whole clip.

    python benchmarks/bench_video.py --photos PHOTOS [--plot flicker.png] [--table table.md]

Makes clips from still photos with masks: the camera pans, it zooms, the foreground moves, the mask trembles. The
foreground is recoloured in the same way in all frames, so that the photo itself is the truth. Noise of two levels is
added to composite and truth alike. The error is the fMSE against the truth. Flicker is how much the difference to the
truth changes between neighbouring frames, in levels, in the foreground's own coordinates: it is 0 if the result changes
only as the truth does. Differences are averaged over 15 x 15 pixels, because noise is not flicker, and taken where both
masks are full, because a trembling mask shows in all ways alike.

Then one clip of 1920 x 1080 is read, harmonized and written, and compared with reading and writing alone.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from measuring import device_line, save_table

from aict_hf import Harmonizer
from aict_hf.files.clips import ClipReader, ClipWriter
from aict_hf.harmonize.options import VideoOptions
from aict_hf.harmonize.video import VideoHarmonizer
from aict_hf.harmonize.video_files import harmonize_video
from aict_hf.model.opened_photo import open_photo

SCENES = ("pan", "zoom", "moving foreground", "trembling mask")
NOISE = 2.0  # levels
BLOCK = 15  # pixels a side, over which the error is averaged: noise is not flicker

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--photos", type=Path, required=True, help="folder with metadata.csv, images and masks")
parser.add_argument("--count", type=int, default=8, help="photos")
parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
parser.add_argument("--fps", type=float, default=25.0)
parser.add_argument("--height", type=int, default=480, help="of the frames, whose width is 16/9 of it")
parser.add_argument("--smoothing", type=float, nargs="+", default=[VideoOptions.smoothing], help="seconds")
parser.add_argument("--speed_frames", type=int, default=60, help="frames of the clip of 1920 x 1080; 0 leaves it out")
parser.add_argument("--plot", type=Path, help="draw the flicker over time")
parser.add_argument("--table", type=Path, help="write the tables to this file too")
arguments = parser.parse_args()
if not (arguments.photos / "metadata.csv").is_file():
    raise SystemExit(f"{arguments.photos}: holds no metadata.csv; this benchmark needs photos with masks")
HEIGHT, WIDTH = arguments.height, round(arguments.height * 16 / 9 / 2) * 2


@dataclass
class Frame:
    """One frame: the composite, the mask that the harmonizer gets, the truth and its foreground.

    Attributes:
        composite, truth: uint8, shape (H, W, 3).
        mask: uint8, shape (H, W), as given to the harmonizer.
        foreground: uint8, shape (H, W): what was recoloured.
        place: 2 x 3, from the foreground's own coordinates to the frame.
    """

    composite: np.ndarray
    truth: np.ndarray
    mask: np.ndarray
    foreground: np.ndarray
    place: np.ndarray


def make_clip(scene: str, photo: np.ndarray, mask: np.ndarray, seed: int, count: int) -> Iterator[Frame]:
    """Frames of a clip made from one photo, all with the same seed the same."""
    random = np.random.default_rng(seed)
    gains, gamma = random.uniform(0.7, 1.3, 3), random.uniform(0.7, 1.4)
    recolored = np.clip((photo / 255.0) ** gamma * gains, 0, 1) * 255
    rows, columns = np.nonzero(mask > 127)
    middle = np.array([columns.mean(), rows.mean()])
    scale = max(WIDTH / photo.shape[1], HEIGHT / photo.shape[0])  # fills the frame
    room = np.array([photo.shape[1], photo.shape[0]]) * scale - (WIDTH, HEIGHT)
    hole = cv2.dilate(mask, np.ones((15, 15), np.uint8)) > 10
    empty = photo
    if scene == "moving foreground":
        small = cv2.resize(photo, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small_hole = cv2.resize(hole.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        filled = cv2.inpaint(small, small_hole, 5, cv2.INPAINT_TELEA)
        empty = np.where(hole[..., None], cv2.resize(filled, photo.shape[1::-1]), photo)
    for number in range(count):
        at = number / max(1, count - 1)
        shake = random.normal(0, 0.7, 2)
        zoom = scale * (1.25 if scene in ("pan", "moving foreground") else 1 + 0.4 * at if scene == "zoom" else 1.1)
        center = middle * zoom
        if scene == "pan":
            center = center + (np.array([0.35, 0.12]) * (at - 0.5)) * (WIDTH, HEIGHT)
        corner = np.clip(center - np.array([WIDTH, HEIGHT]) / 2 + shake, 0, room * zoom / scale)
        if scene == "zoom":
            corner = np.clip(corner, 0, np.maximum(np.array(photo.shape[1::-1]) * zoom - (WIDTH, HEIGHT), 0))
        view = np.array([[zoom, 0, -corner[0]], [0, zoom, -corner[1]]])
        place = view.copy()
        if scene == "moving foreground":
            place[:, 2] += np.array([0.25 * np.sin(2 * np.pi * at), 0.08 * np.sin(4 * np.pi * at)]) * (WIDTH, HEIGHT)
        noise = random.normal(0, NOISE, (HEIGHT, WIDTH, 3))

        def seen(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
            border = cv2.BORDER_REFLECT if picture.ndim == 3 else cv2.BORDER_CONSTANT
            return cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=border)

        alpha = seen(mask, place)[..., None] / 255.0
        around = seen(empty, view)
        truth = alpha * seen(photo, place) + (1 - alpha) * around
        composite = alpha * seen(recolored.astype(np.float32), place) + (1 - alpha) * around
        foreground = (alpha[..., 0] * 255).round().astype(np.uint8)
        given = foreground
        if scene == "trembling mask":
            side = 2 * int(random.integers(1, max(2, HEIGHT // 60))) + 1
            edge = np.ones((side, side), np.uint8)
            given = cv2.dilate(foreground, edge) if random.random() < 0.5 else cv2.erode(foreground, edge)
            spot = random.uniform(0, 1, 2) * (WIDTH, HEIGHT)
            cv2.circle(given, tuple(map(int, spot)), HEIGHT // 12, 0, -1)
        rounded = [np.clip(values + noise, 0, 255).round().astype(np.uint8) for values in (composite, truth)]
        yield Frame(*rounded, given, foreground, place)


class Recorded:
    """A harmonizer that predicts each clip once, so that all ways of smoothing see the same maps."""

    def __init__(self, luts: list) -> None:
        self.luts = iter(luts)

    def predict_opened(self, photos: list) -> list:
        return [next(self.luts) for _ in photos]


def errors_of(results: Iterator, frames: list[Frame], canvas: tuple[int, int]) -> tuple[float, list[float]]:
    """fMSE, and for each frame but the first the mean change of the error, in levels."""
    squares, areas, changes = 0.0, 0.0, []
    earlier: tuple[np.ndarray, np.ndarray] | None = None
    for result, frame in zip(results, frames, strict=True):
        error = result.astype(np.float32) - frame.truth
        inside = frame.foreground > 127
        squares += float((error[inside] ** 2).sum() / 3)
        areas += inside.sum()
        recolored = (np.minimum(frame.mask, frame.foreground) > 250).astype(np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        weight = cv2.warpAffine(recolored, frame.place, canvas, flags=flags)
        own = cv2.warpAffine(error * recolored[..., None], frame.place, canvas, flags=flags)
        weight, own = cv2.blur(weight, (BLOCK, BLOCK)), cv2.blur(own, (BLOCK, BLOCK))
        own /= np.maximum(weight, 0.5)[..., None]
        if earlier is not None:
            both = (weight > 0.5) & (earlier[1] > 0.5)
            changes.append(float(np.abs(own - earlier[0])[both].mean()) if both.any() else 0.0)
        earlier = own, weight
    return squares / areas, changes


harmonizer = Harmonizer.from_pretrained()
ways: list[tuple[str, float]] = [("frame by frame", 0.0)]
ways += [(name, seconds) for seconds in arguments.smoothing for name in ("causal", "looking ahead")]
figures: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
over_time: dict[str, list[float]] = {}
with (arguments.photos / "metadata.csv").open(newline="", encoding="utf-8") as stream:
    rows = [row for row in csv.DictReader(stream) if row["mask"] and float(row["mask_area"]) > 0.01][: arguments.count]
if not rows:
    raise SystemExit(f"{arguments.photos}: lists no photo with a mask")
for index, row in enumerate(rows):
    photo = cv2.imread(str(arguments.photos / row["file_name"]))[..., ::-1]
    mask = cv2.imread(str(arguments.photos / row["mask"]), cv2.IMREAD_GRAYSCALE)
    shrink = 1.25 * max(WIDTH / photo.shape[1], HEIGHT / photo.shape[0])
    if shrink < 1:
        size = round(photo.shape[1] * shrink), round(photo.shape[0] * shrink)
        photo, mask = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (photo, mask))
    for scene in SCENES:
        frames = list(make_clip(scene, photo, mask, index, arguments.frames))
        canvas = photo.shape[1::-1]
        predicted = [harmonizer.predict_opened([open_photo(frame.composite, frame.mask)])[0] for frame in frames]
        for name, seconds in ways:
            video = VideoHarmonizer(Recorded(predicted), smoothing=seconds, fps=arguments.fps)
            photos = [luts.photo for luts in predicted]
            if name == "looking ahead":
                results = (luts.apply() for luts in video.look_ahead_opened(photos))
            else:
                results = (video.predict_opened(photo).apply() for photo in photos)
            error, changes = errors_of(results, frames, canvas)
            figures.setdefault((scene, name, seconds), []).append((error, float(np.mean(changes))))
            if video.cuts:
                print(f"{row['file_name']}, {scene}: {video.cuts} cuts where there is none")
            if index == 0 and seconds in (0.0, arguments.smoothing[0]):
                over_time[f"{scene}: {name}"] = changes

header = ["clip", "way", "smoothing", "fMSE", "of frame by frame", "flicker", "of frame by frame"]
lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
for scene in (*SCENES, "all"):
    base: np.ndarray | None = None
    for name, seconds in ways:
        found = [
            pair
            for (of, way, at), pairs in figures.items()
            if (way, at) == (name, seconds) and scene in (of, "all")
            for pair in pairs
        ]
        mean = np.mean(found, axis=0)
        base = mean if base is None else base
        error, change = mean / base
        lines.append(
            f"| {scene} | {name} | {f'{seconds:g} s' if seconds else ''} | {mean[0]:.1f} | {error:.1%} "
            f"| {mean[1]:.3f} | {change:.1%} |"
        )
clips = (
    f"{len(rows)} photos, {arguments.frames} frames of {WIDTH} x {HEIGHT} at {arguments.fps:g} a second for each clip."
)


def speed() -> list[str]:
    """Frames per second of a clip of 1920 x 1080 with one still mask, and of its parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = cv2.resize(photo, (2100, 1080))
        still = cv2.resize(mask, (2100, 1080))[:, :1920]
        cv2.imwrite(str(folder / "mask.png"), still)
        with av.open(str(folder / "clip.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
            stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
            for number in range(arguments.speed_frames):
                left = number % 180
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, left : left + 1920]), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

        def read() -> None:
            with ClipReader(folder / "clip.mp4", max_megapixels=100) as reader:
                for _ in reader.frames():
                    pass

        def copy() -> None:
            with ClipReader(folder / "clip.mp4", max_megapixels=100) as reader:
                frames = reader.frames()
                first = next(frames)
                output = folder / "copy.mp4"
                with ClipWriter(output, output, reader, first, crf=None) as writer:
                    writer.write(first)
                    for frame in frames:
                        writer.write(frame)

        def harmonize() -> None:
            harmonize_video(folder / "clip.mp4", folder / "mask.png", folder / "out.mp4", harmonizer)

        rates = []
        for run in (read, copy, harmonize):
            start = time.perf_counter()
            run()
            rates.append(arguments.speed_frames / (time.perf_counter() - start))
    share = float((still > 0).mean())
    return [
        "",
        f"One clip of {arguments.speed_frames} frames, 1920 x 1080, H.264, {share:.0%} foreground, frames per second:",
        "",
        "| reading | reading and writing | reading, harmonizing and writing |",
        "|---|---|---|",
        "| " + " | ".join(f"{rate:.1f}" for rate in rates) + " |",
    ]


table = "\n".join(
    [f"{device_line(torch.device('cpu'))}. {clips}", "", *lines, *(speed() if arguments.speed_frames else [])]
)
save_table(table, arguments.table)
if arguments.plot:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SCENES), 1, figsize=(8, 9), sharex=True, constrained_layout=True)
    for axis, scene in zip(axes, SCENES, strict=True):
        for name in ("frame by frame", "causal", "looking ahead"):
            axis.plot(range(1, arguments.frames), over_time[f"{scene}: {name}"], label=name, linewidth=1.2)
        axis.set_title(f"{scene} ({rows[0]['file_name']})", fontsize=9)
        axis.set_ylabel("flicker, levels")
        axis.set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("frame")
    figure.savefig(arguments.plot, dpi=120)
