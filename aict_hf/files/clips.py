"""Read and write video files frame by frame with PyAV (an extra: `aict_hf[video]`)."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, one_line
from .images import check_pixel_count

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# Encoder and its default crf by the suffix of the output.
_H264 = ("libx264", 18.0)
OUTPUT_ENCODERS = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), _H264),
    ".webm": ("libvpx-vp9", 24.0),
}
CLIP_SUFFIXES = frozenset(OUTPUT_ENCODERS) | {
    *(".avi", ".flv", ".wmv", ".3gp", ".ogv"),
    *(".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".mxf"),
}
MAX_CRF = {"libx264": 51, "libvpx-vp9": 63}
NEAR_BLACK = 10  # levels; masks that were compressed with loss have such noise in what was black or white
HD_HEIGHT = 720  # frames this high without a tag are in the colours of BT.709, lower ones in those of BT.601

# Numbers of ITU-T H.273, as files store them.
_BT709, _UNSPECIFIED, _BT601 = 1, 2, 5
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # to those that swscale calls by the same number
_HDR = {16: "PQ", 18: "HLG"}
_LIMITED, _FULL = 1, 2
_PLANAR = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}  # chroma sampling, across and down
_STORED_AS = {  # where the encoders take no such pixels
    **{f"yuvj{kind}p": f"yuv{kind}p" for kind in ("420", "422", "444")},
    **dict.fromkeys(("nv12", "nv21", "gray", "yuv410p", "yuv440p", "yuvj440p"), "yuv420p"),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422", "yuv411p", "yuvj411p"), "yuv422p"),
}
# Playlists and the like, whatever their names, would make ffmpeg read other files and addresses.
_ALONE = {
    "format_whitelist": "mov,matroska,webm,avi,flv,asf,ogg,mpeg,mpegvideo,mpegts,mxf",
    "protocol_whitelist": "file",
}
# What containers and encoders write about themselves.
_OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "rotate")
_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS")


def is_clip(path: Path) -> bool:
    """Whether a file is a video by its suffix.

    Examples:
        >>> is_clip(Path("holiday.MOV")), is_clip(Path("holiday.jpg"))
        (True, False)
    """
    return path.suffix.lower() in CLIP_SUFFIXES


class ClipReader:
    """The frames of a video file, and what the file says about them. A context manager.

    Args:
        path: the file.
        max_megapixels: refuse larger frames.
    Raises:
        InputError: if PyAV is not installed, or the file is missing, damaged, of an unknown codec or without video.
    """

    def __init__(self, path: Path, *, max_megapixels: float) -> None:
        self.path = path
        library = _library(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file; check the path")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty; expected a video")
        with _decoding(path):
            self.container = library.open(str(path), metadata_errors="replace", container_options=_ALONE)
        try:
            pictures = library.stream.Disposition.attached_pic
            streams = [one for one in self.container.streams.video if not one.disposition & pictures]
            if not streams:
                raise InputError(f"{path}: holds no video; give a clip")
            self.stream = next(
                (one for one in streams if one.disposition & library.stream.Disposition.default), streams[0]
            )
            if self.stream.codec_context is None:
                raise InputError(
                    f"{path}: its video is of a codec that this PyAV cannot decode; convert it to H.264 or VP9"
                )
            if self.stream.metadata.get("alpha_mode") == "1":  # WebM keeps it beside the video, where it is not decoded
                raise InputError(f"{path}: has transparency, which is not kept; export it without")
            self.stream.thread_type = "AUTO"
            check_pixel_count(path, self.stream.width, self.stream.height, max_megapixels)
        except BaseException:
            self.container.close()
            raise
        self.others = [one for one in self.container.streams if one is not self.stream]
        self.repaired = 0
        """Number of frames whose time stamp was missing or not after the one before."""
        self.missing = 0.0
        """Seconds between the end of the last frame that was read and the end that the file states."""

    def __enter__(self) -> "ClipReader":
        return self

    def __exit__(self, *details: object) -> None:
        self.container.close()

    @property
    def frame_count(self) -> int:
        """Number of frames by the file's header, which may count frames that are not shown; 0 if it does not say."""
        return int(self.stream.frames)

    @property
    def stated_seconds(self) -> float:
        """Length by the file's header; 0 if it does not say."""
        return (self.container.duration or 0) / _library(self.path).time_base

    def frames(self, pass_on: Callable[[Any], None] = lambda packet: None) -> Iterator["VideoFrame"]:
        """Decode the frames in the order they are shown.

        Args:
            pass_on: called with the packets of other streams, as they come in the file.
        Yields:
            frames that all have a time stamp, which rises.
        Raises:
            InputError: if the file is damaged or its frames change their size.
        """
        library = _library(self.path)
        size: tuple[int, int] | None = None
        last: int | None = None
        packets = self.container.demux(*self.others, self.stream)
        number = 0
        while True:
            with _decoding(self.path, number):
                packet = next(packets, None)
            if packet is None:
                break
            if packet.stream is not self.stream:
                if packet.size:
                    pass_on(packet)
                continue
            if packet.is_corrupt:
                raise InputError(f"{self.path}: is damaged after frame {number}; is the file complete?")
            with _decoding(self.path, number):
                decoded = list(packet.decode())
            for frame in decoded:
                if frame.is_corrupt:
                    raise InputError(f"{self.path}: frame {number} is damaged; is the file complete?")
                if size not in (None, (frame.width, frame.height)):
                    raise InputError(
                        f"{self.path}: frame {number} is {frame.width} x {frame.height}, earlier ones are {size[0]} x "
                        f"{size[1]}; cut the clip there"
                    )
                size = frame.width, frame.height
                if frame.pts is None or (last is not None and frame.pts <= last):
                    self.repaired += 1
                    frame.pts = 0 if last is None else last + 1
                last = frame.pts
                number += 1
                yield frame
        if size is None:
            raise InputError(f"{self.path}: its video has no frame that can be decoded; is the file complete?")
        if self.container.duration:
            stated = (self.container.start_time or 0) / library.time_base + self.stated_seconds
            self.missing = stated - float((last or 0) * self.stream.time_base)

    def seconds(self, frame: "VideoFrame") -> float:
        """When a frame is shown."""
        assert frame.pts is not None
        return float(frame.pts * self.stream.time_base)


