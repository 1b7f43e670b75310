"""Time and memory of harmonizing one photo, as a command and inside a running process.

    python benchmarks/bench_harmonize.py

Prints a Markdown table. "Command" is the whole `aict harmonize` process, Python's start and the imports included, with
its peak resident memory; "inside" is what a process pays that has the model loaded: tensors in, tensors out.
Medians of several runs, with the lowest and the highest.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measuring import device_line, spread
from PIL import Image

from aict_hf.model.image_arrays import photo_arrays
from aict_hf.pretrained import load_checkpoint

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sizes", nargs="+", default=["1024x1024", "2048x2048", "5120x2880"], help="width x height")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
arguments = parser.parse_args()


def run_command(composite: Path, mask: Path, output: Path) -> tuple[float, float]:
    """Seconds, and peak resident memory in MiB, of one `aict harmonize`."""
    command = [sys.executable, "-m", "aict_hf", "harmonize", str(composite), str(mask), "-o", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, "--device", arguments.device], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, usage.ru_maxrss / 1024


device = torch.device(arguments.device)
model, processor = load_checkpoint(device=device)
print(f"{device_line(device)}, median of {arguments.runs} runs (lowest to highest)\n")
print("| photo, JPEG | foreground | command, s | peak memory, MiB | inside: resize and network, s | inside: LUTs, s |")
print("|---|---|---|---|---|---|")
with tempfile.TemporaryDirectory() as folder:
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        paths = [Path(folder) / f"{size}{suffix}" for suffix in (".jpg", "_mask.png", "_out.jpg")]
        photo = Image.open(EXAMPLES / "dandelion_composite.jpg").resize((width, height))
        mask = Image.open(EXAMPLES / "dandelion_mask.png").resize((width, height))
        photo.save(paths[0], quality=95)
        mask.save(paths[1])

        seconds, memory = zip(*[run_command(*paths) for _ in range(arguments.runs)], strict=True)

        network, luts = [], []
        rgb, foreground = (torch.from_numpy(array).to(device) for array in photo_arrays(photo, mask))
        for _ in range(arguments.runs + 1):  # the first one warms up
            start = time.perf_counter()
            with torch.inference_mode():
                outputs = model(**processor(rgb, foreground, return_tensors="pt"), return_harmonized=False)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                middle = time.perf_counter()
                processor.post_process_harmonization(outputs, rgb, foreground)
                if device.type == "cuda":
                    torch.cuda.synchronize()
            network.append(middle - start)
            luts.append(time.perf_counter() - middle)
        share = float((foreground > 0).float().mean())
        print(
            f"| {width} x {height} | {share:.0%} | {spread(seconds, 1)} | {spread(memory, 0)} "
            f"| {spread(network[1:], 3)} | {spread(luts[1:], 3)} |",
            flush=True,
        )
