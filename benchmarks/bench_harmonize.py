"""Time and memory of harmonizing photos: as a command by runtime, and inside a running process.

    python benchmarks/bench_harmonize.py

Prints three Markdown tables. A "command" is a whole `aict harmonize` process, Python's start and the imports included,
with its peak resident memory: in onnxruntime and numba (the extra `fast`), and in torch, which `--device cpu:0` asks
for. The second table says what a process costs that does less, so that the ratios hold on other machines. "Inside" is
what a process pays that has the model loaded: tensors in, tensors out. The ways take turns. Figures are medians of
several runs, with the lowest and the highest.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measuring import device_line, spread
from PIL import Image
from tqdm import tqdm

from aict_hf.model.image_arrays import photo_arrays
from aict_hf.pretrained import load_checkpoint

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RUNTIMES = {"onnxruntime and numba": [], "torch": ["--device", "cpu:0"]}  # torch alone knows CPUs with a number
LESS = {
    "`python -c pass`": ["-c", "pass"],
    '`python -c "import torch, transformers"`': ["-c", "import torch, transformers"],
    "`aict --help`": ["-m", "aict_hf", "--help"],
    "`aict info --quick`": ["-m", "aict_hf", "info", "--quick"],
    "`aict harmonize` without a mask (an error)": ["-m", "aict_hf", "harmonize", "composite.jpg"],
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sizes", nargs="+", default=["1024x1024", "2048x2048", "5120x2880"], help="width x height")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--folder", type=int, default=50, help="photos of 2048 x 2048 in the folder; 0 leaves it out")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the third table")
arguments = parser.parse_args()


# A process counts the memory of the one that started it, until it runs its own program. This one is small.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024, status)
"""


def run_python(
    options: list[str], *, may_fail: bool = False, environment: dict[str, str] | None = None
) -> tuple[float, float]:
    """Seconds, and peak resident memory in MiB, of a Python process."""
    command = [sys.executable, "-S", "-c", LAUNCHER, sys.executable, *options]
    told = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ | (environment or {}))
    seconds, memory, status = map(float, told.stdout.split())
    if status and not may_fail:
        raise SystemExit(f"python {' '.join(options)} failed")
    return seconds, memory


def make_photo(folder: Path, width: int, height: int) -> tuple[Path, Path]:
    photo, mask = folder / f"{width}x{height}.jpg", folder / f"{width}x{height}_mask.png"
    Image.open(EXAMPLES / "dandelion_composite.jpg").resize((width, height)).save(photo, quality=95)
    Image.open(EXAMPLES / "dandelion_mask.png").resize((width, height)).save(mask)
    return photo, mask


device = torch.device(arguments.device)
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    jobs = {}  # options of the command, by what the table calls it
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        photo, mask = make_photo(folder, width, height)
        jobs[f"{width} x {height}"] = [str(photo), str(mask), "-o", str(folder / "out.jpg")]
    if arguments.folder:
        photos = folder / "photos"
        photos.mkdir()
        for number in range(arguments.folder):
            for file, end in zip(make_photo(folder, 2048, 2048), (".jpg", "_mask.png"), strict=True):
                os.link(file, photos / f"{number}{end}")
        jobs[f"a folder of {arguments.folder}, 2048 x 2048"] = [str(photos), "-o", str(folder / "out"), "--overwrite"]
    first_photo = make_photo(folder, 2048, 2048)

    print(f"{device_line(torch.device('cpu'))}, median of {arguments.runs} runs (lowest to highest)\n")
    print("| photo, JPEG | onnxruntime and numba, s | torch, s | ratio | onnxruntime and numba, MiB | torch, MiB |")
    print("|---|---|---|---|---|---|")
    for title, options in jobs.items():
        taken: dict[str, list[tuple]] = {runtime: [] for runtime in RUNTIMES}
        for _ in tqdm(range(arguments.runs), desc=title, leave=False, disable=not sys.stderr.isatty()):
            for runtime, device_option in RUNTIMES.items():
                taken[runtime].append(run_python(["-m", "aict_hf", "harmonize", *options, *device_option]))
        (fast, fast_memory), (slow, slow_memory) = (zip(*runs, strict=True) for runs in taken.values())
        ratio = statistics.median(slow) / statistics.median(fast)
        print(
            f"| {title} | {spread(fast, 2)} | {spread(slow, 2)} | {ratio:.1f} | {spread(fast_memory, 0)} | "
            f"{spread(slow_memory, 0)} |",
            flush=True,
        )

    print("\n| process | s | MiB |\n|---|---|---|")
    costs: dict[str, list[tuple]] = {title: [] for title in (*LESS, "first")}
    for number in tqdm(range(arguments.runs), desc="less", leave=False, disable=not sys.stderr.isatty()):
        for title, options in LESS.items():
            costs[title].append(run_python(options, may_fail="an error" in title))
        cold = {"NUMBA_CACHE_DIR": str(folder / f"cache{number}")}
        options = ["-m", "aict_hf", "harmonize", *map(str, first_photo), "-o", str(folder / "out.jpg")]
        costs["first"].append(run_python(options, environment=cold))
    costs["`aict harmonize`, 2048 x 2048, before numba has kept compiled code"] = costs.pop("first")
    for title, runs in costs.items():
        seconds, memory = zip(*runs, strict=True)
        print(f"| {title} | {spread(seconds, 2)} | {spread(memory, 0)} |", flush=True)

    model, processor = load_checkpoint(device=device)
    print(f"\nInside, on {device_line(device)}:\n")
    print("| photo | foreground | resize and network, s | LUTs, s |\n|---|---|---|---|")
    for size in arguments.sizes:
        width, height = (int(side) for side in size.split("x"))
        opened = [Image.open(path) for path in make_photo(folder, width, height)]
        rgb, foreground = (torch.from_numpy(array).to(device) for array in photo_arrays(*opened))
        network, luts = [], []
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
            f"| {width} x {height} | {share:.0%} | {spread(network[1:], 3)} | {spread(luts[1:], 3)} |",
            flush=True,
        )
