import os
import signal
import sys
from fractions import Fraction

import numpy as np
import pytest
from conftest import make_photo, save_small_checkpoint
from PIL import Image

from aict_hf import cli
from aict_hf.errors import InputError
from aict_hf.files.clips import ClipWriter
from aict_hf.harmonize.options import VideoOptions
from aict_hf.harmonize.video import VideoHarmonizer
from aict_hf.harmonize.video_files import VideoReport, check_clip, harmonize_frames, harmonize_video

av = pytest.importorskip("av")

SIZE = (48, 64)
FRAMES = 6


def moving(number, size=SIZE, seed=0):
    """A composite and its mask, which move to the right."""
    photo, mask = make_photo(*size, seed=seed)
    return np.roll(photo, number, axis=1), np.roll(mask, number, axis=1)


def write_video(path, pictures, *, codec="libx264", name="yuv444p", times=None, rate=10, **options):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options={"crf": "0"} if codec == "libx264" else {})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = name
        for number, picture in enumerate(pictures):
            picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, axis=2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=name)
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def write_masks(folder, count=FRAMES, start=1, **options):
    folder.mkdir()
    for number in range(count):
        Image.fromarray(moving(number, **options)[1]).save(folder / f"mask_{number + start:03}.png")
    return folder


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", [moving(number)[0] for number in range(FRAMES)])


@pytest.fixture
def still(tmp_path):
    Image.fromarray(moving(0)[1]).save(tmp_path / "still.png")
    return tmp_path / "still.png"


def left_behind(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".aict")]


def expected(harmonizer, pictures, masks, smoothing=0.25, fps=10):
    video = VideoHarmonizer(harmonizer, smoothing=smoothing, fps=fps)
    return list(video.look_ahead(zip(pictures, masks, strict=True)))


def test_a_clip_with_a_folder_of_masks_is_what_look_ahead_gives(clip, harmonizer, tmp_path):
    masks = write_masks(tmp_path / "masks")
    report = harmonize_video(clip, masks, tmp_path / "out.mp4", harmonizer, VideoOptions(crf=0))
    assert report == VideoReport(frames=FRAMES, cuts=0, without_foreground=0)
    wanted = expected(harmonizer, decoded(clip), [moving(number)[1] for number in range(FRAMES)])
    found = decoded(tmp_path / "out.mp4")
    for got, want, before, number in zip(found, wanted, decoded(clip), range(FRAMES), strict=True):
        assert np.abs(got.astype(int) - want).mean() < 1.5
        assert np.array_equal(got[:3], before[:3])  # no mask there
        assert np.abs(got.astype(int) - before)[moving(number)[1] > 200].mean() > 5


def test_masks_may_be_a_video_or_one_image(clip, still, harmonizer, tmp_path):
    options = VideoOptions(crf=0)
    for codec, name in (("libx264", "yuv420p"), ("ffv1", "gray")):
        video = write_video(
            tmp_path / f"{name}.mkv", [moving(number)[1] for number in range(FRAMES)], codec=codec, name=name
        )
        harmonize_video(clip, video, tmp_path / f"{name}.mp4", harmonizer, options)
    harmonize_video(clip, write_masks(tmp_path / "masks"), tmp_path / "folder.mp4", harmonizer, options)
    by_folder = decoded(tmp_path / "folder.mp4")
    for name in ("yuv420p", "gray"):
        for got, want in zip(decoded(tmp_path / f"{name}.mp4"), by_folder, strict=True):
            assert np.abs(got.astype(int) - want).mean() < 2
    harmonize_video(clip, still, tmp_path / "still.mp4", harmonizer, options)
    before, after = decoded(clip)[3].astype(int), decoded(tmp_path / "still.mp4")[3]
    assert np.array_equal(before[moving(0)[1] == 0][:200], after[moving(0)[1] == 0][:200])


def test_times_of_a_variable_frame_rate_count(still, harmonizer, tmp_path):
    clip = write_video(tmp_path / "clip.mkv", [moving(0)[0], *[moving(9, seed=3)[0]] * 2], times=[0, 1, 50])
    harmonize_video(clip, still, tmp_path / "out.mkv", harmonizer, VideoOptions(crf=0))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx([0, 0.1, 5])
    alone = harmonizer(decoded(clip)[2], moving(0)[1])
    assert np.abs(decoded(tmp_path / "out.mkv")[2].astype(int) - alone).mean() < 1.5


def test_strength_and_inverted_masks(clip, still, harmonizer, tmp_path):
    harmonize_video(clip, still, tmp_path / "none.mp4", harmonizer, VideoOptions(strength=0, crf=0))
    assert all(map(np.array_equal, decoded(tmp_path / "none.mp4"), decoded(clip)))
    harmonize_video(clip, still, tmp_path / "inverted.mp4", harmonizer, VideoOptions(invert_mask=True, crf=0))
    change = np.abs(decoded(tmp_path / "inverted.mp4")[0].astype(int) - decoded(clip)[0]).mean(2)
    assert change[moving(0)[1] == 0].mean() > 5 > change[moving(0)[1] == 255].max()