def check_frame(path: Path, frame: "VideoFrame") -> None:
    """Check that a frame can be harmonized and written again without loss of what it is.

    Raises:
        InputError: if it has more than 8 bits a channel, HDR, transparency or two fields.
    """
    kind = frame.format
    bits = max(part.bits for part in kind.components)
    if bits > 8:
        raise InputError(
            f"{path}: has {bits} bits a channel ({kind.name}), and clips are written with 8; save its frames as 16-bit "
            "PNG and harmonize their folder"
        )
    if (transfer := int(frame.color_trc)) in _HDR:
        raise InputError(f"{path}: is HDR ({_HDR[transfer]}), which is not read; convert it to SDR first")
    if len(kind.components) == 4 or kind.name == "ya8":
        raise InputError(f"{path}: has transparency ({kind.name}), which is not kept; export it without")
    if frame.interlaced_frame:
        raise InputError(f"{path}: is interlaced; deinterlace it first, for example with ffmpeg -vf bwdif")


def rgb_of(frame: "VideoFrame", turn: "Turn") -> np.ndarray:
    """The upright colours of a frame, uint8, shape (H, W, 3)."""
    return turn.upright(_to_rgb(frame, "rgb24"))


def mask_of(frame: "VideoFrame", turn: "Turn") -> np.ndarray:
    """The upright levels of a frame of a mask video.

    Video stores gray as 16 to 235 unless it says otherwise; these become 0 to 255. Within 10 levels of black and white,
    levels become black and white, because compression leaves noise there.

    Returns:
        gray, shape (H, W), or colours, shape (H, W, 3) or (H, W, 4), where the mask has colours or transparency; uint8.
    """
    if len(frame.format.components) == 4:
        return turn.upright(_to_rgb(frame, "rgba"))
    if frame.format.name == "gray":
        return turn.upright(_clean(np.arange(256))[_plane(frame, 0)])
    if frame.format.name.replace("yuvj", "yuv") in _PLANAR and all(
        abs(_plane(frame, channel).astype(np.int16) - 128).max() <= 16 for channel in (1, 2)
    ):
        levels = np.arange(256)
        if not _is_full_range(frame):
            levels = ((levels - 16) * (255 / 219)).round().clip(0, 255)
        return turn.upright(_clean(levels)[_plane(frame, 0)])
    colors = _to_rgb(frame, "rgb24")
    gray = int(np.ptp(colors, axis=2).max()) <= 32
    return turn.upright(_clean(np.arange(256))[colors[..., 1]] if gray else colors)


