import fcntl
import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import write_pool
from forks import PATIENCE
from PIL import Image

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel

ROOT = Path(__file__).resolve().parents[1]
MODEL = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
COMMON = {
    "model_config": MODEL,
    "resolution": 32,
    "loss_points": 16,
    "stored_samples": 6,
    "train_batch_size": 2,
    "max_train_steps": 2,
    "num_validation_samples": 1,
    "dataloader_num_workers": 0,
    "checkpointing_steps": 1,
}
VARIANTS = {
    "ours": {"title": "Ours", "table": ["first", "second"]},
    "k-4": {"title": "K = 4", "table": "second", "model_config": {"num_intervals": 4}},
}


@pytest.fixture(scope="module")
def script():
    """training/ablations.py as a module."""
    sys.path.insert(0, str(ROOT / "training"))  # it imports train.py
    spec = importlib.util.spec_from_file_location("ablations", ROOT / "training" / "ablations.py")
    module = sys.modules["ablations"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "training"))
    del sys.modules["ablations"], sys.modules["train"]


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    write_pool(tmp_path / "pool", 6, 48, 64)
    (tmp_path / "held_out.txt").write_text("0.png\n1.png\n")

    def command(variants=VARIANTS, common=COMMON, /, **changes):
        """The arguments of ablations.py for these variants."""
        (tmp_path / "variants.yaml").write_text(
            yaml.safe_dump({"arguments": common, "variants": variants}, sort_keys=False)
        )
        arguments = {
            "variants": "variants.yaml",
            "dataset": "synthetic",
            "data_dir": "pool",
            "photos": "held_out.txt",
            "output_dir": "out",
        } | changes
        return [
            part
            for name, value in arguments.items()
            if value is not None
            for part in (f"--{name}", *(value if isinstance(value, list) else [str(value)]))
        ]

    return command


@pytest.fixture
def ablate(script, command, monkeypatch):
    def ablate(*arguments, **changes):
        monkeypatch.setattr(sys, "argv", ["ablations.py", *command(*arguments, **changes)])
        script.main()

    return ablate


def test_every_flag_has_a_help_text(script):
    flags = script.parser._actions
    assert len(flags) == 14
    assert [flag.dest for flag in flags if not flag.help] == []


@pytest.mark.slow  # two trainings and a measurement in processes of their own
def test_variants_are_trained_alike_and_measured_together(ablate, script, command, tmp_path, capsys):
    ablate()
    out = tmp_path / "out"
    text = (out / "tables.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith("2 variants, 2 steps, seeds 0, measured at resolution full\n")
    first, second = text.split("## Second: held_out")
    assert [name in first for name in ("composite", "Ours", "K = 4")] == [True, True, False]
    assert [name in second for name in ("composite", "Ours", "K = 4")] == [True, True, True]
    results = json.loads((out / "results.json").read_text())
    rows = pd.read_csv(out / "evaluation" / "held_out" / "per_image.csv")
    assert set(rows.image) == {"0.png", "1.png"}
    for name, variant in results["variants"].items():
        figures = variant["figures"]["held_out"]["fmse"]
        assert figures["mean"] == pytest.approx(rows[rows.method == f"{name}-seed0"].fmse.mean())
        log = pd.read_csv(out / "runs" / f"{name}-seed0" / "log.csv")
        assert list(log.step) == [1, 2]
    ours, fewer = (results["variants"][name]["parameters"] for name in ("ours", "k-4"))
    assert fewer < ours
    assert [path.name for path in (out / "samples").iterdir()] == ["seed0"]
    with Image.open(out / "tables.png") as picture:
        assert picture.width > 400

    made = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name.startswith(("model", "per_image"))}
    assert len(made) >= 3
    ablate()
    assert {path: path.stat().st_mtime_ns for path in made} == made
    ablate(only=["ours"], max_samples=1)
    assert "1 variants, 2 steps" in (out / "tables.md").read_text()
    with pytest.raises(script.InputError, match=r"ours-seed0: was begun with max_train_steps 2 \(now 3\);"):
        ablate(VARIANTS, COMMON | {"max_train_steps": 3})
    with pytest.raises(script.InputError, match=r"k-4-seed0: was begun with learning_rate None \(now 0.1\);"):
        ablate(VARIANTS | {"k-4": VARIANTS["k-4"] | {"arguments": {"learning_rate": 0.1}}})


