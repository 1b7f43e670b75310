"""Train variants of the network alike, measure them on the same composites, and make the paper's ablation tables.

With iHarmony4, at the paper's length (one variant and seed takes as long as training/train.py --preset paper):

    python training/ablations.py --dataset iharmony4 --data_dir iHarmony4 --resolution 256 --seeds 0 1 \
        --launcher "accelerate launch" --output_dir out/ablations

With a pool of photos with masks, on a CPU, from the encoder of the bundled checkpoint:

    python training/ablations.py --config training/ablations_small.yaml --dataset synthetic --data_dir POOL [POOL ...] \
        --photos training/splits/in_domain.txt training/splits/out_of_domain.txt --leave_out "loss over whole photos" \
        --seeds 0 1 --launcher "accelerate launch --cpu" --output_dir out/ablations

All variants of a seed have the same data, the same seed and the same number of steps, and share their stored samples.
Each run has a folder in `runs`, with its output in `output.txt`. After an interruption the same command goes on:
finished runs are kept, begun ones resume. Several processes can share an output folder if they train other variants or
seeds (`--only`). Writes `tables.md` (also printed), `results.json` and `tables.png`: means over the seeds, and the
smallest and largest.
"""

import argparse
import contextlib
import fcntl
import functools
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import train
import transformers
import yaml
from tqdm import tqdm

mpl.use("agg")
from matplotlib import pyplot as plt

from aict_hf.data.photos import read_iharmony4
from aict_hf.errors import InputError, one_line
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool

FOLDER = Path(__file__).resolve().parent
METRICS = {"fmse": "fMSE", "mse": "MSE", "psnr": "PSNR"}
PARTS = (train.RunArguments, train.DataArguments, train.SampleOptions, train.NetworkArguments)
KNOWN = {argument.name for part in (*PARTS, train.OptimizationArguments) for argument in fields(part)}
# The arguments of training/train.py that this script sets itself.
SET_HERE = {
    *("config", "output_dir", "samples_dir", "resume_from_checkpoint", "push_to_hub"),
    *("dataset", "dataset_name", "train_data_dir", "validation_photos", "validation_data_dir", "seed"),
}
# The arguments that a begun run may change: they change no result.
FREE = {
    *("checkpointing_steps", "checkpoints_total_limit", "dataloader_num_workers", "max_broken_files", "report_to"),
    *("validation_steps", "num_validation_samples", "keep_photos"),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--variants",
    type=Path,
    default=FOLDER / "ablations.yaml",
    metavar="YAML",
    help="file with the variants and the arguments of all of them (default: ablations.yaml beside this script)",
)
parser.add_argument(
    "--config",
    type=Path,
    metavar="YAML",
    help="file with arguments of training/train.py for all variants, which override those in --variants",
)
parser.add_argument(
    "--only", nargs="+", metavar="NAME", help="names of variants or of tables to train and measure; by default all"
)
parser.add_argument(
    "--leave_out", nargs="+", default=[], metavar="NAME", help="names of variants or of tables to leave out"
)
parser.add_argument(
    "--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="one run of each variant for each (default: 0)"
)
parser.add_argument(
    "--max_train_steps", type=int, metavar="N", help="number of steps of each run; by default as the files say"
)
parser.add_argument(
    "--launcher",
    default=shlex.quote(sys.executable),
    metavar="COMMAND",
    help='what runs training/train.py, such as "accelerate launch --num_processes 2"; by default this Python',
)
parser.add_argument(
    "--dataset",
    choices=["iharmony4", "synthetic"],
    required=True,
    help="iharmony4 trains and measures on its composites; synthetic makes composites from real photos with masks",
)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True, metavar="FOLDER", help="folders of the dataset")
parser.add_argument(
    "--photos",
    nargs="+",
    type=Path,
    default=[],
    metavar="LIST",
    help="synthetic: text files with names of photos, one a line, that are measured and not trained on",
)
parser.add_argument(
    "--resolution",
    choices=["256", "1024", "2048", "full"],
    default="full",
    help="size at which the results are measured, as in training/evaluate.py (default: %(default)s)",
)
parser.add_argument(
    "--max_samples", type=int, metavar="N", help="measure only N samples of each list; by default all are measured"
)
parser.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="folder for runs and tables")


