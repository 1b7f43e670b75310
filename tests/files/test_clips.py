from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from conftest import make_photo

from aict_hf.errors import InputError
from aict_hf.files.clips import ClipReader, ClipWriter, Turn, check_frame, is_clip, mask_of, recolored, rgb_of

av = pytest.importorskip("av")

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
LIMITED, FULL = 1, 2


def frame_of(color, *, name="yuv444p", matrix=1, level=LIMITED, size=(16, 24)):
    """A frame of one colour, by the equations of the standards."""
    red_weight, blue_weight = MATRICES[matrix]
    red, green, blue = np.array(color) / 255
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = (blue - luma) / 2 / (1 - blue_weight), (red - luma) / 2 / (1 - red_weight)
    scale = (219, 224, 16) if level == LIMITED else (255, 255, 0)
    values = [scale[2] + scale[0] * luma, *(128 + scale[1] * part for part in chroma)]
    frame = av.VideoFrame(size[1], size[0], name)
    for plane, value in zip(frame.planes, values, strict=True):
        plane.update(bytes([round(value)]) * plane.buffer_size)
    frame.colorspace, frame.color_range = matrix, level
    return frame


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("level", [LIMITED, FULL])
@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (200, 40, 10), (10, 90, 220)])
def test_colours_are_read_in_the_matrix_and_range_of_the_frame(color, matrix, level):
    frame = frame_of(color, matrix=matrix, level=level)
    assert np.abs(rgb_of(frame, Turn(None)).astype(int) - color).max() <= 2


def test_frames_without_a_tag_are_read_by_their_height():
    low, high = frame_of((200, 40, 10), matrix=5), frame_of((200, 40, 10), matrix=1, size=(720, 16))
    low.colorspace = high.colorspace = 2
    for frame in (low, high):
        assert np.abs(rgb_of(frame, Turn(None)).astype(int) - (200, 40, 10)).max() <= 2


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p", "nv12", "rgb24"])
@pytest.mark.parametrize("size", [(40, 56), (39, 55)])
def test_what_is_not_changed_stays_bit_for_bit(name, size):
    photo, mask = make_photo(*size)
    frame = av.VideoFrame.from_ndarray(photo, format="rgb24").reformat(format=name)
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    before = rgb_of(frame, Turn(None))
    same = recolored(frame, before, before, Turn(None))
    shown = name.replace("yuvj", "yuv").replace("nv12", "yuv420p").replace("rgb24", "yuv444p")
    assert same.format.name == shown
    assert same.pts == 7
    if name != "rgb24":
        plain = frame.reformat(format=shown) if name == "nv12" else frame
        for plane, kept in zip(plain.planes, same.planes, strict=True):
            rows = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in (plane, kept)]
            assert np.array_equal(*rows)
    after = np.where(mask[..., None] > 0, 255 - before, before)
    changed = rgb_of(recolored(frame, before, after, Turn(None)), Turn(None)).astype(int)
    inside = mask == 255
    assert np.abs(changed - after)[inside].mean() < (4 if "444" in shown else 8)
    far = np.zeros_like(inside)
    far[:3] = far[-3:] = True
    assert np.array_equal(changed[far], rgb_of(same, Turn(None))[far])


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), np.rot90),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), np.fliplr),
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), np.asarray),
        (None, np.asarray),
    ],
)
def test_frames_are_turned_upright_and_back(matrix, turn):
    photo, _ = make_photo(6, 9)
    upright = Turn(matrix).upright(photo)
    assert np.array_equal(upright, turn(photo))
    assert np.array_equal(Turn(matrix).stored(upright), photo)


def test_masks_of_limited_range_reach_black_and_white():
    levels = np.arange(256, dtype=np.uint8)[None].repeat(16, axis=0)
    frame = av.VideoFrame(256, 16, "yuv420p")
    luma = np.frombuffer(frame.planes[0], np.uint8).reshape(16, -1)[:, :256]
    luma[:] = levels
    for plane in frame.planes[1:]:
        plane.update(b"\x80" * plane.buffer_size)
    found = mask_of(frame, Turn(None))[0].astype(int)
    assert found[16] == 0
    assert found[235] == 255
    assert (found[:25] == 0).all()  # noise around black
    assert found[126] == 128
    frame.color_range = FULL
    assert np.array_equal(mask_of(frame, Turn(None))[0, 11:245], levels[0, 11:245])


