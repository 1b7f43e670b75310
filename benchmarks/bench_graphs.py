"""The exported graphs beside torch: the parameter network and the LUTs, in seconds.

    python benchmarks/bench_graphs.py --output out/graphs.md

onnxruntime and torch get the same number of threads. "torch" is the package: the model, and `apply_luts` with its
kernel; "torch.export" the exported programs, whose LUTs are plain operators, as onnxruntime's are. Every pixel is
foreground; float32. All ways take turns; medians of several runs, with the lowest and the highest.
"""

import argparse
import functools
import statistics
import tempfile
from pathlib import Path

import onnxruntime
import torch
from measuring import device_line, save_table, seconds_of, spread

from aict_hf import apply_luts
from aict_hf.export.graphs import export_graphs
from aict_hf.pretrained import load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="aict-small", help="a bundled name, a folder or a Hub repository")
parser.add_argument("--sizes", nargs="+", default=["1024x1024", "2048x2048", "3840x2160"], help="width x height")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--output", type=Path, help="save the table here too")
arguments = parser.parse_args()

device = torch.device("cpu")
model, _ = load_checkpoint(arguments.model)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = torch.get_num_threads()
sessions, programs = {}, {}
with tempfile.TemporaryDirectory() as folder:
    for kind in ("onnx", "torch"):
        export_graphs(arguments.model, Path(folder) / kind, format=kind)
    for name in ("parameter_network", "apply_luts"):
        sessions[name] = onnxruntime.InferenceSession(
            f"{folder}/onnx/{name}.onnx", options, providers=["CPUExecutionProvider"]
        )
        programs[name] = torch.export.load(f"{folder}/torch/{name}.pt2").module()

side = model.config.image_size
small = {"pixel_values": torch.rand(1, 3, side, side), "mask": torch.rand(1, 1, side, side)}
with torch.inference_mode():
    maps = model(**small, return_harmonized=False)
cases = {f"parameter network, {side} x {side}": ("parameter_network", small)}
for size in arguments.sizes:
    width, height = map(int, size.split("x"))
    photo = {"composite": torch.rand(1, 3, height, width), "mask": torch.ones(1, 1, height, width)}
    cases[f"LUTs, {size}"] = "apply_luts", photo | {"knots": maps.knots, "color_lut": maps.color_lut}
ours = {"parameter_network": functools.partial(model, return_harmonized=False), "apply_luts": apply_luts}

lines = [f"{device_line(device)}, onnxruntime {onnxruntime.__version__}, median of {arguments.runs} runs", ""]
lines += ["| what | way | seconds (lowest to highest) | speed-up over torch |", "|---|---|---|---|"]
for title, (name, tensors) in cases.items():
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    ways = {
        "torch": functools.partial(ours[name], **tensors),
        "torch.export": functools.partial(programs[name], *tensors.values()),
        "onnxruntime": functools.partial(sessions[name].run, None, arrays),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        for run in range(arguments.runs + 1):
            for way, function in ways.items():
                seconds = seconds_of(function, device)
                if run:  # the first one warms up
                    times[way].append(seconds)
    base = statistics.median(times["torch"])
    lines += [
        f"| {title} | {way} | {spread(values, 3)} | {base / statistics.median(values):.2f} |"
        for way, values in times.items()
    ]
save_table("\n".join(lines), arguments.output)