@dataclass(frozen=True)
class Variant:
    """One row of the tables.

    Attributes:
        name: of the variant.
        title: what the tables call it.
        tables: the tables that show it.
        model_config: its fields of AICTConfig.
        arguments: its arguments of training/train.py.
    """

    name: str
    title: str
    tables: list[str]
    model_config: dict[str, Any]
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed.

    Attributes:
        variant: what is trained.
        seed: of the training.
        folder: where it is trained.
        settings: the arguments of training/train.py.
    """

    variant: Variant
    seed: int
    folder: Path
    settings: dict[str, Any]

    @property
    def finished(self) -> bool:
        return (self.folder / "README.md").is_file()  # what train.py writes last


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a mapping, such as `learning_rate: 1.0e-4`")
    return values


def check_arguments(where: str, arguments: object) -> dict[str, Any]:
    """Arguments of training/train.py as a file has them."""
    if not isinstance(arguments, dict):
        raise InputError(f"{where}: arguments are {arguments}; expected a mapping")
    unknown = sorted(map(str, arguments.keys() - KNOWN))
    if unknown:
        raise InputError(f"{where}: unknown arguments {', '.join(unknown)}; expected those of training/train.py")
    refused = sorted(SET_HERE & arguments.keys())
    if refused:
        raise InputError(f"{where}: sets {', '.join(refused)}, which ablations.py sets for all runs; omit that")
    if not isinstance(arguments.get("model_config", {}), dict):
        raise InputError(f"{where}: model_config is {arguments['model_config']}; expected a mapping")
    return arguments


def read_variants(path: Path) -> tuple[dict[str, Any], list[Variant]]:
    """The common arguments and the variants of a file."""
    content = read_yaml(path)
    unknown = sorted(map(str, content.keys() - {"arguments", "variants"}))
    entries = content.get("variants")
    if unknown or not isinstance(entries, dict) or not entries:
        found = f"has {', '.join(unknown)}" if unknown else "has no variants"
        raise InputError(f"{path}: {found}; expected a mapping `variants` and, if needed, one `arguments`")
    variants = []
    for name, entry in entries.items():
        where = f"{path}, variant {name}"
        if not re.fullmatch(r"[\w.-]+", str(name)):
            raise InputError(f"{where}: names a folder; expected letters, digits, dots, - and _")
        known = {"title", "table", "model_config", "arguments"}
        if not isinstance(entry, dict) or "table" not in entry or not entry.keys() <= known:
            found = ", ".join(map(str, entry)) if isinstance(entry, dict) else entry
            raise InputError(f"{where}: has {found}; expected table and, if needed, {', '.join(sorted(known))}")
        tables = entry["table"] if isinstance(entry["table"], list) else [entry["table"]]
        own = check_arguments(where, entry.get("arguments", {}))
        for refused in ("model_config", "max_train_steps"):
            if refused in own:
                raise InputError(f"{where}: has {refused} in its arguments; expected it beside them or not at all")
        config = check_arguments(where, {"model_config": entry.get("model_config", {})})["model_config"]
        variants.append(Variant(str(name), str(entry.get("title", name)), list(map(str, tables)), config, own))
    return check_arguments(str(path), content.get("arguments", {})), variants


def choose(variants: list[Variant], only: list[str] | None, leave_out: list[str]) -> list[Variant]:
    """The variants of --only and --leave_out, each in the chosen tables that show it."""
    names = [variant.name for variant in variants]
    tables = list(dict.fromkeys(table for variant in variants for table in variant.tables))
    for name in (*(only or ()), *leave_out):
        if name not in (*names, *tables):
            raise InputError(
                f"{name}: no such variant or table; there are the variants {', '.join(names)} and the tables "
                f"{', '.join(tables)}"
            )
    chosen = []
    for variant in variants:
        if variant.name in leave_out:
            continue
        wanted = [table for table in variant.tables if only is None or variant.name in only or table in only]
        wanted = [table for table in wanted if table not in leave_out]
        if wanted:
            chosen.append(replace(variant, tables=wanted))
    if not chosen:
        raise InputError("no variant is left; change --only or --leave_out")
    return chosen


def plan_runs(arguments: argparse.Namespace, common: dict[str, Any], variants: list[Variant]) -> list[Run]:
    """All runs, seed by seed: an early end leaves every variant with the same seeds."""
    own: dict[str, Any] = {
        "dataset": arguments.dataset,
        "train_data_dir": [str(folder.absolute()) for folder in arguments.data_dir],
    }
    if arguments.photos:
        own["validation_photos"] = [str(path.absolute()) for path in arguments.photos]
    if arguments.max_train_steps is not None:
        own["max_train_steps"] = arguments.max_train_steps
    runs = []
    for seed in arguments.seeds:
        for variant in variants:
            config = common.get("model_config", {}) | variant.model_config
            settings = common | variant.arguments | own | {"seed": seed, "model_config": config}
            settings = {name: value for name, value in settings.items() if value is not None}
            runs.append(Run(variant, seed, arguments.output_dir / "runs" / f"{variant.name}-seed{seed}", settings))
    return runs


def train_command(run: Run, launcher: str) -> list[str]:
    folders = ["--output_dir", str(run.folder), "--resume_from_checkpoint", "latest"]
    if run.settings.get("stored_samples"):
        folders += ["--samples_dir", str(run.folder.parents[1] / "samples" / f"seed{run.seed}")]
    return [*shlex.split(launcher), str(FOLDER / "train.py"), *train.flags_of(run.settings), *folders]


def check_data(arguments: argparse.Namespace) -> None:
    """Refuse data that training or measuring could not read."""
    stems = [path.stem for path in arguments.photos]
    if arguments.dataset == "iharmony4":
        if arguments.photos:
            raise InputError("--photos holds photos out; omit it with --dataset iharmony4, which has test lists")
        for split in ("train", "test"):
            read_iharmony4(arguments.data_dir, split)
        return
    if not stems:
        raise InputError("--photos is missing; expected lists of photos to measure, which are then not trained on")
    if len(set(stems)) < len(stems):
        raise InputError(f"--photos has lists of one name, {', '.join(stems)}; rename one")
    photos = read_photo_pool(arguments.data_dir)
    for path in arguments.photos:
        photos_named_in(path, photos)


def check_variants(runs: list[Run]) -> tuple[dict[str, int], int]:
    """Build every network, so that a mistake shows before anything is trained.

    Args:
        runs: one of each variant.
    Returns:
        the number of parameters of each variant, and the number of steps of a run.
    Raises:
        InputError: if train.py would refuse a variant, or variants would not be trained alike.
    """
    parameters: dict[str, int] = {}
    first: tuple[Any, ...] | None = None
    for run in runs:
        name = run.variant.name
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                _, data, options, network, optimization = train.parse_arguments(train_command(run, "")[1:])
            model, _ = train.make_network(network)
            train.input_size(model, options)
            train.parameter_groups(model, network, optimization)
        except SystemExit as stop:  # argparse
            raise InputError(f"variant {name}: {said.getvalue().strip().splitlines()[-1]}") from stop
        except InputError as error:
            raise InputError(f"variant {name}: {error}") from error
        steps, batch = optimization.max_train_steps, optimization.train_batch_size
        alike = (data, options, steps, batch, optimization.gradient_accumulation_steps)
        if first is None:
            first = alike
        if alike != first:
            raise InputError(
                f"variant {name}: its data, samples, steps or batch differ from those of {runs[0].variant.name}; "
                "variants must be trained alike"
            )
        parameters[name] = sum(parameter.numel() for parameter in model.parameters())
    return parameters, steps


def check_begun(run: Run, launcher: str) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    path = run.folder / "settings.json"
    if not path.is_file():
        if train.checkpoints(run.folder) or run.finished:
            raise InputError(f"{run.folder}: holds a run that ablations.py did not begin; choose another --output_dir")
        return
    begun = json.loads(path.read_text(encoding="utf-8"))
    now = run.settings | {"launcher": launcher}
    changed = sorted(name for name in begun.keys() | now.keys() if begun.get(name) != now.get(name))
    words = [f"{name} {begun.get(name)} (now {now.get(name)})" for name in changed if name not in FREE]
    if words:
        raise InputError(
            f"{run.folder}: was begun with {', '.join(words)}; use the same settings, choose another --output_dir, or "
            "remove that folder"
        )


def run_to_end(
    command: Sequence[str], log: Path, *, stderr: int | None = subprocess.STDOUT, watch: Callable[[], object] = int
) -> int:
    """Run a command, whose output goes to a log file; its exit status.

    Ctrl-C is passed on once, and waits for the command's end: it may be saving a checkpoint.

    Args:
        command: program and arguments.
        log: file that the output is added to. It is locked for as long as the command or a child of it runs.
        stderr: where standard error goes; None shows it.
        watch: called every second.
    Raises:
        InputError: if another process has locked the log.
    """
    with log.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{log.parent}: another process works on it; wait for its end, or end it") from error
        file.write(f"{shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=stderr, start_new_session=True
        )
        try:
            while True:
                try:
                    return process.wait(timeout=1)
                except subprocess.TimeoutExpired:
                    watch()
        except KeyboardInterrupt:
            print("\nstopping; a second Ctrl-C does not wait for the checkpoint", file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait()
            file.close()
            with log.open("rb") as again:  # a launcher ends before the training that it has launched
                fcntl.flock(again, fcntl.LOCK_EX)
            raise


def last_step(path: Path) -> int:
    """The last step in a log.csv, of which the last line may be half written."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().split(b"\n")[:-1]
    number = lines[-1].split(b",")[0] if lines else b""
    return int(number) if number.isdigit() else 0


