import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import make_photo, photo_of_a_ball, save_small_checkpoint, write_coco_dataset, write_cutouts
from PIL import Image

from aict_hf import AICTModel, cli, pretrained
from aict_hf.compose.cutout import CUT_OUT_MODEL
from aict_hf.compose.paste import paste
from aict_hf.harmonize import runtime
from aict_hf.published import PublishedNetwork

BOTH_RUNTIMES = pytest.mark.parametrize("runtime_in_use", ["onnxruntime", "torch"], indirect=True)


@pytest.fixture(autouse=True)
def runtime_in_use(request, monkeypatch):
    """What runs the network: onnxruntime, unless a test that is marked BOTH_RUNTIMES has its turn with torch."""
    if getattr(request, "param", None) == "torch":
        monkeypatch.setattr(runtime, "onnx_obstacle", lambda folder: "the test asks for it")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo, mask = make_photo()
    Image.fromarray(photo).save("photo.png")
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(np.dstack([photo, mask])).save("cutout.png")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit code, and what it wrote to stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return stop.value.code or 0, captured.err, captured.out

    return run


def tinted(photo, mask):
    """The photo with a foreground that is far too red."""
    return np.where(mask[..., None] > 0, photo * np.array([1.0, 0.4, 0.2]), photo).astype(np.uint8)


def pixels(path):
    return np.asarray(Image.open(path))


@BOTH_RUNTIMES
def test_harmonize_writes_the_photo_with_a_changed_foreground(files, run):
    assert run("harmonize", "photo.png", "mask.png", "-o", "out.png")[0] == 0
    background = pixels("mask.png") == 0
    assert np.array_equal(pixels("out.png")[background], pixels("photo.png")[background])
    assert not np.array_equal(pixels("out.png"), pixels("photo.png"))


@BOTH_RUNTIMES
def test_strength_zero_is_the_composite(files, run):
    assert run("harmonize", "photo.png", "mask.png", "-o", "out.png", "--strength", "0")[0] == 0
    assert np.array_equal(pixels("out.png"), pixels("photo.png"))


@BOTH_RUNTIMES
def test_half_strength_lies_between(files, run):
    Image.fromarray(tinted(*make_photo())).save("photo.png")  # plainly wrong, so that the change is large
    for strength in ("0.5", "1"):
        assert run("harmonize", "photo.png", "mask.png", "-o", f"{strength}.png", "--strength", strength)[0] == 0
    photo, half, full = (pixels(name).astype(int) for name in ("photo.png", "0.5.png", "1.png"))
    assert np.abs(half - (photo + full) / 2).max() <= 1
    assert np.abs(full - photo).max() > 4


@BOTH_RUNTIMES
def test_alpha_is_the_mask_where_none_is_given(files, run):
    code, said, _ = run("harmonize", "cutout.png", "-o", "out.png")
    assert code == 0
    assert "cutout.png: nothing visible lies outside the foreground" in said
    assert np.array_equal(pixels("out.png")[..., 3], pixels("mask.png"))
    hidden = pixels("mask.png") == 0
    assert np.array_equal(pixels("out.png")[hidden], pixels("cutout.png")[hidden])
    assert not np.array_equal(pixels("out.png"), pixels("cutout.png"))


@BOTH_RUNTIMES
def test_inverted_masks(files, run):
    assert run("harmonize", "photo.png", "mask.png", "-o", "out.png", "--invert-mask")[0] == 0
    foreground = pixels("mask.png") == 255
    assert np.array_equal(pixels("out.png")[foreground], pixels("photo.png")[foreground])


