"""What helps a small network learn to harmonize, and what does not: short trainings that differ in one choice each.

    python benchmarks/training_choices.py --data_dir train_pool train_pool_2 --output out/training_choices

Each is `training/train.py` with `training/small.yaml` at 64 pixels, from nothing, and is measured on the two lists of
held-out photos. So few steps tell what is learnt faster, not what would be best in the end. Finished trainings are kept
in the output folder: interrupt it, and it goes on.
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
    return ["--model_config", json.dumps(CONFIG["model_config"] | {"image_size": 64} | changed)]


CHOICES = {
    "as small.yaml": network(),
    "sources balanced by the root of their size": [*network(), "--source_balance", "0.5"],
    "borrowed (20 %) and inverted (6 %) masks": [*network(), "--borrowed_mask", "0.2", "--inverted_mask", "0.06"],
    "no colour statistics": network(color_statistics=False),
    "no change of the whole scene": [*network(), "--scene_change", "0"],
    "no harmonious composites": [*network(), "--harmonious", "0"],
    "objects only, no stuff": [*network(), "--photo_kinds", "object"],
    "4 layers of width 384": network(hidden_size=384, num_hidden_layers=4, intermediate_size=768),
    "16 layers of width 192": network(hidden_size=192, num_hidden_layers=16, intermediate_size=384),
    "dropout 0.1": network(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1),
    "no average of the weights (EMA)": [*network(), "--ema_decay", "0"],
    "no weight decay": [*network(), "--weight_decay", "0"],
    "post-norm, as published": network(norm_first=False),
    "patches of 8": network(patch_size=8, decoder_stride=2),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True)
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--validation_samples", type=int, default=150, help="of each list")
parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES), metavar="CHOICE")
arguments = parser.parse_args()

lines = [
    f"cpu ({platform.machine()}), torch {torch.__version__}; {arguments.steps} steps of {CONFIG['train_batch_size']}; "
    f"in-domain / out-of-domain, {arguments.validation_samples} composites each",
    "",
    "| choice | fMSE of the composite's | not worse | no harm |",
    "|---|---|---|---|",
]
for choice in tqdm(arguments.choices, unit="training"):
    folder = arguments.output.resolve() / choice.replace(" ", "_")
    if not (folder / "model.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", TRAINING / "train.py"]
        command += ["--config", TRAINING / "small.yaml", "--resolution", "64"]
        command += ["--train_data_dir", *(pool.resolve() for pool in arguments.data_dir)]
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
        for figure, digits in (("of_composite", ".3f"), ("not_worse", ".2f"), ("no_harm", ".0f"))
    ]
    lines.append(f"| {choice} | {' | '.join(cells)} |")
save_table("\n".join(lines), arguments.output / "table.md")