def last_line(text: str) -> str:
    """The error of a script, or else the last line; a launcher's own error may follow the script's."""
    lines = [line for line in text.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if line.startswith("train.py: ")), lines[-1] if lines else "no output"
    )


def show_progress(bar: tqdm, before: int, log: Path) -> None:
    """Show the steps of finished runs and those in the log.csv of the present one."""
    new = before + last_step(log) - bar.n
    if new > 0:
        bar.update(new)


def train_all(runs: list[Run], steps: int, launcher: str) -> None:
    """Train what is not finished yet."""
    open_runs = [run for run in runs if not run.finished]
    done = steps * (len(runs) - len(open_runs))
    with tqdm(total=steps * len(runs), initial=done, unit="step", disable=not open_runs) as bar:
        for run in open_runs:
            writable_folder(run.folder)
            log = run.folder / "output.txt"
            bar.set_description(f"run {runs.index(run) + 1} of {len(runs)}, {run.folder.name}")
            with atomic_file(run.folder / "settings.json") as partial:
                partial.write_text(json.dumps(run.settings | {"launcher": launcher}, indent=1))
            written = log.stat().st_size if log.exists() else 0
            watch = functools.partial(show_progress, bar, done, run.folder / "log.csv")
            status = run_to_end(train_command(run, launcher), log, watch=watch)
            if not run.finished:
                said = last_line(log.read_bytes()[written:].decode(errors="replace"))
                raise InputError(f"{run.folder.name} ended with status {status}: {said}; its output is in {log}")
            watch()
            done += steps


