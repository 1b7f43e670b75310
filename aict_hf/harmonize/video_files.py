"""Harmonize clips in files: a video, or a folder of numbered frames."""

import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import InputError
from ..files.atomic_write import atomic_file, atomic_folder
from ..files.clips import (
    CLIP_SUFFIXES,
    MAX_CRF,
    OUTPUT_ENCODERS,
    ClipReader,
    ClipWriter,
    Turn,
    check_frame,
    is_clip,
    mask_of,
    recolored,
    rgb_of,
)
from ..files.images import OUTPUT_FORMATS, ImageFile, not_kept, read_image, what_is_lost, write_image
from ..files.photo_folders import check_outside, find_photos
from ..model.opened_photo import OpenedPhoto, open_photo
from .files import given_mask_surprises
from .options import VideoOptions
from .photo_luts import LUTPredictor
from .video import VideoHarmonizer

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

CUT_SHORT = 0.5  # seconds that may lie between the last frame and the end of a clip


@dataclass(frozen=True)
class VideoReport:
    """The outcome of a clip.

    Attributes:
        frames: number of frames that were written.
        cuts: number of scene cuts at which the smoothing began anew.
        without_foreground: number of frames whose mask has no foreground; they are written unchanged.
    """

    frames: int
    cuts: int
    without_foreground: int