def recolored(frame: "VideoFrame", before: np.ndarray, after: np.ndarray, turn: "Turn") -> "VideoFrame":
    """A frame with other colours.

    The change is added to the frame as it is stored: what is equal before and after stays as it was decoded, bit for
    bit, without the losses of a conversion to RGB and back.

    Args:
        frame: as it was decoded.
        before: what `rgb_of` returned for it.
        after: its new colours, uint8, shape (H, W, 3).
        turn: the clip's orientation.
    """
    name = _planar_name(frame)
    stored = frame if frame.format.name.replace("yuvj", "yuv") == name else _converted(frame, name)
    old, new = (_from_rgb(turn.stored(colors), frame, name) for colors in (before, after))
    result = type(frame)(frame.width, frame.height, name)
    for channel in range(3):
        change = _plane(new, channel).astype(np.int16) - _plane(old, channel)
        _plane(result, channel)[:] = (_plane(stored, channel) + change).clip(0, 255)
    result.pts, result.time_base = frame.pts, frame.time_base
    result.duration = frame.duration
    result.color_range = _FULL if _is_full_range(stored) else _LIMITED
    result.colorspace = stored.colorspace
    return result


class Turn:
    """How a stored frame must be turned or mirrored to be upright.

    Args:
        matrix: the display matrix of the file, nine numbers, or None for upright frames. Other angles than multiples of
            90 degrees leave the frames as they are.
    """

    def __init__(self, matrix: tuple[int, ...] | None) -> None:
        self.matrix = matrix
        a, b, c, d = (matrix[at] for at in (0, 1, 3, 4)) if matrix else (1, 0, 0, 1)
        self.swaps = a == d == 0 and b != 0 != c
        straight = b == c == 0 and a != 0 != d
        x, y = (c, b) if self.swaps else (a, d) if straight else (1, 1)
        self.mirrors = (-1 if y < 0 else 1), (-1 if x < 0 else 1)

    @classmethod
    def of(cls, frame: "VideoFrame") -> "Turn":
        """The turn that a decoded frame asks for."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        return cls(None if data is None else tuple(int(value) for value in np.frombuffer(bytes(data), np.int32)))

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """A stored picture, shape (H, W, ...), as it is shown."""
        turned = pixels.swapaxes(0, 1) if self.swaps else pixels
        return np.ascontiguousarray(turned[:: self.mirrors[0], :: self.mirrors[1]])

    def stored(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse of `upright`."""
        turned = pixels[:: self.mirrors[0], :: self.mirrors[1]]
        return np.ascontiguousarray(turned.swapaxes(0, 1) if self.swaps else turned)