def measure(runs: list[Run], arguments: argparse.Namespace, photos: Path | None) -> pd.DataFrame:
    """The mean figures of each run on one list, by the name of its folder, and of the composites."""
    folder = arguments.output_dir / "evaluation" / (photos.stem if photos else "iharmony4")
    command = [sys.executable, str(FOLDER / "evaluate.py"), "--dataset", arguments.dataset]
    command += ["--data_dir", *(str(path.absolute()) for path in arguments.data_dir)]
    command += [] if photos is None else ["--photos", str(photos.absolute())]
    command += [] if arguments.max_samples is None else ["--max_samples", str(arguments.max_samples)]
    command += ["--resolution", arguments.resolution, "--model", *(str(run.folder) for run in runs)]
    command += ["--output_dir", str(folder)]
    times = [(run.folder / "model.safetensors").stat().st_mtime_ns for run in runs]
    state = {"command": command, "models_of": times}
    noted = folder / "measured.json"
    if not noted.is_file() or json.loads(noted.read_text()) != state:
        writable_folder(folder)
        noted.unlink(missing_ok=True)
        print(f"measuring {len(runs)} networks on {folder.name}", file=sys.stderr)
        if run_to_end(command, folder / "output.txt", stderr=None):
            raise InputError(f"evaluate.py failed on {folder.name}; the lines above say why")
        with atomic_file(noted) as partial:
            partial.write_text(json.dumps(state))
    return pd.read_csv(folder / "per_image.csv").groupby("method")[list(METRICS)].mean()


