"""Draw the learning curve of one run, or of several consecutive runs, from their log.csv.

    python training/plot_curve.py out/small-64 out/small-128 out/small --output out/learning_curve.png

The curve shows the fMSE of training samples as a share of the composite's, averaged over windows of steps, against the
number of samples seen.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("agg")
from matplotlib import pyplot as plt

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", nargs="+", type=Path, help="output folders of training/train.py, in order")
parser.add_argument(
    "--batch_size", type=int, default=32, help="number of samples in a step of the runs (default: %(default)s)"
)
parser.add_argument(
    "--window", type=int, default=100, help="number of steps that a point averages over (default: %(default)s)"
)
parser.add_argument("--output", type=Path, required=True, help="picture to write")
arguments = parser.parse_args()

figure, axes = plt.subplots(figsize=(7, 3.2), dpi=110, layout="constrained")
seen = 0.0
for run in arguments.runs:
    log = pd.read_csv(run / "log.csv")
    sums = log.groupby((log.step - 1) // arguments.window)[["fmse", "composite_fmse"]].sum()
    steps = log.groupby((log.step - 1) // arguments.window).step.max()
    axes.plot(seen + steps * arguments.batch_size / 1e3, sums.fmse / sums.composite_fmse, label=run.name)
    seen += log.step.max() * arguments.batch_size / 1e3
axes.set(xlabel="thousand samples", ylabel="fMSE, share of the composite's")
axes.grid(alpha=0.3)
axes.legend()
figure.savefig(arguments.output)
print(f"wrote {arguments.output}")
