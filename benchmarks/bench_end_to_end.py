"""Where the time goes from a composite's file to the harmonized file, and what makes the network fast.

    python benchmarks/bench_end_to_end.py --output out/end_to_end.md

First table: each bundled checkpoint, the paper's configuration (random weights: speed does not depend on them) and the
same computed as published (torch's own transformer layers, LUTs sampled as 5-D grids), by stage: decoding the JPEG
composite and PNG mask, shrinking both to the network's input, the network, the LUTs, encoding the JPEG. Memory is the
peak above what was held before, the decoded photo included. Second table: the network alone, on 1 thread and on all,
each way beside the published one. Half the photo is foreground. Medians of several runs, with the lowest and the
highest.
"""

import argparse
import contextlib
import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import device_line, extra_memory, save_table, seconds_of, spread
from PIL import Image
from tqdm import tqdm

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel
from aict_hf.files.images import ImageFile, read_image, write_image
from aict_hf.model.image_arrays import photo_arrays
from aict_hf.model.lut_reference import knots_from_intervals
from aict_hf.pretrained import bundled_checkpoints, load_checkpoint
from aict_hf.published import PublishedNetwork, published_luts

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZES = ["1024x1024", "2048x2048", "3840x2160", "5120x2880", "8192x8192"]
STAGES = ["decode", "resize", "network", "LUTs", "encode"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sizes", nargs="*", default=SIZES, help="width x height; none for the second table alone")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--output", type=Path, help="save the tables here too")
arguments = parser.parse_args()
device = torch.device(arguments.device)


class Stopwatch:
    """Seconds of each stage, in turn."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def run(self, stage: str, function: Callable[[], Any]) -> Any:
        kept: list[Any] = []
        self.seconds[stage] = seconds_of(lambda: kept.append(function()), device)
        return kept[0]


@torch.inference_mode()
def harmonize(files: list[Path], network, luts, processor: AICTImageProcessor) -> dict[str, float]:
    """One photo from file to file; seconds by stage."""
    watch = Stopwatch()
    composite, mask, output = files
    photo, foreground = watch.run("decode", lambda: (read_image(composite), read_image(mask)))

    def resize():
        tensors = [torch.from_numpy(array).to(device) for array in photo_arrays(photo.pixels, foreground.pixels)]
        return tensors, processor(*tensors, return_tensors="pt").to(device)

    (image, weight), inputs = watch.run("resize", resize)
    outputs = watch.run("network", lambda: network(inputs["pixel_values"], inputs["mask"]))
    result = watch.run("LUTs", lambda: luts(outputs, image, weight))
    pixels = result.permute(1, 2, 0).cpu().numpy()
    watch.run("encode", lambda: write_image(output, ImageFile(Image.fromarray(np.ascontiguousarray(pixels)))))
    return watch.seconds


def by_published_luts(outputs, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    intervals, color_lut = outputs
    result = published_luts(image[None] / 255, mask[None] / 255, knots_from_intervals(intervals), color_lut)
    return (result[0] * 255).round().to(torch.uint8)


def by_our_luts(outputs, image: torch.Tensor, mask: torch.Tensor, processor: AICTImageProcessor) -> torch.Tensor:
    return processor.post_process_harmonization(outputs, image, mask)[0]


def ours(model: AICTModel, processor: AICTImageProcessor):
    network = functools.partial(model, return_harmonized=False)
    return network, functools.partial(by_our_luts, processor=processor), processor


config = AICTConfig()
paper = AICTModel(config).to(device).eval()
published = PublishedNetwork(config).to(device).eval()
checkpoints = {name: load_checkpoint(name, device=device) for name in bundled_checkpoints()}
ways = {name: ours(*parts) for name, parts in checkpoints.items()}
ways["the paper's"] = ours(paper, AICTImageProcessor())
ways["as published"] = published, by_published_luts, AICTImageProcessor()

lines = [f"{device_line(device)}, median of {arguments.runs} runs (lowest to highest), seconds", ""]
if arguments.sizes:
    lines += [f"| photo | network | {' | '.join(STAGES)} | total | extra MiB |", "|---" * (len(STAGES) + 4) + "|"]
with tempfile.TemporaryDirectory() as folder:
    for size in tqdm(arguments.sizes, unit="size", leave=False):
        width, height = map(int, size.split("x"))
        files = [Path(folder) / name for name in ("composite.jpg", "mask.png", "out.jpg")]
        Image.open(EXAMPLES / "dandelion_composite.jpg").resize((width, height)).save(files[0], quality=95)
        half = np.zeros((height, width), np.uint8)
        half[:, : width // 2] = 255
        Image.fromarray(half).save(files[1])
        seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        memory = {}
        for run in range(arguments.runs + 1):
            for name, way in ways.items():
                started = functools.partial(harmonize, files, *way)
                if run == 0:  # the first one warms up
                    started()
                    memory[name] = extra_memory(started, device) / 2**20
                else:
                    seconds[name].append(started())
        for name, taken in seconds.items():
            cells = [spread([one[stage] for one in taken], 3) for stage in STAGES]
            total = spread([sum(one.values()) for one in taken], 3)
            lines.append(f"| {size} | {name} | {' | '.join(cells)} | {total} | {memory[name]:.0f} |")


def network_ways(model: AICTModel, name: str) -> dict[str, Callable[[], object]]:
    """Ways to run one network on one composite, by what they change from the last."""
    side = model.config.image_size
    inputs = torch.rand(1, 3, side, side, device=device), torch.rand(1, 1, side, side, device=device)

    def run(network=model, *, attention: str = "sdpa", dtype: torch.dtype | None = None, inputs=inputs):
        model.set_attn_implementation(attention)
        context = torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()
        with torch.inference_mode(), context:
            return network(*inputs, return_harmonized=False)

    compiled = torch.compile(model)
    channels_last = tuple(tensor.to(memory_format=torch.channels_last) for tensor in inputs)
    return {
        f"{name}, eager attention": functools.partial(run, attention="eager"),
        f"{name}, SDPA": run,
        f"{name}, SDPA, channels last": functools.partial(run, inputs=channels_last),
        f"{name}, SDPA, bfloat16 autocast": functools.partial(run, dtype=torch.bfloat16),
        f"{name}, SDPA, torch.compile": functools.partial(run, compiled),
    }


def run_published() -> object:
    with torch.inference_mode():
        return published(*published_inputs)


published_inputs = (torch.rand(1, 3, 256, 256, device=device), torch.rand(1, 1, 256, 256, device=device))
runs: dict[str, Callable[[], object]] = {"the paper's, as published": run_published} | network_ways(
    paper, "the paper's"
)
for name, (model, _) in checkpoints.items():
    runs |= network_ways(model, name)
threads = torch.get_num_threads()
lines += ["", "| network | threads | seconds | speed-up over published, on as many threads |", "|---|---|---|---|"]
for count in sorted({1, threads}):
    torch.set_num_threads(count)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.runs):
        for name, run in runs.items():
            times[name].append(seconds_of(run, device))
    base = statistics.median(times["the paper's, as published"])
    for name, values in times.items():
        lines.append(f"| {name} | {count} | {spread(values, 4)} | {base / statistics.median(values):.2f} |")
save_table("\n".join(lines), arguments.output)