class ClipWriter:
    """Writes a video file with new frames, and all else as in the clip it was made from. A context manager.

    Sound and subtitles are copied without being encoded again. Frame times, the shape of pixels, tags of colours,
    rotation, chapters, titles and languages are kept.

    Args:
        path: the file to write. Its suffix says the container.
        name: what errors call the file.
        clip: the clip.
        first: its first frame.
        crf: quality of the encoder, lower is better. 18 for H.264 and 24 for VP9 if None.
    Raises:
        InputError: if there is no encoder, or the container cannot hold the clip's sound.
    """

    def __init__(self, path: Path, name: Path, clip: ClipReader, first: "VideoFrame", *, crf: float | None) -> None:
        library = _library(name)
        self.name = name
        self.not_kept: list[str] = []
        encoder, default_crf = OUTPUT_ENCODERS[path.suffix.lower()]
        try:
            library.codec.Codec(encoder, "w")
        except ValueError as error:
            raise InputError(
                f"{name}: this PyAV has no encoder {encoder}; install PyAV's own wheel (pip install --force-reinstall "
                "--only-binary av av)"
            ) from error
        pixels = _planar_name(first)
        across, down = _PLANAR[pixels]
        if encoder == "libx264" and (first.width % across or first.height % down):
            raise InputError(
                f"{name}: H.264 needs an even number of pixels a side ({pixels}), the clip has {first.width} x "
                f"{first.height}; write .webm, or crop the clip"
            )
        is_mov = path.suffix.lower() in (".mp4", ".m4v", ".mov")
        options = {"movflags": "faststart"} if is_mov else {}
        format = {".m4v": "mp4"}.get(path.suffix.lower())
        with _encoding(name):
            self.container = library.open(str(path), "w", format=format, options=options)
            self._streams: dict[int, Any] = {}
            try:
                self._set_up(library, clip, first, encoder, default_crf if crf is None else crf, pixels)
            except BaseException:
                self._abandon()
                raise

    def _set_up(
        self, library: ModuleType, clip: ClipReader, first: "VideoFrame", encoder: str, crf: float, pixels: str
    ) -> None:
        options = {"crf": f"{crf:g}"}
        if encoder == "libvpx-vp9":
            options |= {"b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "4"}
        source = clip.stream
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        self.stream = self.container.add_stream(encoder, rate=rate, options=options)
        context = self.stream.codec_context
        self.stream.width, self.stream.height, self.stream.pix_fmt = first.width, first.height, pixels
        self.stream.time_base = context.time_base = source.time_base
        context.thread_type = "AUTO"
        if source.sample_aspect_ratio:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        tagged = source.codec_context
        from_rgb = _is_rgb(first)
        context.color_range = _FULL if _is_full_range(first) and not from_rgb else tagged.color_range or 0
        context.colorspace = _BT709 if from_rgb else tagged.colorspace
        context.color_primaries, context.color_trc = tagged.color_primaries, tagged.color_trc
        if from_rgb:
            context.color_range = _LIMITED
            self.not_kept.append(f"pixels stored as {first.format.name} (the result has {pixels})")
        matrix = Turn.of(first).matrix
        if matrix is not None:
            self.stream.set_display_matrix(list(matrix))
        self._copy_tags(source, self.stream)
        self.container.metadata.update(_kept_tags(clip.container.metadata))
        for other in clip.others:
            self._add_copy(clip, other)
        chapters = clip.container.chapters()
        if chapters:
            self.container.set_chapters(chapters)
        self.container.start_encoding()

    def __enter__(self) -> "ClipWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        with _encoding(self.name):
            self.container.mux(self.stream.encode(None))
            self.container.close()

    def write(self, frame: "VideoFrame") -> None:
        """Encode the next frame."""
        with _encoding(self.name):
            self.container.mux(self.stream.encode(frame))

    def copy(self, packet: Any) -> None:
        """Write a packet of another stream of the clip, if that stream is kept."""
        stream = self._streams.get(packet.stream.index)
        if stream is None:
            return
        if packet.dts is None:
            packet.dts = packet.pts
        packet.stream = stream
        with _encoding(self.name):
            self.container.mux(packet)

    def _add_copy(self, clip: ClipReader, source: Any) -> None:
        codec = source.codec_context.name if source.codec_context is not None else None
        named = f"{'a' if source.type != 'attachment' else 'an'} {source.type} stream{f' ({codec})' if codec else ''}"
        held = codec is not None and codec in self.container.supported_codecs
        if source.type == "audio" and not held:
            raise InputError(
                f"{self.name}: cannot hold the sound of {clip.path} ({codec or 'of an unknown codec'}); "
                + ("convert the sound first" if self.name.suffix.lower() == ".mkv" else "write .mkv")
            )
        if source.type == "data" and (
            "timecode" in source.metadata or (source.name == "bin_data" and clip.container.chapters())
        ):
            return  # MP4 and MOV have streams for time code and chapters, which are written anew
        if source.type not in ("audio", "subtitle") or not held:
            self.not_kept.append(named)
            return
        self._streams[source.index] = stream = self.container.add_stream_from_template(source)
        stream.time_base = source.time_base
        self._copy_tags(source, stream)

    def _copy_tags(self, source: Any, target: Any) -> None:
        target.metadata.update(_kept_tags(source.metadata))
        target.disposition = source.disposition

    def _abandon(self) -> None:
        with contextlib.suppress(Exception):  # the error that ends the work says more
            self.container.close()


def _kept_tags(tags: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in tags.items()
        if name.lower() not in _OWN_TAGS and not name.upper().startswith(_STATISTICS)
    }


def _library(path: Path) -> ModuleType:
    try:
        import av
        import av.error
        import av.stream
    except ImportError as error:
        raise InputError(f"{path}: video needs PyAV; pip install 'aict_hf[video]'") from error
    return av


@contextlib.contextmanager
def _decoding(path: Path, frame: int | None = None) -> Iterator[None]:
    library = _library(path)
    try:
        yield
    except library.error.FFmpegError as error:
        place = "" if frame is None else f" after frame {frame}"
        reason = error.strerror or one_line(error)
        raise InputError(f"{path}: cannot be decoded{place} ({reason}); is the file complete?") from error


@contextlib.contextmanager
def _encoding(path: Path) -> Iterator[None]:
    library = _library(path)
    try:
        yield
    except library.error.FFmpegError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or one_line(error)})") from error