@BOTH_RUNTIMES
def test_folders_are_resumed_and_failures_reported_at_the_end(files, run):
    for folder, source in (("photos", "photo.png"), ("masks", "mask.png")):
        (files / folder).mkdir()
        for name in ("a", "b"):
            (files / folder / f"{name}.png").write_bytes((files / source).read_bytes())
    (files / "photos" / "broken.png").write_bytes(b"no image")
    (files / "masks" / "broken.png").write_bytes((files / "mask.png").read_bytes())
    command = ("harmonize", "photos", "--masks", "masks", "-o", "out/deep")
    code, err, _ = run(*command)
    assert code == 1
    assert "photos/broken.png: is not an image" in err
    assert "2 written, 0 skipped as finished, 1 failed" in err
    first = (files / "out" / "deep" / "a.png").stat().st_mtime_ns
    assert "0 written, 2 skipped as finished, 1 failed" in run(*command)[1]
    assert (files / "out" / "deep" / "a.png").stat().st_mtime_ns == first
    assert "2 written, 0 skipped" in run(*command, "--overwrite")[1]
    assert (files / "out" / "deep" / "a.png").stat().st_mtime_ns != first


@BOTH_RUNTIMES
def test_folders_of_cut_outs_and_of_masks_beside_need_no_masks(files, run):
    (files / "in" / "day").mkdir(parents=True)
    for name, source in (("a", "cutout"), ("day/b", "photo"), ("day/b_mask", "mask")):
        (files / "in" / f"{name}.png").write_bytes((files / f"{source}.png").read_bytes())
    (files / "in" / "notes.txt").touch()
    code, err, _ = run("harmonize", "in", "-o", "out")
    left_out, no_background, counts = err.splitlines()
    assert (code, counts) == (0, "aict: 2 written, 0 skipped as finished, 0 failed")
    assert left_out == "aict: warning: in: left out 1 file of other kinds (.txt 1)"
    assert no_background.startswith("aict: warning: in/a.png: nothing visible lies outside the foreground")
    assert sorted(path.name for path in (files / "out").rglob("*.png")) == ["a.png", "b.png"]
    background = pixels("mask.png") == 0
    assert np.array_equal(pixels("out/day/b.png")[background], pixels("photo.png")[background])
    code, err, out = run("score", "in")
    assert (code, err.splitlines(), len(out.splitlines())) == (0, [left_out, no_background], 2)


