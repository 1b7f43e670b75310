"""The LUT operator: every way to compute it, by size, share of foreground and dtype, beside a plain copy of the photo.

    python benchmarks/bench_lut.py --output out/bench_lut.md

"Published" samples 5-D grids for every pixel, as the authors' code does, in float32 (from and to uint8 where the photo
is uint8); "compiled" is torch.compile of our reference. The floor is a copy of the same bytes. All ways take turns in
one run; medians with the lowest and highest, ratios of medians. Memory is the process's (or the GPU's) peak above what
it held before the call, the result included in neither.
"""

import argparse
import functools
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import device_line, extra_memory, save_table, seconds_of, spread
from torch import Tensor
from tqdm import tqdm

from aict_hf import apply_luts
from aict_hf.model import lut as lut_module
from aict_hf.model.levels import full_scale
from aict_hf.model.lut_reference import apply_luts_reference, knots_from_intervals, unit_tensor
from aict_hf.published import published_luts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
SIZES = ["1024x1024", "2048x2048", "3840x2160", "5120x2880", "7680x4320"]
parser.add_argument("--sizes", nargs="+", default=SIZES, help="width x height")
parser.add_argument("--foreground", type=int, nargs="+", default=[100, 25, 5], help="percent of the photo")
parser.add_argument("--dtypes", nargs="+", default=["uint8", "float32"])
parser.add_argument("--maps", type=int, default=256, help="side of the LUT maps: 256 as published, 64 in aict-small")
parser.add_argument("--intervals", type=int, default=8)
parser.add_argument("--ways", nargs="+", default=["published", "compiled", "reference", "kernel"])
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
parser.add_argument("--output", type=Path, help="save the table here too")
arguments = parser.parse_args()
device = torch.device(arguments.device)
kernel_name = "Triton" if device.type == "cuda" else "numba"


def published(composite: Tensor, mask: Tensor, knots: Tensor, color_lut: Tensor) -> Tensor:
    scale = full_scale(composite)
    result = published_luts(unit_tensor(composite), unit_tensor(mask), knots, color_lut)
    return result if scale == 1.0 else (result * scale).round().to(composite.dtype)


def reference(*tensors: Tensor) -> Tensor:
    """Our torch code, in strips: what runs where a kernel is missing."""
    kernels = lut_module.apply_luts_numba, lut_module.apply_luts_triton
    lut_module.apply_luts_numba = lut_module.apply_luts_triton = None
    try:
        return apply_luts(*tensors)
    finally:
        lut_module.apply_luts_numba, lut_module.apply_luts_triton = kernels


WAYS: dict[str, Callable[..., Tensor]] = {
    "published": published,
    "compiled": torch.compile(apply_luts_reference, dynamic=False),
    "reference": reference,
    "kernel": apply_luts,
}


generator = torch.Generator().manual_seed(0)
shape = (1, 3, arguments.intervals, arguments.maps, arguments.maps)
knots = knots_from_intervals(torch.randn(shape, generator=generator).softmax(2)).to(device)
color_lut = torch.rand(shape, generator=generator).to(device)
cases = list(itertools.product(arguments.sizes, arguments.dtypes, arguments.foreground))
rows = []
for size, dtype_name, percent in tqdm(cases, unit="case", leave=False):
    width, height = map(int, size.split("x"))
    dtype = getattr(torch, dtype_name)
    pixels = torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8).permute(0, 3, 1, 2)
    composite = (pixels if dtype == torch.uint8 else pixels.contiguous().to(dtype) / 255).to(device)
    mask = torch.zeros(1, 1, height, width, dtype=torch.uint8, device=device)
    inner = (percent / 100) ** 0.5
    rows_inside, columns_inside = round(height * inner), round(width * inner)
    top, left = (height - rows_inside) // 2, (width - columns_inside) // 2
    mask[:, :, top : top + rows_inside, left : left + columns_inside] = 255
    runs = {"copy": composite.clone}
    runs |= {way: functools.partial(WAYS[way], composite, mask, knots, color_lut) for way in arguments.ways}
    times: dict[str, list[float]] = {way: [] for way in runs}
    with torch.inference_mode():
        memory = {way: (run(), extra_memory(run, device))[1] - composite.nbytes for way, run in runs.items()}
        for _ in range(arguments.runs):
            for way, run in runs.items():
                times[way].append(seconds_of(run, device))
    middle = {way: statistics.median(values) for way, values in times.items()}
    for way in arguments.ways:
        ratio = f"{middle['published'] / middle[way]:.1f}" if "published" in middle else ""
        name = kernel_name if way == "kernel" else way
        rows.append(
            f"| {size} | {dtype_name} | {percent} % | {name} | {spread(times[way], 1, scale=1e3)} "
            f"| {ratio} | {middle[way] / middle['copy']:.1f} | {max(0, memory[way]) / 2**20:.0f} |"
        )

table = "\n".join(
    [
        f"{device_line(device)}, maps {arguments.maps} x {arguments.maps}, "
        f"K = {arguments.intervals}, median of {arguments.runs} runs (lowest to highest)",
        "",
        "| size | dtype | foreground | way | ms | speed-up over published | multiple of a copy's time | extra MiB |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
)
save_table(table, arguments.output)