def _planar_name(frame: "VideoFrame") -> str:
    """The pixel format that a frame is written in."""
    name = frame.format.name
    return name if name in _PLANAR else _STORED_AS.get(name, "yuv444p" if _is_rgb(frame) else "yuv420p")


def _is_rgb(frame: "VideoFrame") -> bool:
    return frame.format.is_rgb or frame.format.has_palette


def _is_full_range(frame: "VideoFrame") -> bool:
    name = frame.format.name
    return "yuvj" in name or name == "gray" or _is_rgb(frame) or int(frame.color_range) == _FULL


def _matrix(frame: "VideoFrame") -> int:
    """The weights of red, green and blue, by swscale's number."""
    tagged = _MATRICES.get(int(frame.colorspace))
    if tagged is not None and not _is_rgb(frame):
        return tagged
    return _BT709 if frame.height >= HD_HEIGHT or _is_rgb(frame) else _BT601


def _to_rgb(frame: "VideoFrame", name: str) -> np.ndarray:
    changed = frame.reformat(
        format=name,
        src_colorspace=_matrix(frame),
        src_color_range=_FULL if _is_full_range(frame) else _LIMITED,
        dst_color_range=_FULL,
    )
    return changed.to_ndarray()


def _from_rgb(colors: np.ndarray, like: "VideoFrame", name: str) -> "VideoFrame":
    """Colours, shape (H, W, 3), in the matrix and range of a frame."""
    frame = type(like).from_ndarray(colors, format="rgb24")
    full = _is_full_range(like) and not _is_rgb(like)
    return frame.reformat(
        format=name,
        src_color_range=_FULL,
        dst_colorspace=_matrix(like),
        dst_color_range=_FULL if full else _LIMITED,
    )


def _converted(frame: "VideoFrame", name: str) -> "VideoFrame":
    """A frame in another pixel format, of the same matrix and range."""
    if _is_rgb(frame):
        return _from_rgb(_to_rgb(frame, "rgb24"), frame, name)
    level = _FULL if _is_full_range(frame) else _LIMITED
    matrix = _matrix(frame)
    return frame.reformat(
        format=name, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=level, dst_color_range=level
    )


def _plane(frame: "VideoFrame", channel: int) -> np.ndarray:
    """One channel of a planar frame, shape (h, w), a view."""
    plane = frame.planes[channel]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _clean(levels: np.ndarray) -> np.ndarray:
    """Levels 0..255 as uint8, with those near black and white made so."""
    snapped = np.where(levels <= NEAR_BLACK, 0, np.where(levels >= 255 - NEAR_BLACK, 255, levels))
    return snapped.astype(np.uint8)


__all__ = [
    "CLIP_SUFFIXES",
    "MAX_CRF",
    "OUTPUT_ENCODERS",
    "ClipReader",
    "ClipWriter",
    "Turn",
    "check_frame",
    "is_clip",
    "mask_of",
    "recolored",
    "rgb_of",
]