def test_masks_may_be_gray_deep_or_coloured():
    mask = np.zeros((16, 24), np.uint8)
    mask[4:12, 6:18] = 255
    gray = av.VideoFrame.from_ndarray(mask, format="gray")
    assert np.array_equal(mask_of(gray, Turn(None)), mask)
    deep = av.VideoFrame(24, 16, "yuv420p10le")  # FFmpeg's own conversion to it is not the same each time
    for plane, levels in zip(deep.planes, (64 + mask * (876 / 255), 512, 512), strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint16).reshape(plane.height, -1)
        rows[:, : plane.width] = levels
    assert np.array_equal(mask_of(deep, Turn(None)), mask)
    red = np.dstack([mask, np.zeros_like(mask), np.zeros_like(mask)])
    painted = mask_of(av.VideoFrame.from_ndarray(red, format="rgb24"), Turn(None))
    assert np.array_equal(painted, red)
    layer = np.dstack([red, mask])
    assert np.array_equal(mask_of(av.VideoFrame.from_ndarray(layer, format="rgba"), Turn(None)), layer)


@pytest.mark.parametrize(
    ("name", "message"),
    [("yuv420p10le", "has 10 bits a channel"), ("yuva420p", "has transparency"), ("rgba", "has transparency")],
)
def test_frames_that_would_lose_something_are_refused(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_frame(tmp_path / "clip.mkv", av.VideoFrame(16, 16, name))


def test_hdr_is_refused(tmp_path):
    source = write_clip(tmp_path / "clip.mkv", color_trc=16, color_primaries=9, colorspace=9)
    with ClipReader(source, max_megapixels=100) as reader:
        [frame, *_] = reader.frames()
        with pytest.raises(InputError, match=r"clip\.mkv: is HDR \(PQ\)"):
            check_frame(source, frame)


def test_webm_with_transparency_is_refused(tmp_path):
    source = write_clip(tmp_path / "clip.webm", codec="libvpx-vp9", name="yuva420p")
    with pytest.raises(InputError, match=r"clip\.webm: has transparency"):
        ClipReader(source, max_megapixels=100)


def write_clip(path, times=range(6), *, size=(32, 48), codec="libx264", name="yuv420p", rate=25, sound=None, **tags):
    """A small clip whose frames are shown at `times`, in units of 1 / rate."""
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a title"
        video = container.add_stream(codec, rate=rate)
        video.height, video.width = size
        video.pix_fmt = name
        for tag, value in tags.items():
            setattr(video.codec_context, tag, value)
        audio = container.add_stream(sound, rate=48000) if sound else None
        if audio is not None:
            audio.metadata["language"] = "deu"
        for number, time in enumerate(times):
            photo = np.roll(make_photo(*size)[0], number, axis=1)
            frame = av.VideoFrame.from_ndarray(photo, format="rgb24").reformat(format=name)
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(video.encode(frame))
        for number in range(6 if sound else 0):
            samples = np.sin(np.arange(1920)[None] * 0.1).astype(np.float32).repeat(2, axis=0)
            part = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            part.sample_rate, part.pts, part.time_base = 48000, 1920 * number, Fraction(1, 48000)
            container.mux(audio.encode(part))
        for stream in filter(None, (audio, video)):
            container.mux(stream.encode(None))
    return path


def copy_clip(source, target, *, crf=None):
    """Read and write a clip with unchanged frames. Returns what is not kept."""
    with ClipReader(source, max_megapixels=100) as reader:
        writer, packets = None, []
        for frame in reader.frames(packets.append):
            if writer is None:
                writer = ClipWriter(target, target, reader, frame, crf=crf).__enter__()
            turn = Turn.of(frame)
            colors = rgb_of(frame, turn)
            writer.write(recolored(frame, colors, colors, turn))
        for packet in packets:
            writer.copy(packet)
        writer.__exit__(None, None, None)
    return writer.not_kept


def contents(path):
    """Times of frames, packets of sound, tags, and pictures."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        tags = [video.color_range, video.colorspace, video.color_primaries, video.color_trc, video.pix_fmt]
        shape = video.sample_aspect_ratio
        title = container.metadata.get("title")
        languages = [stream.language for stream in container.streams.audio]
        sound, frames = [], []
        for packet in container.demux():
            if packet.stream.type == "audio" and packet.size:
                sound.append((round(float(packet.pts * packet.time_base), 3), bytes(packet)))
            elif packet.stream.type == "video":
                frames += [(frame.pts * frame.time_base, frame) for frame in packet.decode()]
    return {
        "tags": tags,
        "shape": shape,
        "title": title,
        "languages": languages,
        "sound": sound,
        "times": [time for time, _ in frames],
        "frames": [frame for _, frame in frames],
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_times_and_tags_are_kept(suffix, tmp_path):
    times = [0, 1, 2, 5, 6, 10]  # a variable frame rate
    source = write_clip(
        tmp_path / f"clip{suffix}",
        times,
        sound="aac",
        color_range=FULL,
        colorspace=1,
        color_primaries=1,
        color_trc=13,
        sample_aspect_ratio=Fraction(4, 3),
    )
    target = tmp_path / f"out{suffix}"
    assert copy_clip(source, target, crf=0) == []
    before, after = contents(source), contents(target)
    for fact in ("tags", "shape", "title", "languages", "sound", "times"):
        assert before[fact] == after[fact], fact
    gaps = [float(later - earlier) * 25 for earlier, later in pairwise(before["times"])]
    assert gaps == pytest.approx([1, 1, 3, 1, 4], abs=0.05)
    for one, other in zip(before["frames"], after["frames"], strict=True):
        assert np.array_equal(one.to_ndarray(), other.to_ndarray())  # crf 0 is lossless


def test_subtitles_and_chapters_are_kept_where_the_container_holds_them(tmp_path):
    source = write_clip(tmp_path / "plain.mkv", sound="aac")
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:00,150\nHello\n\n")
    chapters = [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
    with (
        av.open(str(source)) as plain,
        av.open(str(tmp_path / "words.srt")) as words,
        av.open(str(tmp_path / "clip.mkv"), "w") as both,
    ):
        streams = {stream: both.add_stream_from_template(stream) for stream in (*plain.streams, *words.streams)}
        both.set_chapters(chapters)
        for packet in [*plain.demux(), *words.demux()]:
            if packet.size:
                packet.stream = streams[packet.stream]
                both.mux(packet)

    assert copy_clip(tmp_path / "clip.mkv", tmp_path / "out.mkv") == []
    assert copy_clip(tmp_path / "clip.mkv", tmp_path / "out.mp4") == ["a subtitle stream (srt)"]
    assert copy_clip(tmp_path / "out.mp4", tmp_path / "again.mov") == []  # MP4 holds chapters in a stream of their own
    for name in ("out.mkv", "out.mp4", "again.mov"):
        with av.open(str(tmp_path / name)) as container:
            assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one"]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [bytes(packet) for packet in container.demux(subtitles=0) if packet.size] == [b"Hello"]


def test_interlaced_frames_are_refused(tmp_path):
    class Frame:
        format = av.VideoFormat("yuv420p")
        color_trc = 1
        interlaced_frame = True

    with pytest.raises(InputError, match=r"clip\.mp4: is interlaced; deinterlace it first"):
        check_frame(tmp_path / "clip.mp4", Frame())


def test_a_time_code_is_kept(tmp_path):
    source = tmp_path / "clip.mov"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.metadata["timecode"] = "01:00:00:00"
        container.mux(video.encode(av.VideoFrame(48, 32, "yuv420p")))
        container.mux(video.encode(None))
    assert copy_clip(source, tmp_path / "out.mov") == []
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"
        assert len(container.streams) == 2


def test_rotation_is_kept(tmp_path):
    source = tmp_path / "clip.mp4"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.set_display_rotation(-90)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(make_photo(32, 48)[0], format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    copy_clip(source, tmp_path / "out.mov")
    [*_, frame] = contents(tmp_path / "out.mov")["frames"]
    assert frame.rotation == -90
    assert rgb_of(frame, Turn.of(frame)).shape == (48, 32, 3)


def test_webm_and_odd_sizes_are_written(tmp_path):
    source = write_clip(tmp_path / "clip.mkv", size=(31, 47), codec="ffv1", sound="libopus")
    assert copy_clip(source, tmp_path / "out.webm") == []
    after = contents(tmp_path / "out.webm")
    assert len(after["frames"]) == 6
    assert after["sound"] == contents(source)["sound"]
    with pytest.raises(InputError, match=r"H\.264 needs an even number of pixels a side"):
        copy_clip(source, tmp_path / "out.mp4")


def test_sound_that_does_not_fit_the_container_is_refused(tmp_path):
    source = write_clip(tmp_path / "clip.mp4", sound="aac")
    with pytest.raises(InputError, match=r"out\.webm: cannot hold the sound of .*clip\.mp4 \(aac\); write \.mkv$"):
        copy_clip(source, tmp_path / "out.webm")


def test_rgb_pixels_are_converted_and_this_is_said(tmp_path):
    source = write_clip(tmp_path / "clip.mkv", codec="ffv1", name="bgr0")
    assert copy_clip(source, tmp_path / "out.mp4", crf=0) == ["pixels stored as bgr0 (the result has yuv444p)"]
    before, after = (contents(path)["frames"] for path in (source, tmp_path / "out.mp4"))
    for one, other in zip(before, after, strict=True):
        assert np.abs(rgb_of(one, Turn(None)).astype(int) - rgb_of(other, Turn(None))).max() <= 3


def test_times_that_do_not_rise_are_repaired_and_counted(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "clip.mp4")
    with ClipReader(source, max_megapixels=100) as reader:

        class Stuck:
            """A decoder that forgets the time of every frame."""

            def __init__(self, packet):
                self.packet, self.stream, self.is_corrupt = packet, packet.stream, packet.is_corrupt

            def decode(self):
                decoded = self.packet.decode()
                for frame in decoded:
                    frame.pts = None
                return decoded

        packets = [Stuck(packet) for packet in reader.container.demux(reader.stream)]
        reader.container = type("Container", (), {"demux": lambda *_: iter(packets), "duration": None, "close": int})()
        times = [frame.pts for frame in reader.frames()]
    assert times == [0, 1, 2, 3, 4, 5]
    assert reader.repaired == 6


def damaged(path, make):
    """A file made from another's bytes."""
    content = make(path.read_bytes())
    broken = path.with_stem("broken")
    broken.write_bytes(content)
    return broken


def flipped(content):
    values = np.frombuffer(content, np.uint8).copy()
    values[len(values) // 2 : len(values) // 2 + 4000 : 20] ^= 0x55
    return values.tobytes()


@pytest.mark.parametrize(
    ("suffix", "make", "message"),
    [
        (".mp4", lambda content: content[: len(content) // 2], "cannot be decoded .*is the file complete"),
        (".mp4", lambda content: b"", "is empty; expected a video"),
        (".mp4", lambda content: b"not a video at all" * 50, "cannot be decoded"),
        (".mkv", flipped, "damaged|cannot be decoded"),
    ],
)
def test_damaged_files_are_refused_in_one_line(suffix, make, message, tmp_path):
    source = write_clip(tmp_path / f"clip{suffix}", range(30), size=(128, 192))
    with (
        pytest.raises(InputError, match=message) as refused,
        ClipReader(damaged(source, make), max_megapixels=100) as reader,
    ):
        list(reader.frames())
    assert "\n" not in str(refused.value)


def test_clips_that_end_early_are_noticed(tmp_path):
    source = write_clip(tmp_path / "clip.mkv", range(50), size=(128, 192))
    with ClipReader(damaged(source, lambda content: content[: len(content) * 2 // 3]), max_megapixels=100) as reader:
        assert 0 < len(list(reader.frames())) < 50
        assert reader.missing > 0.5


def test_files_without_video_and_large_ones_are_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        part = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        part.sample_rate = 48000
        container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    with pytest.raises(InputError, match="holds no video"):
        ClipReader(tmp_path / "sound.mp4", max_megapixels=100)
    with pytest.raises(InputError, match="no such file"):
        ClipReader(tmp_path / "none.mp4", max_megapixels=100)
    with pytest.raises(InputError, match=r"over the limit of 0\.001 megapixels"):
        ClipReader(write_clip(tmp_path / "clip.mp4"), max_megapixels=0.001)


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(ClipWriter.__init__.__globals__["OUTPUT_ENCODERS"], ".mp4", ("no_such_encoder", 18.0))
    with pytest.raises(InputError, match="this PyAV has no encoder no_such_encoder; install PyAV's own wheel"):
        copy_clip(source, tmp_path / "out.mp4")


def test_videos_are_told_by_their_suffix(tmp_path):
    assert all(is_clip(tmp_path / name) for name in ("a.mp4", "a.MOV", "a.mkv", "a.webm", "a.avi", "a.ts"))
    assert not any(is_clip(tmp_path / name) for name in ("a.jpg", "a.gif", "a.tif", "a"))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile real.mp4\n",
    ],
    ids=["playlist", "list"],
)
def test_a_file_that_leads_to_others_is_no_clip(tmp_path, text):
    """An upload must not read files of the machine or addresses of its network."""
    with av.open(str(tmp_path / "real.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with ClipReader(tmp_path / "real.mp4", max_megapixels=1) as reader:
        assert len(list(reader.frames())) == 1
    (tmp_path / "clip.mp4").write_text(text)
    with (
        pytest.raises(InputError, match=r"clip\.mp4: "),
        ClipReader(tmp_path / "clip.mp4", max_megapixels=1) as reader,
    ):
        list(reader.frames())
