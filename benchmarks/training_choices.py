"""What helps a small network learn to harmonize, and what does not: short trainings that differ in one choice each.

    python benchmarks/training_choices.py --data_dir POOL [POOL ...] --output out/training_choices

Each is `training/train.py --init_backbone` with `training/small.yaml` and few samples, and is measured on the two lists
of held-out photos. So few steps tell what is learnt faster, not what would be best in the end. Finished trainings stay
in the output folder: run the same command again to resume.
"""

import argparse
import csv
import json
import platform
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from measuring import save_table
from tqdm import tqdm

TRAINING = Path(__file__).resolve().parents[1] / "training"
CONFIG = yaml.safe_load((TRAINING / "small.yaml").read_text())


def network(**changed) -> list[str]:
    return ["--model_config", json.dumps(CONFIG["model_config"] | changed)]


def recoloring(**changed) -> list[str]:
    return ["--recoloring", json.dumps(CONFIG["recoloring"] | changed)]


CHOICES = {
    "as small.yaml": [],
    "EfficientNet-Lite1": ["--init_backbone", "efficientnet_lite1"],
    "EfficientNet-Lite2": ["--init_backbone", "efficientnet_lite2"],
    "no stage frozen": ["--frozen_stages", "0"],
    "five stages frozen": ["--frozen_stages", "5"],
    "no region statistics": network(color_statistics=False),
    "no dropout of region statistics": network(statistics_dropout_prob=0.0),
    "dropout 0.4 of region statistics": network(statistics_dropout_prob=0.4),
    "no weight decay": ["--weight_decay", "0"],
    "light the same everywhere": recoloring(light_probability=0.0),
    "no joint change": ["--joint_change", "0"],
    "no weaker changes": ["--weaker_change", "0"],
    "half of the samples harmonious": ["--harmonious", "0.5"],
    "references of any category": ["--same_category", "0"],
    "sources not balanced": ["--source_balance", "0"],
}
# Choices that need samples of their own; the others read the same ones.
MADE_ANEW = {"light the same everywhere", "references of any category", "sources not balanced"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True)
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--validation_samples", type=int, default=150, help="of each list")
parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="CHOICE")
arguments = parser.parse_args()

lines = [
    f"cpu ({platform.machine()}), torch {torch.__version__}; {arguments.steps} steps of {CONFIG['train_batch_size']}; "
    f"in-domain / out-of-domain, {arguments.validation_samples} composites each",
    "",
    "| choice | fMSE of the composite's | CIEDE2000 | not worse | no harm |",
    "|---|---|---|---|---|",
]
for choice in tqdm(arguments.choices, unit="training"):
    folder = arguments.output.resolve() / choice.replace(" ", "_")
    if not (folder / "model.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", TRAINING / "train.py"]
        samples = (folder if choice in MADE_ANEW else arguments.output.resolve()) / "samples"
        command += ["--config", TRAINING / "small.yaml", "--init_backbone", "efficientnet_lite0"]
        command += ["--train_data_dir", *(pool.resolve() for pool in arguments.data_dir)]
        command += ["--learning_rate", "1e-3", "--backbone_learning_rate", "3e-4", "--samples_dir", samples]
        command += ["--stored_samples", arguments.steps * CONFIG["train_batch_size"]]
        command += ["--max_train_steps", arguments.steps, "--validation_steps", arguments.steps]
        command += ["--num_validation_samples", arguments.validation_samples, "--output_dir", folder, *CHOICES[choice]]
        command += ["--resume_from_checkpoint", "latest"] if any(folder.glob("checkpoint-*")) else []
        with (folder / "output.txt").open("a") as output:
            subprocess.run(list(map(str, command)), check=True, cwd=TRAINING.parent, stdout=output, stderr=output)
    with (folder / "validation.csv").open(newline="") as file:
        measured = list(csv.DictReader(file))[-1]
    if int(measured["step"]) != arguments.steps:
        raise SystemExit(f"{folder}: was trained for {measured['step']} steps, not {arguments.steps}; remove it")
    cells = [
        " / ".join(f"{float(measured[f'{split}/{figure}']):{digits}}" for split in ("in_domain", "out_of_domain"))
        for figure, digits in (("of_composite", ".3f"), ("ciede2000", ".2f"), ("not_worse", ".2f"), ("no_harm", ".0f"))
    ]
    lines.append(f"| {choice} | {' | '.join(cells)} |")
save_table("\n".join(lines), arguments.output / "table.md")