def test_cuts_and_frames_without_foreground_are_counted_and_said(harmonizer, tmp_path):
    pictures = [moving(number, seed=0 if number < 4 else 7)[0] for number in range(8)]
    clip = write_video(tmp_path / "clip.mp4", pictures)
    masks = write_masks(tmp_path / "masks", 8)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(masks / "mask_002.png")
    said = []
    report = harmonize_video(clip, masks, tmp_path / "out.mp4", harmonizer, VideoOptions(crf=0), warn=said.append)
    assert report == VideoReport(frames=8, cuts=1, without_foreground=1)
    assert said == [f"{masks}: 1 of 8 masks have no foreground; these frames stay unchanged"]
    assert np.array_equal(decoded(tmp_path / "out.mp4")[1], decoded(clip)[1])


def test_surprises_of_masks_are_said_once(clip, harmonizer, tmp_path):
    weak = Image.fromarray(moving(0)[1] // 2)
    weak.save(tmp_path / "weak.png")
    said = []
    harmonize_video(clip, tmp_path / "weak.png", tmp_path / "out.mp4", harmonizer, warn=said.append)
    assert [("highest level is 127" in line) for line in said] == [True]


def sequences(tmp_path, count=4):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(count):
        Image.fromarray(moving(number)[0]).save(frames / f"shot_{number + 8}.png")
    return frames, write_masks(tmp_path / "masks", count)


def test_a_folder_of_frames_becomes_a_folder_of_frames(harmonizer, tmp_path):
    frames, masks = sequences(tmp_path)
    report = harmonize_frames(frames, masks, tmp_path / "out", harmonizer, VideoOptions(fps=10))
    assert report == VideoReport(frames=4, cuts=0, without_foreground=0)
    names = ["shot_8.png", "shot_9.png", "shot_10.png", "shot_11.png"]  # by number, not by name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    pictures, foregrounds = zip(*map(moving, range(4)), strict=True)
    for name, want in zip(names, expected(harmonizer, pictures, foregrounds), strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), want)


def drop(path):
    path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda frames, masks: drop(masks / "mask_003.png"),
            "not numbered as the frames in .* are .3 masks, 4 frames.",
        ),
        (lambda frames, masks: (frames / "shot_9.png").rename(frames / "nine.png"), "has no number in its name"),
        (lambda frames, masks: (frames / "shot_9.png").rename(frames / "b_8.png"), "has the number 8, as "),
        (
            lambda frames, masks: Image.new("RGB", (10, 10)).save(frames / "shot_10.png"),
            "is 10 x 10, the frames before it are 64 x 48",
        ),
        (
            lambda frames, masks: Image.new("L", (10, 10)).save(masks / "mask_003.png"),
            r"mask_003\.png: mask is 10 x 10, composite is 64 x 48",
        ),
        (lambda frames, masks: (masks / "mask_003.png").write_bytes(b"none"), r"mask_003\.png: "),
    ],
)
def test_folders_that_do_not_fit_are_refused_and_nothing_is_written(change, message, harmonizer, tmp_path):
    frames, masks = sequences(tmp_path)
    change(frames, masks)
    with pytest.raises(InputError, match=message):
        harmonize_frames(frames, masks, tmp_path / "out", harmonizer)
    assert not (tmp_path / "out").exists()
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (lambda folder: write_masks(folder / "m", 5), r"m: holds 5 masks, .*clip\.mp4 has more frames"),
        (lambda folder: write_masks(folder / "m", 8), r"m: holds 8 masks, .*clip\.mp4 has 6 frames"),
        (lambda folder: write_masks(folder / "m", size=(40, 56)), r"mask_001\.png: mask is 56 x 40"),
        (lambda folder: write_video(folder / "m.mp4", [moving(0)[1]] * 4), "holds 4 masks, .* has more frames"),
        (lambda folder: write_video(folder / "m.mp4", [moving(0)[1]] * 7), r"holds more masks, .* has 6 frames"),
        (
            lambda folder: write_video(folder / "m.mp4", [moving(0, (40, 56))[1]] * 6),
            r"m\.mp4, frame 0: mask is 56 x 40, composite is 64 x 48",
        ),
        (lambda folder: folder / "nothing.png", "no such file"),
    ],
)
def test_masks_that_do_not_fit_are_refused_and_nothing_is_written(masks, message, clip, harmonizer, tmp_path):
    given = masks(tmp_path)
    (tmp_path / "out.mp4").write_text("an older result")
    with pytest.raises(InputError, match=message):
        harmonize_video(clip, given, tmp_path / "out.mp4", harmonizer)
    assert (tmp_path / "out.mp4").read_text() == "an older result"
    assert left_behind(tmp_path) == []


def test_a_folder_of_frames_does_not_become_a_file(harmonizer, tmp_path):
    frames, masks = sequences(tmp_path)
    for name in ("out.mp4", "out.png"):
        with pytest.raises(InputError, match=f"{name}: is the name of a file; a folder of frames becomes a folder"):
            harmonize_frames(frames, masks, tmp_path / name, harmonizer)
        assert not (tmp_path / name).exists()


