"""Parameters, FLOPs, time and memory of whole harmonization, as the efficiency tables of the papers have them.

    python benchmarks/efficiency_table.py --output out/efficiency.md

For each checkpoint, and for the paper's network (random weights: figures of speed do not depend on them): FLOPs of the
network with its attention, one multiply and add counted as two; time and peak extra memory from a uint8 photo and mask
to the harmonized uint8 photo, tensors in, tensors out. The mask covers everything, which is the most there can be.
Medians of several runs, with the lowest and the highest.
"""

import argparse
from pathlib import Path

import torch
from measuring import device_line, extra_memory, save_table, seconds_of, spread
from torch.utils.flop_counter import FlopCounterMode

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel
from aict_hf.pretrained import bundled_checkpoints, load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
SIZES = ["1024x1024", "2048x2048", "3840x2160", "5120x2880", "8192x8192"]
parser.add_argument("--sizes", nargs="+", default=SIZES, help="width x height")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--output", type=Path, help="save the table here too")
arguments = parser.parse_args()
device = torch.device(arguments.device)


networks = {name: load_checkpoint(name, device=device) for name in bundled_checkpoints()}
networks["the paper's"] = AICTModel(AICTConfig()).to(device).eval(), AICTImageProcessor()
rows = []
for name, (model, processor) in networks.items():
    side = processor.size["height"]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        inputs = torch.rand(1, 3, side, side, device=device), torch.rand(1, 1, side, side, device=device)
        model.set_attn_implementation("eager")  # the counter does not see into the fused one
        model(*inputs, return_harmonized=False)
    model.set_attn_implementation("sdpa")
    fixed = f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} | {counter.get_total_flops() / 1e9:.2f}"
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        photo = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, device=device)
        mask = torch.full((1, height, width), 255, dtype=torch.uint8, device=device)

        @torch.inference_mode()
        def harmonize(photo=photo, mask=mask, model=model, processor=processor):
            outputs = model(**processor(photo, mask, return_tensors="pt").to(device), return_harmonized=False)
            return processor.post_process_harmonization(outputs, photo, mask)

        harmonize()
        times = [seconds_of(harmonize, device) for _ in range(arguments.runs)]
        extra = extra_memory(harmonize, device) / 2**20
        rows.append(f"| {name} | {size} | {fixed} | {spread(times, 3)} | {extra:.0f} | {photo.nbytes / 2**20:.0f} |")

table = "\n".join(
    [
        f"{device_line(device)}, median of {arguments.runs} (lowest to highest)",
        "",
        "| network | photo | parameters, M | GFLOPs | seconds | extra MiB, result included | result MiB |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
)
save_table(table, arguments.output)