@BOTH_RUNTIMES
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png", "mask.png"], "--output is missing"),
        (["nowhere.png", "mask.png", "-o", "out.png"], "nowhere.png: no such file"),
        (["photo.png", "nowhere.png", "-o", "out.png"], "nowhere.png: no such file"),
        (["photo.png", "small.png", "-o", "out.png"], "small.png: mask is 3 x 3, composite is 56 x 40; resize"),
        (["photo.png", "-o", "out.png"], "photo.png: no mask was given"),
        (["text.png", "mask.png", "-o", "out.png"], "text.png: is not an image"),
        (["half.png", "mask.png", "-o", "out.png"], "half.png: cannot be decoded"),
        (["empty.png", "mask.png", "-o", "out.png"], "empty.png: is empty"),
        (["photo.png", "mask.png", "-o", "out.xyz"], "out.xyz: cannot write .xyz"),
        (["photo.png", "mask.png", "-o", "nowhere/out.png"], "nowhere: no such folder"),
        (["photo.png", "mask.png", "-o", "photo.png"], "photo.png: is one of the inputs"),
        (["cutout.png", "-o", "out.jpg"], "out.jpg: JPEG cannot hold the alpha channel"),
        (["photo.png", "mask.png", "-o", "out.png", "--model", "nothing"], "nothing: is not a bundled checkpoint"),
        (["photo.png", "mask.png", "-o", "out.png", "--device", "warp"], "device warp cannot be used"),
        (["photo.png", "mask.png", "-o", "out.png", "--max-megapixels", "0.001"], "over the limit of 0.001"),
        (["photo.png", "mask.png", "-o", "out.png", "--masks", "masks"], "--masks goes with a folder"),
        (["photos", "-o", "out"], "give the folder of its masks with --masks"),
        (["photos", "mask.png", "-o", "out"], "give the folder of its masks with --masks"),
        (["photos", "--masks", "masks", "-o", "photos/out"], "photos/out: lies in photos, where the next run would"),
        (["photos", "--masks", "photos", "-o", "photos"], "photos: is one of the inputs"),
        (["folder", "--masks", "folder", "-o", "out"], "folder: holds no images"),
    ],
)
def test_bad_input_is_one_line_without_output(files, run, monkeypatch, arguments, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (files / "folder").mkdir()
    (files / "photos").mkdir()
    (files / "photos" / "a.png").write_bytes((files / "photo.png").read_bytes())
    Image.new("L", (3, 3), 255).save("small.png")
    (files / "text.png").write_text("no image")
    (files / "empty.png").touch()
    (files / "half.png").write_bytes((files / "photo.png").read_bytes()[:1000])
    before = {path: path.stat().st_mtime_ns for path in files.rglob("*")}
    code, err, _ = run("harmonize", *arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert words in err
    assert {path: path.stat().st_mtime_ns for path in files.rglob("*")} == before


@BOTH_RUNTIMES
def test_an_empty_mask_warns_and_writes(files, run):
    Image.new("L", (56, 40)).save("black.png")
    code, err, _ = run("harmonize", "photo.png", "black.png", "-o", "out.png")
    assert code == 0
    assert "warning: black.png: the mask has no foreground" in err
    assert np.array_equal(pixels("out.png"), pixels("photo.png"))


def test_convert_writes_a_loadable_folder(files, run, config):
    fields = (
        "image_size",
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "num_intervals",
        "decoder_channels",
    )
    (files / "config.json").write_text(json.dumps({name: getattr(config, name) for name in fields}))
    torch.save({"model": PublishedNetwork(config).state_dict()}, "authors.pth")
    assert run("convert", "authors.pth", "out", "--config", "config.json", "--dtype", "float16")[0] == 0
    assert AICTModel.from_pretrained(files / "out").config.hidden_size == config.hidden_size
    assert "exists already" in run("convert", "authors.pth", "out", "--config", "config.json")[1]
    assert "authors.pth: tensor encoder.patch_to_embedding.1.weight has shape" in run("convert", "authors.pth", "x")[1]
    (files / "config.json").write_text('{"patchsize": 4}')
    assert "unknown fields patchsize" in run("convert", "authors.pth", "x", "--config", "config.json")[1]
    (files / "config.json").write_text('{"patch_size": 5}')
    code, err, _ = run("convert", "authors.pth", "x", "--config", "config.json")
    assert code == 1
    assert "config.json: is no AICT configuration" in err
    assert not (files / "x").exists()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_folders_leave_no_partial_files(files, forks, sent, code):
    for folder, source in (("photos", "photo.png"), ("masks", "mask.png")):
        (files / folder).mkdir()
        for number in range(400):
            (files / folder / f"{number}.png").write_bytes((files / source).read_bytes())
    process = forks.start(["-m", "aict_hf", "harmonize", "photos", "--masks", "masks", "-o", "out"], files)
    while len(list((files / "out").glob("[0-9]*"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, sent)
    assert process.wait() == code
    err = process.err.read_text()
    assert "Traceback" not in err
    assert ("run the same command again" in err) == (sent == signal.SIGINT)
    written = list((files / "out").iterdir())
    assert 0 < len(written) < 400
    assert all(path.name[0].isdigit() for path in written)


def test_info_names_versions_device_and_checkpoints(run):
    code, _, out = run("info")
    assert code == 0
    for word in ("aict_hf ", "torch ", "transformers ", "device ", "checkpoint aict-small"):
        assert word in out


def test_quick_info_leaves_out_the_device(run):
    code, _, said = run("info", "--quick")
    assert code == 0
    assert "checkpoint aict-small" in said
    assert "device" not in said


@BOTH_RUNTIMES
@pytest.mark.parametrize(
    "arguments",
    [
        ("harmonize", "photo.png", "mask.png", "-o", "out.png"),
        ("compose", "cutout.png", "photo.png", "-o", "out.png"),
        ("score", "photo.png", "mask.png"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_verbose_names_the_runtime(files, run, request, arguments):
    code, said, _ = run(*arguments, "--verbose")
    assert code == 0
    if "onnxruntime" in request.node.callspec.id:
        assert "aict: the network runs in onnxruntime, the LUTs in numba, on the CPU" in said
    else:
        assert "aict: torch runs on " in said
        assert "because the test asks for it" in said


def test_module_and_command_are_the_same(files, forks):
    result = forks.run(["-m", "aict_hf", "harmonize", "photo.png", "nowhere.png", "-o", "out.png"], files)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == "aict: error: nowhere.png: no such file; check the path"


def test_export_writes_a_repository_or_graphs(tmp_path, run):
    assert run("export", "aict-small", tmp_path / "hub")[0] == 0
    assert (tmp_path / "hub" / "modeling_aict.py").is_file()
    small = save_small_checkpoint(tmp_path / "small")
    assert run("export", small, tmp_path / "graphs", "--format", "torch")[0] == 0
    assert (tmp_path / "graphs" / "apply_luts.pt2").is_file()


def test_a_cube_is_written_and_its_error_said(files, run):
    code, _, said = run("lut", "photo.png", "mask.png", "-o", "look.cube", "--size", "9")
    assert code == 0
    assert "differs from the full result by fMSE" in said
    assert len((files / "look.cube").read_text().splitlines()) == 4 + 9**3
    code, warned, _ = run("lut", "cutout.png", "-o", "alpha.cube", "--size", "9")
    assert code == 0
    assert "cutout.png: nothing visible lies outside the foreground" in warned


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "aict-huge", "out"), "aict-huge: is not a bundled checkpoint"),
        (("export", "aict-small", "photo.png"), "photo.png: exists already"),
        (("export", "aict-small", "out", "--private"), "--private and --create-pr go with --push"),
        (("export", "aict-small", "out", "--format", "onnx", "--push", "a/b"), "go with a model repository"),
        (("lut", "photo.png", "mask.png"), "--output is missing or no .cube file"),
        (("lut", "photo.png", "-o", "look.cube"), "photo.png: no mask was given"),
        (("lut", "nothing.png", "-o", "look.cube"), "nothing.png: no such file"),
        (("lut", "photo.png", "black.png", "-o", "look.cube"), "black.png: the mask has no foreground"),
        (("lut", "photo.png", "mask.png", "-o", "look.cube", "--model", "aict-huge"), "aict-huge: is not a bundled"),
    ],
)
def test_export_and_lut_refuse_bad_input_in_one_line(files, run, arguments, words):
    Image.new("L", (56, 40)).save("black.png")
    code, said, _ = run(*arguments)
    assert code == 1
    assert words in said
    assert not list(files.glob("out*")) + list(files.glob("*.cube"))


@BOTH_RUNTIMES
def test_compose_pastes_and_harmonizes(files, run):
    arguments = ("compose", "cutout.png", "photo.png", "--position", "30,20", "--scale", "0.5", "--rotation", "10")
    assert run(*arguments, "-o", "naive.png", "--naive", "--mask-out", "where.png")[0] == 0
    photo, mask = pixels("photo.png"), pixels("mask.png")
    expected = paste(photo, mask, photo, position=(30, 20), scale=0.5, rotation=10)
    assert np.array_equal(pixels("naive.png"), expected.image)
    assert np.array_equal(pixels("where.png"), expected.mask)
    assert run(*arguments, "-o", "out.png")[0] == 0
    assert run("harmonize", "naive.png", "where.png", "-o", "expected.png")[0] == 0
    assert np.array_equal(pixels("out.png"), pixels("expected.png"))
    assert not np.array_equal(pixels("out.png"), pixels("naive.png"))
    assert run("compose", "photo.png", "photo.png", "--mask", "mask.png", "-o", "centre.png", "--naive")[0] == 0
    assert np.array_equal(pixels("centre.png"), photo)  # onto itself


@BOTH_RUNTIMES
def test_compose_onto_gray_leaves_out_the_profile_of_gray(files, run):
    with Image.open("photo.png") as photo:
        photo.convert("L").save("gray.png", icc_profile=b"of gray")
    assert run("compose", "cutout.png", "gray.png", "-o", "out.png", "--naive")[0] == 0
    with Image.open("out.png") as out:
        assert out.mode == "RGB"
        assert "icc_profile" not in out.info


@BOTH_RUNTIMES
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cutout.png", "photo.png"], "--output is missing"),
        (["photo.png", "photo.png", "-o", "out.png"], "photo.png: no mask was given and the image has no alpha"),
        (["cutout.png", "photo.png", "-o", "out.png", "--position", "5"], "--position is '5'; expected two numbers"),
        (["cutout.png", "photo.png", "-o", "out.png", "--position", "-99,5"], "nothing of it lies in the photo"),
        (["cutout.png", "photo.png", "-o", "out.png", "--scale", "0"], "scale is 0.0; expected a finite number"),
        (["cutout.png", "photo.png", "-o", "cutout.png"], "cutout.png: is one of the inputs"),
        (["cutout.png", "photo.png", "-o", "out.png", "--mask-out", "photo.png"], "photo.png: is one of the inputs"),
        (
            ["cutout.png", "photo.png", "-o", "out.png", "--mask-out", "out.png"],
            "given for the picture and for the mask",
        ),
    ],
)
def test_compose_refuses_bad_input_in_one_line(files, run, arguments, words):
    code, err, _ = run("compose", *arguments)
    assert code == 1
    assert words in err
    assert not (files / "out.png").exists()


@BOTH_RUNTIMES
def test_compose_cuts_out_and_harmonizes(files, run, rembg_home):
    Image.fromarray(photo_of_a_ball()[0]).save("ball.png")
    cut = ("compose", "ball.png", "photo.png", "--cut-out", "--cut-out-model", "u2net")
    code, said, _ = run(*cut, "-o", "naive.png", "--naive", "--mask-out", "where.png")
    assert code == 0
    assert said.startswith("aict: ball.png: u2net cut out ")
    assert said.endswith("its soft edges are decontaminated\n")
    assert run(*cut, "-o", "out.png")[0] == 0
    assert run("harmonize", "naive.png", "where.png", "-o", "expected.png")[0] == 0
    assert np.array_equal(pixels("out.png"), pixels("expected.png"))
    assert not np.array_equal(pixels("out.png"), pixels("naive.png"))
    code, said, _ = run(*cut, "-o", "edges.png", "--naive", "--no-decontaminate")
    assert said.endswith("its soft edges keep their colours\n")
    assert not np.array_equal(pixels("edges.png"), pixels("naive.png"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.png", "--cut-out", "--mask", "mask.png"], "--cut-out finds the mask that --mask gives"),
        (["photo.png", "--cut-out-model", "u2net"], "--cut-out-model goes with --cut-out"),
        (["cutout.png", "--cut-out"], "cutout.png: is transparent in places already"),
        (["photo.png", "--cut-out", "--cut-out-model", "sam"], "sam: needs points or boxes of the object"),
        (["photo.png", "--cut-out"], "isnet-general-use.onnx is not in "),
    ],
)
def test_cutting_out_refuses_bad_input_in_one_line(files, run, rembg_home, monkeypatch, arguments, words):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody is there
    code, err, _ = run("compose", *arguments, "photo.png", "-o", "out.png", "--naive")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert words in err
    assert not (files / "out.png").exists()


def test_rembg_is_imported_for_cutting_out_alone(files, run):
    loaded = {name for name in sys.modules if name.split(".")[0] == "rembg"}
    assert run("compose", "cutout.png", "photo.png", "-o", "out.png", "--naive")[0] == 0
    assert {name for name in sys.modules if name.split(".")[0] == "rembg"} == loaded


def test_the_help_names_the_model_that_cuts_out(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert CUT_OUT_MODEL in run("compose", "--help")[2]


def test_augment_writes_a_dataset_and_goes_on(files, run):
    write_coco_dataset(files / "in")
    write_cutouts(files / "cutouts")
    command = ("augment", "in/annotations.json", "out", "--foregrounds", "cutouts", "--copies", 2, "--objects", "1,1")
    code, err, _ = run(*command, "--strengths", "0.7,1.0", "--block-size", 2)
    assert (code, err) == (0, "aict: 8 images in out (0 from an earlier run), 0 failed\n")
    assert len(json.loads((files / "out" / "annotations.json").read_text())["images"]) == 8
    assert "8 images in out (8 from an earlier run)" in run(*command, "--strengths", "0.7,1.0", "--block-size", 2)[1]
    code, err, _ = run(*command)
    assert code == 1
    assert "was begun with other settings (strengths, block_size)" in err
    (files / "in" / "images" / "1.jpg").write_bytes(b"no image")
    code, err, _ = run(*command[:2], "second", *command[3:], "--naive", "--format", "yolo")
    assert code == 1
    assert "1.jpg: is not an image" in err
    assert "6 images in second (0 from an earlier run), 2 failed" in err
    assert (files / "second" / "data.yaml").is_file()


def test_augment_refuses_bad_input_in_one_line(files, run):
    for arguments, words in (
        (("photo.png", "out", "--objects", "3"), "--objects is '3'; expected two whole numbers"),
        (("nowhere", "out"), "nowhere: no such file or folder"),
    ):
        code, err, _ = run("augment", *arguments)
        assert code == 1
        assert len(err.splitlines()) == 1
        assert words in err


def test_options_of_ray_need_ray(files, run):
    write_coco_dataset(files / "in")
    words = "go with --engine ray"
    assert words in run("harmonize", "photo.png", "mask.png", "-o", "out.png", "--workers", "2")[1]
    assert "goes with --engine ray" in run("augment", "in/annotations.json", "out", "--gpus-per-worker", "1")[1]


@pytest.mark.slow
def test_both_engines_of_both_commands_do_the_same(files):
    pytest.importorskip("ray")
    write_coco_dataset(files / "in")
    write_cutouts(files / "cutouts")
    for folder, source in (("photos", "photo.png"), ("masks", "mask.png")):
        (files / folder).mkdir()
        (files / folder / "a.png").write_bytes((files / source).read_bytes())
    for engine in ("local", "ray"):
        for command in (
            ("augment", "in/annotations.json", f"{engine}_augmented", "--foregrounds", "cutouts", "--block-size", "2"),
            ("harmonize", "photos", "--masks", "masks", "-o", f"{engine}_harmonized"),
        ):
            command = [sys.executable, "-m", "aict_hf", *command, "--engine", engine]
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            assert result.returncode == 0, result.stderr
    for name in ("augmented/annotations.json", "augmented/images/3_aug1.jpg", "augmented/augment.json"):
        assert (files / f"local_{name}").read_bytes() == (files / f"ray_{name}").read_bytes()
    here, there = (pixels(f"{engine}_harmonized/a.png").astype(int) for engine in ("local", "ray"))
    assert np.abs(here - there).max() <= 1  # with another number of threads


def two_composites(files):
    """A folder of a composite that fits, one that does not, one that is no image, and one without a mask."""
    photo, mask = make_photo()
    for folder in ("photos", "masks"):
        (files / folder).mkdir()
    for name, pixels_ in (("fits", photo), ("tinted", tinted(photo, mask))):
        Image.fromarray(pixels_).save(files / "photos" / f"{name}.png")
        Image.fromarray(mask).save(files / "masks" / f"{name}.png")
    (files / "photos" / "broken.png").write_bytes(b"no image")
    Image.fromarray(mask).save(files / "masks" / "broken.png")
    (files / "photos" / "alone.png").write_bytes((files / "photos" / "fits.png").read_bytes())


@BOTH_RUNTIMES
def test_score_lists_the_worst_first_and_writes_nothing_else(files, run):
    two_composites(files)
    before = set(files.rglob("*"))
    code, err, out = run("score", "photos", "--masks", "masks", "-o", "scores.csv")
    assert code == 1
    assert "photos/broken.png: is not an image" in err
    lines = [line.split() for line in out.splitlines()]
    assert len(lines) == 2
    assert float(lines[0][0]) > float(lines[1][0])
    assert set(files.rglob("*")) - before == {files / "scores.csv"}
    with (files / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["composite"] for row in rows[:2]] == [lines[0][1], lines[1][1]]
    assert {row["composite"] for row in rows[2:]} == {"photos/broken.png", "photos/alone.png"}
    assert float(rows[0]["disharmony"]) == pytest.approx(float(lines[0][0]), abs=0.01)
    code, err, out = run("score", lines[0][1], "masks/tinted.png")
    assert (code, err) == (0, "")
    assert out.split()[0] == lines[0][0]


@BOTH_RUNTIMES
def test_harmonize_reports_each_file(files, run):
    two_composites(files)
    command = ("harmonize", "photos", "--masks", "masks", "-o", "out", "--report", "report.csv")
    assert run(*command)[0] == 1
    with (files / "report.csv").open(newline="") as file:
        rows = {row["composite"]: row for row in csv.DictReader(file)}
    assert set(rows) == {f"photos/{name}.png" for name in ("fits", "tinted", "broken", "alone")}
    assert rows["photos/alone.png"]["error"].startswith("photos/alone.png: has no mask in masks")
    assert rows["photos/tinted.png"]["output"] == "out/tinted.png"
    assert "is not an image" in rows["photos/broken.png"]["error"]
    _, err, _ = run(*command)
    assert "report.csv: lists the 2 files of this run, not the 2 skipped ones" in err


@BOTH_RUNTIMES
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["score", "photos"], "give the folder of its masks with --masks"),
        (["score", "nowhere.png", "mask.png"], "nowhere.png: no such file"),
        (["score", "photo.png", "mask.png", "--masks", "masks"], "--masks goes with a folder"),
        (["score", "photo.png", "mask.png", "-o", "scores.txt"], "scores.txt: is not the name of a CSV file"),
        (["score", "photo.png", "mask.png", "-o", "nowhere/scores.csv"], "cannot be written"),
        (
            ["harmonize", "photo.png", "mask.png", "-o", "out.png", "--report", "out.png"],
            "is not the name of a CSV file",
        ),
        (["score", "photo.png"], "no mask was given"),
    ],
)
def test_scores_refuse_bad_input_in_one_line(files, run, arguments, words):
    (files / "photos").mkdir()
    (files / "photos" / "a.png").write_bytes((files / "photo.png").read_bytes())
    before = set(files.rglob("*"))
    code, err, out = run(*arguments)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert words in err
    assert set(files.rglob("*")) == before