def results_of(
    runs: list[Run], parameters: dict[str, int], measured: dict[str, pd.DataFrame]
) -> dict[str, dict[str, Any]]:
    """For each variant, its figures on each list: mean over the seeds, smallest, largest and all."""
    results: dict[str, dict[str, Any]] = {}
    for name, count in parameters.items():
        own = [run for run in runs if run.variant.name == name]
        figures: dict[str, dict[str, Any]] = {}
        for photos, means in measured.items():
            part = means.loc[[run.folder.name for run in own]]
            figures[photos] = {
                metric: {
                    "mean": float(part[metric].mean()),
                    "smallest": float(part[metric].min()),
                    "largest": float(part[metric].max()),
                    "seeds": part[metric].tolist(),
                }
                for metric in METRICS
            }
        variant = own[0].variant
        results[name] = {"title": variant.title, "tables": variant.tables, "parameters": count, "figures": figures}
    return results


def cell(figures: dict[str, Any]) -> str:
    mean, low, high = (f"{figures[name]:.2f}" for name in ("mean", "smallest", "largest"))
    return mean if len(figures["seeds"]) == 1 else f"{mean} ({low} to {high})"


def text_of(header: str, results: dict[str, dict[str, Any]], composites: dict[str, dict[str, float]]) -> str:
    """The tables in Markdown, one for each table and list."""
    parts = [header]
    for table in tables_of(results):
        for photos, unchanged in composites.items():
            rows = [{"variant": "composite", "parameters": ""}]
            rows[0] |= {title: f"{unchanged[metric]:.2f}" for metric, title in METRICS.items()}
            for row in results.values():
                if table in row["tables"]:
                    figures = row["figures"][photos]
                    cells = {title: cell(figures[metric]) for metric, title in METRICS.items()}
                    rows.append({"variant": row["title"], "parameters": f"{row['parameters'] / 1e6:.2f} M"} | cells)
            shown = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
            parts.append(f"## {table[:1].upper()}{table[1:]}: {photos}\n\n{shown}")
    return "\n\n".join(parts) + "\n"


def tables_of(results: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(table for row in results.values() for table in row["tables"]))


