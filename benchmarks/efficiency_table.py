"""Parameters, FLOPs, time and memory of whole harmonization, as the efficiency tables of the papers have them.

    python benchmarks/efficiency_table.py --output out/efficiency.md
    python benchmarks/efficiency_table.py --transforms all --sizes 1024x1024 2048x2048

For each checkpoint, and for the paper's network (random weights: figures of speed do not depend on them): FLOPs of the
network with its attention, one multiply and add counted as two; time and peak extra memory from a uint8 photo and mask
to the harmonized uint8 photo, tensors in, tensors out. The mask covers everything, which is the most there can be.
Networks take turns, and "network" is the time of the network alone. Medians of several runs, with the lowest and the
highest. `--models` adds checkpoints, to set a new one beside an old one. `--transforms` measures instead the default
checkpoint's network with each colour transformation (random weights); those but `aict` have no kernels.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from measuring import device_line, extra_memory, save_table, seconds_of, spread
from torch.utils.flop_counter import FlopCounterMode

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, Harmonizer
from aict_hf.pretrained import DEFAULT_CHECKPOINT, bundled_checkpoints, load_checkpoint

TRANSFORMS: dict[str, dict] = {
    "aict": {},
    "curves": {"color_transform": "curves"},
    "interval x2, color": {"color_transform": ["interval", "interval", "color"]},
    "color x2": {"color_transform": ["color", "color"]},
    "(interval, color) x2": {"color_transform": ["interval", "color", "interval", "color"]},
    "affine": {"color_transform": "affine"},
    "quadratic per channel": {"color_transform": "affine", "affine_inputs": "quadratic"},
    "polynomial": {"color_transform": "affine", "affine_inputs": "polynomial"},
    "adaint_seplut": {"color_transform": "adaint_seplut"},
    "filters": {"color_transform": "filters"},
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
SIZES = ["1024x1024", "2048x2048", "3840x2160", "5120x2880", "8192x8192"]
parser.add_argument("--sizes", nargs="+", default=SIZES, help="width x height")
parser.add_argument("--models", nargs="*", default=[], help="more checkpoints: folders or Hub repositories")
parser.add_argument(
    "--transforms",
    nargs="*",
    default=[],
    choices=["all", *TRANSFORMS],
    metavar="TRANSFORM",
    help=f"colour transformations to measure: all, or some of {'; '.join(TRANSFORMS)}",
)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--output", type=Path, help="save the table here too")
arguments = parser.parse_args()
if arguments.models and arguments.transforms:
    parser.error("--models are measured without --transforms; use one of the two")
device = torch.device(arguments.device)


if arguments.transforms:
    base, processor = load_checkpoint(DEFAULT_CHECKPOINT)
    fields = base.config.to_dict()
    networks = {
        name: (AICTModel(AICTConfig.from_dict(fields | TRANSFORMS[name])).to(device).eval(), processor)
        for name in (TRANSFORMS if "all" in arguments.transforms else arguments.transforms)
    }
else:
    names = [*bundled_checkpoints(), *arguments.models]
    networks = {Path(name).name: load_checkpoint(name, device=device) for name in names}
    networks["the paper's"] = AICTModel(AICTConfig()).to(device).eval(), AICTImageProcessor()
fixed = {}
for name, (model, _) in networks.items():
    inputs = torch.rand(1, 3, 256, 256, device=device), torch.rand(1, 1, 256, 256, device=device)
    model.set_attn_implementation("eager")  # the counter does not see into the fused one
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(*inputs, return_harmonized=False)
    model.set_attn_implementation("sdpa")
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    fixed[name] = f"{parameters:.2f} | {counter.get_total_flops() / 1e9:.2f}"


@torch.inference_mode()
def run_network(name: str) -> None:
    model, processor = networks[name]
    side = processor.size["height"]
    model(*(torch.zeros(1, channels, side, side, device=device) for channels in (3, 1)), return_harmonized=False)


def harmonize(name: str, photo: torch.Tensor, mask: torch.Tensor) -> None:
    Harmonizer(*networks[name])(photo, mask)


rows = []
for size in arguments.sizes:
    width, height = map(int, size.split("x"))
    photo = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, device=device)
    mask = torch.full((1, height, width), 255, dtype=torch.uint8, device=device)
    ways = {name: (partial(run_network, name), partial(harmonize, name, photo, mask)) for name in networks}
    for way in ways.values():
        for part in way:
            part()
    times: dict[str, list[list[float]]] = {name: [[], []] for name in networks}
    for _ in range(arguments.runs):
        for name, way in ways.items():
            for part, seconds in zip(way, times[name], strict=True):
                seconds.append(seconds_of(part, device))
    for name, way in ways.items():
        extra = extra_memory(way[1], device) / 2**20
        cells = [spread(seconds, 3) for seconds in times[name]]
        rows.append(
            f"| {name} | {size} | {fixed[name]} | {' | '.join(cells)} | {extra:.0f} | {photo.nbytes / 2**20:.0f} |"
        )

table = "\n".join(
    [
        f"{device_line(device)}, median of {arguments.runs} (lowest to highest)",
        "",
        "| network | photo | parameters, M | GFLOPs | network, s | seconds | extra MiB, result included | result MiB |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
)
save_table(table, arguments.output)