def test_a_missing_number_among_masks_is_named(clip, harmonizer, tmp_path):
    masks = write_masks(tmp_path / "masks", FRAMES + 1)
    (masks / "mask_004.png").unlink()
    with pytest.raises(InputError, match="masks: holds no mask 4; give one mask for each frame"):
        harmonize_video(clip, masks, tmp_path / "out.mp4", harmonizer)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.gif", {}, r"cannot write \.gif; use \.mp4, \.mov, \.mkv or \.webm"),
        ("none/out.mp4", {}, "none: no such folder"),
        ("clip.mp4", {}, "is one of the inputs"),
        ("out.mp4", {"crf": 60}, "crf is 60; libx264 takes 0 .best. to 51"),
    ],
)
def test_outputs_are_checked_before_the_work(output, options, message, clip, still, tmp_path):
    with pytest.raises(InputError, match=message):
        check_clip(clip, still, tmp_path / output, VideoOptions(**options))


def test_deep_clips_are_refused(still, harmonizer, tmp_path):
    clip = write_video(tmp_path / "deep.mkv", [moving(0)[0]], codec="ffv1", name="yuv420p10le")
    with pytest.raises(InputError, match=r"deep\.mkv: has 10 bits a channel"):
        harmonize_video(clip, still, tmp_path / "out.mp4", harmonizer)
    assert left_behind(tmp_path) == []


def test_memory_does_not_grow_with_the_clip(still, harmonizer, tmp_path, monkeypatch):
    """The number of frames that are held is the reach of the filter, whatever the clip's length."""
    clip = write_video(tmp_path / "long.mkv", [moving(0)[0]] * 24, codec="ffv1", name="yuv420p")
    read, written, held = [], [], []
    write = ClipWriter.write
    monkeypatch.setattr(ClipWriter, "write", lambda *given: written.append(write(*given)))

    class Counting:
        def predict_opened(self, photos):
            read.append(photos)
            held.append(len(read) - len(written))
            return harmonizer.predict_opened(photos)

    harmonize_video(clip, still, tmp_path / "out.mkv", Counting(), VideoOptions(smoothing=0.2, crf=40))
    assert len(written) == 24
    assert max(held) <= 6  # 0.4 s at 10 frames a second, and the frame itself


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    checkpoint = save_small_checkpoint(tmp_path / "network")
    capsys.readouterr()  # saving shows a progress bar

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aict", "harmonize", *map(str, arguments), "--model", str(checkpoint)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        signal.signal(signal.SIGTERM, before)
        return stop.value.code or 0, capsys.readouterr().err

    return run


def test_the_command_harmonizes_a_clip_and_a_folder_of_frames(run, clip, still, tmp_path):
    code, said = run(clip, still, "-o", tmp_path / "out.mp4")
    assert (code, said) == (0, f"aict: 6 frames in {tmp_path / 'out.mp4'}\n")
    code, _ = run(clip, "--masks", write_masks(tmp_path / "m"), "-o", tmp_path / "second.mkv", "--crf", "30")
    assert code == 0
    frames, masks = sequences(tmp_path)
    code, said = run(frames, "--masks", masks, "-o", tmp_path / "out", "--smoothing", "0.5", "--fps", "12")
    assert (code, said) == (0, f"aict: 4 frames in {tmp_path / 'out'}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "-o", "out.mp4"], "needs its masks"),
        (["clip.mp4", "still.png", "--masks", "still.png", "-o", "out.mp4"], "needs its masks"),
        (["clip.mp4", "still.png", "-o", "out.mp4", "--fps", "10"], "--fps goes with a folder of frames"),
        (["clip.mp4", "still.png", "-o", "out.mp4", "--overwrite"], "go with photos, not clips"),
        (
            ["still.png", "still.png", "-o", "out.png", "--smoothing", "1"],
            "--smoothing, --fps and --crf go with a video",
        ),
        (["clip.mp4", "still.png", "-o", "out.png"], r"out.png: cannot write .png"),
        (["none.mp4", "still.png", "-o", "out.mp4"], "none.mp4: no such file"),
    ],
)
def test_the_command_refuses_what_does_not_fit(arguments, message, run, clip, still, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = run(*arguments)
    assert code == 1
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.mp4").exists()


def test_without_pyav_the_command_says_how_to_get_it(run, clip, still, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, said = run(clip, still, "-o", tmp_path / "out.mp4")
    assert code == 1
    assert said.endswith("video needs PyAV; pip install 'aict_hf[video]'\n")


def test_a_stopped_run_leaves_nothing(clip, still, harmonizer, tmp_path):
    class Stopped:
        def predict_opened(self, photos):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as the command does
    try:
        with pytest.raises(SystemExit):
            harmonize_video(clip, still, tmp_path / "out.mp4", Stopped())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "out.mp4").exists()
    assert left_behind(tmp_path) == []
