"""Training speed beside the published computation: images per second of one step, forward, backward and update.

    python benchmarks/bench_training.py

"Published" is torch's own transformer layers with plain attention (no fused kernel) and LUTs sampled as 5-D grids;
"ours" is `AICTModel` with a loss at every pixel, or at 1024 pixels of the foreground. Dropout of the attention weights
is the paper's 0.1, and 0 in the rows that say so: fused attention has none on a CPU. Same shapes, same inputs, same
run; the steps alternate. Medians, with the lowest and the highest.
"""

import argparse
import statistics

import torch
from measuring import device_line, seconds_of, spread
from torch.nn.attention import SDPBackend, sdpa_kernel

from aict_hf import AICTConfig, AICTModel, apply_luts, foreground_mse
from aict_hf.model.lut_reference import knots_from_intervals, sample_luts
from aict_hf.published import PublishedNetwork, published_luts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--size", type=int, default=256)
parser.add_argument("--batch_size", type=int, default=1)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--points", type=int, default=1024)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
arguments = parser.parse_args()

torch.manual_seed(0)
device = torch.device(arguments.device)
config = AICTConfig(image_size=arguments.size)
shape = (arguments.batch_size, 3, arguments.size, arguments.size)
composite, real = torch.rand(shape, device=device), torch.rand(shape, device=device)
mask = torch.zeros(arguments.batch_size, 1, *shape[2:], device=device)
mask[:, :, arguments.size // 4 : -arguments.size // 4, arguments.size // 4 : -arguments.size // 4] = 1

published, model = PublishedNetwork(config).to(device).train(), AICTModel(config).to(device).train()
fields = config.to_dict() | {"attention_probs_dropout_prob": 0.0}
model_without = AICTModel(AICTConfig.from_dict(fields)).to(device).train()
optimizers = {network: torch.optim.Adam(network.parameters(), 1e-4) for network in (published, model, model_without)}


def step(network: torch.nn.Module, loss: torch.Tensor) -> None:
    optimizers[network].zero_grad()
    loss.backward()
    optimizers[network].step()


def published_step() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        intervals, color_lut = published(composite, mask)
        result = published_luts(composite, mask, knots_from_intervals(intervals), color_lut)
        step(published, foreground_mse(result, real, mask, min_area=1000))


def every_pixel_step(model: AICTModel) -> None:
    outputs = model(composite, mask, return_harmonized=False)
    result = apply_luts(composite, mask, outputs.knots, outputs.color_lut)
    step(model, foreground_mse(result, real, mask, min_area=1000))


def points_step(model: AICTModel) -> None:
    outputs = model(composite, mask, return_harmonized=False)
    low, high = arguments.size // 4, arguments.size * 3 // 4
    index = torch.randint(low, high, (arguments.batch_size, arguments.points, 2), device=device)
    batch = torch.arange(arguments.batch_size, device=device)[:, None]
    colors = composite[batch, :, index[..., 0], index[..., 1]].transpose(1, 2)
    target = real[batch, :, index[..., 0], index[..., 1]].transpose(1, 2)
    positions = index.flip(-1) * (2 / (arguments.size - 1)) - 1
    result = sample_luts(colors, positions.float(), outputs.knots, outputs.color_lut)
    step(model, ((result - target) ** 2).mean())


steps = {
    "published": published_step,
    "ours, every pixel": lambda: every_pixel_step(model),
    "ours, every pixel, no attention dropout": lambda: every_pixel_step(model_without),
    f"ours, {arguments.points} pixels, no attention dropout": lambda: points_step(model_without),
}
times: dict[str, list[float]] = {name: [] for name in steps}
for run in range(arguments.runs + 1):
    for name, function in steps.items():
        seconds = seconds_of(function, device)
        if run:  # the first one warms up
            times[name].append(seconds)

print(f"{device_line(device)}, the paper's network, ", end="")
print(f"{arguments.size} x {arguments.size}, batch {arguments.batch_size}, ", end="")
print(f"median of {arguments.runs} steps (lowest to highest)\n")
print("| step | seconds | images/s | speed-up over published |\n|---|---|---|---|")
for name, values in times.items():
    ratios = [a / b for a, b in zip(times["published"], values, strict=True)]
    images = arguments.batch_size / statistics.median(values)
    print(f"| {name} | {spread(values, 2)} | {images:.2f} | {spread(ratios, 1)} |")