@pytest.mark.slow  # a training in a process of its own
def test_ctrl_c_leaves_a_run_to_resume(command, script, tmp_path):
    arguments = command(VARIANTS, COMMON | {"checkpointing_steps": 100_000}, max_train_steps=100_000, only=["k-4"])
    process = subprocess.Popen(
        [sys.executable, ROOT / "training" / "ablations.py", *arguments], stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "out" / "runs" / "k-4-seed0"
    deadline = time.monotonic() + PATIENCE
    while script.last_step(run / "log.csv") < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said.endswith("ablations.py: interrupted; the same command goes on from here\n")
    assert "run 1 of 1, k-4-seed0" in said
    [checkpoint] = run.glob("checkpoint-*")
    assert int(checkpoint.name.rpartition("-")[2]) == script.last_step(run / "log.csv")
    with (run / "output.txt").open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing trains any more


@pytest.mark.slow  # a training in a process of its own
def test_a_run_that_fails_says_why(ablate, script):
    diverging = VARIANTS["k-4"] | {"arguments": {"learning_rate": 1e30}}
    with pytest.raises(script.InputError, match=r"k-4-seed0 ended with status 1: train.py: the loss is nan at step 2"):
        ablate({"k-4": diverging})


BAD_INPUT = [
    ({"only": ["k-5"]}, "k-5: no such variant or table; there are the variants ours, k-4 and the tables first, second"),
    ({"leave_out": ["first", "second"]}, "no variant is left"),
    ({"variants": "nowhere.yaml"}, "nowhere.yaml: cannot be read as YAML"),
    ({"config": "nowhere.yaml"}, "nowhere.yaml: cannot be read as YAML"),
    ({"data_dir": "nowhere"}, "metadata.csv: no such file"),
    ({"dataset": "iharmony4", "photos": None}, "holds no composite_images"),
    ({"dataset": "iharmony4"}, "--photos holds photos out"),
    ({"photos": None}, "--photos is missing"),
    ({"photos": ["held_out.txt", "./held_out.txt"]}, "lists of one name, held_out, held_out"),
    ({"photos": "typo.txt"}, "names 1 photos that no folder has"),
    ({"seeds": ["1", "1"]}, "--seeds has 1, 1; expected different ones"),
    ({"max_train_steps": 0}, "variant ours: --max_train_steps is 0; expected 1 or more"),
    ({"output_dir": "begun"}, "holds a run that ablations.py did not begin"),
]
BAD_VARIANTS = [
    ({"model_config": {"num_intervals": 1}}, "variant k-4: --model_config is not an AICT configuration .*at least 2"),
    (
        {"model_config": {"num_interval": 4}},
        "variant k-4: --model_config has num_interval; expected fields of AICTConfig",
    ),
    ({"model_config": 4}, "variant k-4: model_config is 4; expected a mapping"),
    ({"arguments": {"learning_rat": 1}}, "variant k-4: unknown arguments learning_rat; expected"),
    ({"arguments": {"learning_rate": "fast"}}, "variant k-4: .*invalid float value: 'fast'"),
    ({"arguments": {"init_encoder": "nothing"}}, "variant k-4: nothing: is not a bundled checkpoint"),
    ({"arguments": {"seed": 3}}, "variant k-4: sets seed, which ablations.py sets for all runs"),
    ({"arguments": {"max_train_steps": 3}}, "variant k-4: has max_train_steps in its arguments"),
    ({"arguments": {"flip": 0.1}}, "variant k-4: its data, samples, steps or batch differ from those of ours"),
    ({"tabel": "first"}, "variant k-4: has title, table, model_config, tabel; expected table"),
]


def test_bad_input_is_refused_before_anything_is_trained(ablate, script, tmp_path, monkeypatch):
    (tmp_path / "typo.txt").write_text("0.pgn\n")
    (tmp_path / "begun" / "runs" / "k-4-seed0" / "checkpoint-3").mkdir(parents=True)
    monkeypatch.setattr(script, "run_to_end", lambda *_, **__: pytest.fail("something was trained"))
    for changes, words in BAD_INPUT:
        with pytest.raises(script.InputError, match=words):
            ablate(**changes)
    for changes, words in BAD_VARIANTS:
        with pytest.raises(script.InputError, match=words):
            ablate(VARIANTS | {"k-4": VARIANTS["k-4"] | changes})


def test_train_accepts_the_shipped_variants(ablate, script, tmp_path, monkeypatch):
    """All of them, with the paper's arguments and with the small ones but the encoder of a tiny network."""
    source = tmp_path / "source"
    AICTModel(AICTConfig(**MODEL)).save_pretrained(source)
    AICTImageProcessor(size=32).save_pretrained(source)
    monkeypatch.setattr(script, "train_all", lambda *_: None)
    monkeypatch.setattr(script, "measure", lambda *_: pytest.fail("accepted"))
    small = yaml.safe_load((ROOT / "training" / "ablations_small.yaml").read_text())
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"model_config": MODEL}))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small | {"model_config": MODEL, "init_encoder": str(source)}))
    for config in ("tiny.yaml", "small.yaml"):
        with pytest.raises(pytest.fail.Exception, match="accepted"):
            ablate(variants=ROOT / "training" / "ablations.yaml", config=config)