def harmonize_video(
    clip: Path,
    masks: Path,
    output: Path,
    harmonizer: LUTPredictor,
    options: VideoOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> VideoReport:
    """Harmonize a video file. Memory does not grow with its length.

    Each frame is harmonized with those before and after it (`VideoHarmonizer.look_ahead`). Sound, frame times, rotation
    and colour tags are kept. The output appears under its name when it is complete.

    Args:
        clip: the video, 8 bits a channel.
        masks: a video or a folder of numbered images with one mask for each frame, or one image for all of them.
        output: the file to write: .mp4, .mov, .m4v or .mkv (H.264), or .webm (VP9).
        harmonizer: the network.
        options: how the clip is treated; the defaults of `VideoOptions` if left out.
        warn: called with one line for each surprise that is not a failure.
        progress: show a progress bar.
    Returns:
        what was written.
    Raises:
        InputError: if a file cannot be read or written, masks and frames differ in size or number, or the clip has more
            than 8 bits, HDR, transparency or interlaced fields.
    """
    options = options or VideoOptions()
    check_clip(clip, masks, output, options)
    video = VideoHarmonizer(harmonizer, smoothing=options.smoothing, strength=options.strength)
    held: deque[tuple[VideoFrame, np.ndarray]] = deque()  # frames whose results are not there yet
    times: deque[float] = deque()
    surprises = _Surprises(masks, warn)
    with ExitStack() as stack:
        reader = stack.enter_context(ClipReader(clip, max_megapixels=options.max_megapixels))
        foregrounds = stack.enter_context(closing(_Masks(masks, options.max_megapixels)))
        foregrounds.check_gaps()
        if foregrounds.count is not None and reader.frame_count not in (0, foregrounds.count):
            warn(f"{masks}: holds {foregrounds.count} masks, {clip} has {reader.frame_count} frames by its header")
        partial = stack.enter_context(atomic_file(output))
        writers: list[ClipWriter] = []  # opened at the first frame
        early: list[Any] = []  # packets of sound before it

        def pass_on(packet: Any) -> None:
            if writers:
                writers[0].copy(packet)
            else:
                early.append(packet)

        turn = Turn(None)

        def opened() -> Iterator[OpenedPhoto]:
            nonlocal turn
            for number, frame in enumerate(reader.frames(pass_on)):
                check_frame(clip, frame)
                if not writers:
                    turn = Turn.of(frame)
                    writers.append(stack.enter_context(ClipWriter(partial, output, reader, frame, crf=options.crf)))
                    for packet in early:
                        writers[0].copy(packet)
                    for note in not_kept(writers[0].not_kept):
                        warn(f"{clip}: {note}")
                pixels = rgb_of(frame, turn)
                photo = _open(pixels, foregrounds.next(number, clip), foregrounds.name(number), options)
                surprises.look_at(photo, foregrounds.last)
                held.append((frame, pixels))
                times.append(reader.seconds(frame))
                yield photo

        done = 0
        with tqdm(total=reader.frame_count or None, unit="frame", disable=not progress) as bar:
            for luts in video.look_ahead_opened(opened(), times=iter(times.popleft, None)):
                frame, pixels = held.popleft()
                writers[0].write(recolored(frame, pixels, luts.apply(strength=options.strength), turn))
                done += 1
                bar.update()
        foregrounds.check_end(done, clip)
        if reader.missing > CUT_SHORT:
            warn(f"{clip}: its frames end {reader.missing:.1f} s before the end it states; is the file complete?")
        if reader.repaired:
            warn(f"{clip}: {reader.repaired} frames without a time of their own were put after the one before")
    surprises.say(done)
    return VideoReport(done, video.cuts, surprises.empty)


def harmonize_frames(
    frames: Path,
    masks: Path,
    output: Path,
    harmonizer: LUTPredictor,
    options: VideoOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> VideoReport:
    """Harmonize a folder of numbered frames as one clip. Memory does not grow with their number.

    The results have the names, formats and metadata of the frames. 16-bit frames stay 16-bit. The folder of results
    appears under its name when it is complete.

    Args:
        frames: the folder. The last number in each name says its place.
        masks: as for `harmonize_video`.
        output: a folder that does not exist or is empty.
        harmonizer, options, warn, progress: as for `harmonize_video`.
    Returns:
        what was written.
    Raises:
        InputError: if a file cannot be read or written, frames have no number or differ in size, or masks and frames
            differ in size or number.
    """
    options = options or VideoOptions()
    if not output.is_dir() and output.suffix.lower() in {*OUTPUT_ENCODERS, *OUTPUT_FORMATS}:
        raise InputError(f"{output}: is the name of a file; a folder of frames becomes a folder, so give its name")
    check_outside(output, frames)
    if masks.is_dir():
        check_outside(output, masks)
    numbered = _numbered(frames, without=(masks, output))
    video = VideoHarmonizer(harmonizer, smoothing=options.smoothing, fps=options.fps, strength=options.strength)
    held: deque[tuple[Path, ImageFile]] = deque()
    surprises = _Surprises(masks, warn)
    lost: dict[str, list[Path]] = {}
    numbers = list(numbered)
    with closing(_Masks(masks, options.max_megapixels)) as foregrounds, atomic_folder(output) as folder:
        foregrounds.check_numbers(numbers, frames)

        def opened() -> Iterator[OpenedPhoto]:
            size: tuple[int, int] | None = None
            for number, path in enumerate(numbered.values()):
                file = read_image(path, max_megapixels=options.max_megapixels)
                if size not in (None, file.size):
                    raise InputError(
                        f"{path}: is {file.size[0]} x {file.size[1]}, the frames before it are {size[0]} x {size[1]}; "
                        "put clips of different sizes into folders of their own"
                    )
                size = file.size
                photo = _open(file.pixels, foregrounds.next(number, frames), foregrounds.name(number), options)
                surprises.look_at(photo, foregrounds.last)
                held.append((path, file))
                yield photo

        done = 0
        times = ((number - numbers[0]) / options.fps for number in numbers)
        with tqdm(total=len(numbered), unit="frame", disable=not progress) as bar:
            for luts in video.look_ahead_opened(opened(), times=times):
                path, file = held.popleft()
                suffix = path.suffix if path.suffix.lower() in OUTPUT_FORMATS else ".png"
                target = folder / f"{path.stem}{suffix}"
                write_image(target, replace(file, pixels=luts.apply(strength=options.strength)))
                for note in not_kept(what_is_lost(target, file)):
                    lost.setdefault(note, []).append(path)
                done += 1
                bar.update()
        foregrounds.check_end(done, frames)
    surprises.say(done)
    for note, paths in lost.items():
        warn(f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {note}")
    return VideoReport(done, video.cuts, surprises.empty)


def check_clip(clip: Path, masks: Path, output: Path, options: VideoOptions) -> None:
    """Check what can be checked before the work starts.

    Args:
        clip, masks, output, options: as for `harmonize_video`.
    Raises:
        InputError: if an input is missing, or the output's format, folder or quality does not fit.
    """
    suffix = output.suffix.lower()
    if suffix not in OUTPUT_ENCODERS:
        raise InputError(
            f"{output}: cannot write {suffix or 'a video without extension'}; use .mp4, .mov, .mkv or .webm"
        )
    if not is_clip(clip):
        raise InputError(
            f"{clip}: does not have the extension of a video; expected one of {', '.join(sorted(CLIP_SUFFIXES))}"
        )
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: no such folder; create it, or choose another output")
    if output.is_dir():
        raise InputError(f"{output}: is a folder; give the name of a file")
    for source in (clip, masks):
        if not source.exists():
            raise InputError(f"{source}: no such file; check the path")
        if output.exists() and source.samefile(output):
            raise InputError(f"{output}: is one of the inputs; choose another output, so that nothing is lost")
    encoder, _ = OUTPUT_ENCODERS[suffix]
    if options.crf is not None and options.crf > MAX_CRF[encoder]:
        raise InputError(f"crf is {options.crf:g}; {encoder} takes 0 (best) to {MAX_CRF[encoder]}")


class _Masks:
    """The masks of a clip, one after the other.

    Attributes:
        count: number of masks in a folder, else None.
        is_still: one image is the mask of all frames.
        last: the mask that `next` returned last.
    """

    def __init__(self, source: Path, max_megapixels: float) -> None:
        self.source, self.max_megapixels = source, max_megapixels
        self.count: int | None = None
        self.last: Image.Image | np.ndarray | None = None
        self._reader: ClipReader | None = None
        self.is_still = False
        self._numbers: list[int] = []
        self._files: list[Path] = []
        if source.is_dir():
            numbered = _numbered(source)
            self._numbers, self._files = list(numbered), list(numbered.values())
            self.count = len(numbered)
            self._found: Iterator[Any] = (self._read(path) for path in self._files)
        elif is_clip(source):
            self._reader = ClipReader(source, max_megapixels=max_megapixels)
            self._found = self._decoded(self._reader)
        else:
            self.is_still = True
            self._found = iter(())
            self.last = self._read(source)

    def next(self, number: int, clip: Path) -> Image.Image | np.ndarray:
        """The mask of a frame."""
        if not self.is_still:
            self.last = next(self._found, None)
        if self.last is None:
            raise InputError(
                f"{self.source}: holds {number} masks, {clip} has more frames; give one mask for each frame, or one "
                "still mask"
            )
        return self.last

    def name(self, number: int) -> str:
        """What errors call the mask of a frame."""
        if self._files:
            return str(self._files[number])
        return str(self.source) if self.is_still else f"{self.source}, frame {number}"

    def check_numbers(self, numbers: list[int], frames: Path) -> None:
        """Check that a folder of masks is numbered as a folder of frames is."""
        own = [number - self._numbers[0] for number in self._numbers]
        if self._files and own != [number - numbers[0] for number in numbers]:
            raise InputError(
                f"{self.source}: its masks are not numbered as the frames in {frames} are ({len(own)} masks, "
                f"{len(numbers)} frames); give one mask for each frame"
            )

    def check_gaps(self) -> None:
        """Check that no number is left out in a folder of masks, whose frames have none."""
        for before, after in pairwise(self._numbers):
            if after != before + 1:
                raise InputError(f"{self.source}: holds no mask {before + 1}; give one mask for each frame")

    def check_end(self, frames: int, clip: Path) -> None:
        """Check that no masks are left."""
        if not self.is_still and next(self._found, None) is not None:
            held = f"{self.count} masks" if self.count is not None else "more masks"
            raise InputError(f"{self.source}: holds {held}, {clip} has {frames} frames; give one mask for each frame")

    def close(self) -> None:
        if self._reader is not None:
            self._reader.__exit__(None, None, None)

    def _read(self, path: Path) -> Image.Image | np.ndarray:
        return read_image(path, max_megapixels=self.max_megapixels).pixels

    def _decoded(self, reader: ClipReader) -> Iterator[np.ndarray]:
        turn: Turn | None = None
        for frame in reader.frames():
            turn = turn or Turn.of(frame)
            yield mask_of(frame, turn)


class _Surprises:
    """The signs that masks are misread, looked for in the first frame with foreground and reported once."""

    def __init__(self, masks: Path, warn: Callable[[str], None]) -> None:
        self.masks, self.warn = masks, warn
        self.empty = 0
        self._seen = False

    def look_at(self, photo: OpenedPhoto, mask: Image.Image | np.ndarray | None) -> None:
        if not photo.mask.any():
            self.empty += 1
        elif not self._seen:
            self._seen = True
            found = dict.fromkeys([*photo.surprises(), *(given_mask_surprises(mask) if mask is not None else [])])
            for surprise in found:
                self.warn(f"{self.masks}: {surprise}")

    def say(self, frames: int) -> None:
        """Say how many frames have no foreground."""
        if self.empty == frames:
            self.warn(f"{self.masks}: the masks have no foreground; all frames are written unchanged")
        elif self.empty:
            self.warn(f"{self.masks}: {self.empty} of {frames} masks have no foreground; these frames stay unchanged")


def _open(pixels: Any, mask: Any, name: str, options: VideoOptions) -> OpenedPhoto:
    try:
        photo = open_photo(pixels, mask)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    return photo.inverted() if options.invert_mask else photo


def _numbered(folder: Path, without: tuple[Path, ...] = ()) -> dict[int, Path]:
    """The images of a folder by the last number in their names, in order."""
    found = find_photos(folder, without=without)
    by_number: dict[int, Path] = {}
    for path in found.files:
        if path.parent != folder:
            continue
        numbers = re.findall(r"\d+", path.stem)
        if not numbers:
            raise InputError(f"{path}: has no number in its name; expected frames such as frame_0001.png")
        number = int(numbers[-1])
        if number in by_number:
            raise InputError(
                f"{path}: has the number {number}, as {by_number[number].name}; put each clip into a folder of its own"
            )
        by_number[number] = path
    if not by_number:
        raise InputError(f"{folder}: holds no images; expected numbered ones such as frame_0001.png")
    return dict(sorted(by_number.items()))


__all__ = ["VideoReport", "check_clip", "harmonize_frames", "harmonize_video"]