def test_augment_says_how_many_objects_fit_too_badly(files, run):
    write_coco_dataset(files / "in")
    write_cutouts(files / "cutouts")
    command = ("augment", "in/annotations.json", "out", "--foregrounds", "cutouts", "--objects", "1,1")
    code, err, _ = run(*command, "--max-disharmony", "0")
    assert code == 0
    assert "aict: 4 objects left out, with a disharmony above 0\n" in err


def test_streams_stand_for_files(files, run, monkeypatch, model, processor):
    monkeypatch.setattr(pretrained, "DEFAULT_CHECKPOINT", str(files / "model"))
    model.save_pretrained(files / "model")
    processor.save_pretrained(files / "model")
    Image.open("photo.png").save("photo.jpg", quality=90)
    assert run("harmonize", "photo.jpg", "mask.png", "-o", "file.jpg")[0] == 0
    sent = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((files / "photo.jpg").read_bytes())))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", sent)
        code, err, _ = run("harmonize", "-", "mask.png", "-o", "-")
    assert (code, err) == (0, "")
    assert sent.buffer.getvalue() == (files / "file.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no image")))
    code, err, _ = run("harmonize", "-", "mask.png", "-o", "out.jpg")
    assert (code, err.splitlines()[0][:48]) == (1, "aict: error: standard input: is not an image of ")
    assert "holds one file" in run("harmonize", "-", "-", "-o", "out.jpg")[1]
    for options in (("--workers", "2"), ("--overwrite",), ("--gpus-per-worker", "1"), ("--masks", "masks")):
        code, err, _ = run("harmonize", "-", "mask.png", "-o", "out.png", *options)
        assert code == 1
        assert "- goes with one photo, and without --masks" in err
    assert not (files / "out.png").exists()


@BOTH_RUNTIMES
def test_weights_of_the_authors_are_to_be_converted_first(files, run):
    (files / "AICT.pth").touch()
    code, err, _ = run("harmonize", "photo.png", "mask.png", "-o", "out.png", "--model", "AICT.pth")
    assert code == 1
    assert "aict convert AICT.pth FOLDER" in err