def draw(results: dict[str, dict[str, Any]], photos: list[str], path: Path) -> None:
    """The fMSE of each variant: its mean, the figures of its seeds and the line that they span."""
    tables = tables_of(results)
    groups = [[row for row in results.values() if table in row["tables"]] for table in tables]
    heights = [len(rows) + 2 for rows in groups]
    figure, panels = plt.subplots(
        len(tables),
        len(photos),
        figsize=(3 + 3.5 * len(photos), 0.28 * sum(heights) + 0.8),
        height_ratios=heights,
        squeeze=False,
        sharex="col",
        sharey="row",
        dpi=110,
        layout="constrained",
    )
    for table, rows, line in zip(tables, groups, panels, strict=True):
        for name, axes in zip(photos, line, strict=True):
            for place, row in enumerate(rows):
                figures = row["figures"][name]["fmse"]
                axes.plot([figures["smallest"], figures["largest"]], [place, place], color="C0", linewidth=1.5)
                axes.plot(figures["seeds"], [place] * len(figures["seeds"]), "o", color="C0", markersize=4, alpha=0.5)
                axes.plot(figures["mean"], place, "|", color="black", markersize=11)
            axes.axvline(rows[0]["figures"][name]["fmse"]["mean"], color="black", linewidth=0.6, linestyle="--")
            axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_title(f"{table}\n{name}", fontsize="medium")
            axes.grid(axis="x", alpha=0.3)
    figure.supxlabel("fMSE, lower is better; dots are seeds, bars their means", fontsize="medium")
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    arguments = parser.parse_args()
    arguments.output_dir = arguments.output_dir.absolute()
    if len(set(arguments.seeds)) < len(arguments.seeds):
        raise InputError(f"--seeds has {', '.join(map(str, arguments.seeds))}; expected different ones")
    common, variants = read_variants(arguments.variants)
    if arguments.config is not None:
        over = check_arguments(str(arguments.config), read_yaml(arguments.config))
        config = common.get("model_config", {}) | over.get("model_config", {})
        common = common | over | {"model_config": config}
    variants = choose(variants, arguments.only, arguments.leave_out)
    check_data(arguments)
    runs = plan_runs(arguments, common, variants)
    transformers.utils.logging.disable_progress_bar()
    parameters, steps = check_variants(runs[: len(variants)])
    for run in runs:
        check_begun(run, arguments.launcher)
    writable_folder(arguments.output_dir)

    train_all(runs, steps, arguments.launcher)
    lists: dict[str, Path | None] = {path.stem: path for path in arguments.photos} or {"iHarmony4": None}
    measured = {name: measure(runs, arguments, path) for name, path in lists.items()}
    results = results_of(runs, parameters, measured)
    composites = {name: means.loc["composite"].to_dict() for name, means in measured.items()}
    seeds = ", ".join(map(str, arguments.seeds))
    spread = "" if len(arguments.seeds) == 1 else "; means over the seeds, in brackets the smallest and the largest"
    text = text_of(
        f"{len(results)} variants, {steps} steps, seeds {seeds}, measured at resolution {arguments.resolution}{spread}",
        results,
        composites,
    )
    content = {
        "dataset": arguments.dataset,
        "resolution": arguments.resolution,
        "max_samples": arguments.max_samples,
        "steps": steps,
        "seeds": arguments.seeds,
        "arguments": common,
        "composites": composites,
        "variants": results,
    }
    with atomic_file(arguments.output_dir / "tables.md") as partial:
        partial.write_text(text)
    with atomic_file(arguments.output_dir / "results.json") as partial:
        partial.write_text(json.dumps(content, indent=1))
    with atomic_file(arguments.output_dir / "tables.png") as partial:
        draw(results, list(measured), partial)
    print(text)
    print(f"wrote {arguments.output_dir}")


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    try:
        main()
    except InputError as error:
        raise SystemExit(f"ablations.py: {error}") from error
    except KeyboardInterrupt:
        print("ablations.py: interrupted; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