def test_a_folder_that_another_process_trains_in_is_left_alone(script, tmp_path):
    log = tmp_path / "output.txt"
    with log.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(script.InputError, match="another process works on it"):
            script.run_to_end([sys.executable, "-c", "print(1)"], log)
    assert script.run_to_end([sys.executable, "-c", "print(1); exit(3)"], log) == 3
    assert log.read_text().endswith("\n1\n")


def test_the_config_file_overrides_the_common_arguments_and_a_variant_both(ablate, script, tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(script, "train_all", lambda planned, *_: runs.extend(planned))
    monkeypatch.setattr(script, "measure", lambda *_: pytest.fail("enough"))
    (tmp_path / "config.yaml").write_text(
        "{learning_rate: 0.2, ema_decay: 0.5, preset: , model_config: {hidden_size: 8}}\n"
    )
    common = COMMON | {"learning_rate": 0.1, "preset": "paper"}
    variants = VARIANTS | {"k-4": VARIANTS["k-4"] | {"arguments": {"learning_rate": 0.3}}}
    with pytest.raises(pytest.fail.Exception, match="enough"):
        ablate(variants, common, config="config.yaml", seeds=["0", "4"], max_train_steps=5)
    assert [run.folder.name for run in runs] == ["ours-seed0", "k-4-seed0", "ours-seed4", "k-4-seed4"]
    ours, fewer = (run.settings for run in runs[2:])
    assert (ours["learning_rate"], fewer["learning_rate"]) == (0.2, 0.3)
    assert fewer["model_config"] == MODEL | {"hidden_size": 8, "num_intervals": 4}
    for settings in (ours, fewer):
        assert (settings["seed"], settings["max_train_steps"], settings["ema_decay"]) == (4, 5, 0.5)
        assert "preset" not in settings


def test_tables_hold_means_and_spread_of_the_seeds(script, tmp_path):
    variant = script.Variant("a", "Row A", ["first"], {}, {})
    runs = [script.Run(variant, seed, tmp_path / f"a-seed{seed}", {}) for seed in (0, 1)]
    means = pd.DataFrame(
        {"fmse": [900, 300, 400], "mse": [90, 30.0, 32.0], "psnr": [20, 31.0, 32.0]},
        index=["composite", "a-seed0", "a-seed1"],
    )
    results = script.results_of(runs, {"a": 1_230_000}, {"held_out": means})
    text = script.text_of("head", results, {"held_out": means.loc["composite"].to_dict()})
    [row] = [line for line in text.splitlines() if "Row A" in line]
    cells = [part.strip() for part in row.strip("|").split("|")]
    assert cells == ["Row A", "1.23 M", "350.00 (300.00 to 400.00)", "31.00 (30.00 to 32.00)", "31.50 (31.00 to 32.00)"]
    assert "| composite | " in text
    script.draw(results, ["held_out"], tmp_path / "tables.png")
    with Image.open(tmp_path / "tables.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert (31, 119, 180) in colours  # the line that the seeds span


def test_the_last_step_of_a_log_that_is_being_written(script, tmp_path):
    log = tmp_path / "log.csv"
    assert script.last_step(log) == 0
    for text, step in (("step,loss\n", 0), ("step,loss\n1,0.5\n", 1), ("step,loss\n1,0.5\n2,0", 1)):
        log.write_text(text)
        assert script.last_step(log) == step


def test_the_error_of_the_script_is_shown_rather_than_that_of_its_launcher(script):
    assert (
        script.last_line("1 %\r2 %\ntrain.py: no photo\nsubprocess.CalledProcessError: failed\n\n")
        == "train.py: no photo"
    )
    assert script.last_line("1 %\r2 %\nKilled\n") == "Killed"
