"""Test whether two methods differ on the same images, from what training/evaluate.py measured.

    python training/compare_results.py out/evaluation --methods aict-small PCT-Net --output_dir out/comparison
    python training/compare_results.py out/mine out/theirs --output_dir out/comparison

Reads the `per_image.csv` of one output folder of evaluate.py with both methods, or of two. Writes `comparison.md` (also
printed), `comparison.json` and `comparison.png`. A difference is the second method's figure minus the first one's. Its
95 % bootstrap interval draws photos, each with all of its composites. The p-value is that of Wilcoxon's signed-rank
test of the photos' mean differences: the composites of one photo are not independent samples.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

mpl.use("agg")
from matplotlib import pyplot as plt

from aict_hf.data.mean_intervals import LEVEL, mean_intervals
from aict_hf.data.peer_results import first_few
from aict_hf.errors import InputError, one_line
from aict_hf.files.atomic_write import atomic_file, writable_folder

METRICS = {"fmse": "fMSE", "mse": "MSE", "psnr": "PSNR", "ssim": "SSIM", "ciede2000": "CIEDE2000"}
HIGHER_IS_BETTER = ("psnr", "ssim")
BASELINES = ("composite", "Reinhard to background", "histogram to background")
KEY = ["photo", "mask", "image"]  # names one composite
SAME = 1e-3  # decoders differ by less, composites of another seed or size by more

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", nargs="+", type=Path, help="one or two output folders of training/evaluate.py")
parser.add_argument(
    "--methods",
    nargs=2,
    metavar=("FIRST", "SECOND"),
    help="the methods to compare, by their names in the tables; by default all but the baselines",
)
parser.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="folder for the comparison")
parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: %(default)s)")


def read_run(folder: Path) -> pd.DataFrame:
    """The rows of a run's per_image.csv."""
    path = folder / "per_image.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; give an output folder of training/evaluate.py")
    try:
        rows = pd.read_csv(path, dtype=dict.fromkeys((*KEY, "method", "subset"), str), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({one_line(error)})") from error
    lacking = [name for name in (*KEY, "method", "subset", "height", "width", *METRICS) if name not in rows]
    if lacking:
        raise InputError(f"{path}: has no column {', '.join(lacking)}; measure again with this evaluate.py")
    for name in ("height", "width", *METRICS):
        numbers = pd.to_numeric(rows[name], errors="coerce")
        if not np.isfinite(numbers).all():
            line = int(np.flatnonzero(~np.isfinite(numbers))[0]) + 2
            raise InputError(
                f"{path}: line {line} has {rows[name].iloc[line - 2] or 'nothing'} as its {name}; expected a number"
            )
        rows[name] = numbers
    return rows


def choose_methods(runs: list[pd.DataFrame], folders: list[Path], names: list[str] | None) -> list[str]:
    """The two methods to compare: one of each run, or two of one."""
    if names is None:
        names = []
        for rows, folder in zip(runs, folders, strict=True):
            found = [name for name in rows.method.unique() if name not in BASELINES]
            if len(found) != 3 - len(runs):
                raise InputError(
                    f"{folder}: has {', '.join(found) or 'no method'} beside the baselines; choose two with --methods"
                )
            names += found
    for name, rows, folder in zip(names, (runs[0], runs[-1]), (folders[0], folders[-1]), strict=True):
        if name not in set(rows.method):
            raise InputError(f"{folder}: has no method {name}; it has {', '.join(rows.method.unique())}")
    if len(runs) == 1 and names[0] == names[1]:
        raise InputError(f"--methods: {names[0]} cannot be compared with itself; choose two")
    return names


def rows_of(rows: pd.DataFrame, method: str, folder: Path) -> pd.DataFrame:
    """One row for each composite."""
    chosen = rows[rows.method == method].set_index(KEY)
    if chosen.index.has_duplicates:
        twice = chosen.index[chosen.index.duplicated()][0]
        raise InputError(f"{folder}: measures {twice[-1]} of {twice[0]} twice for {method}; measure again")
    return chosen


def check_same_images(first: pd.DataFrame, second: pd.DataFrame, folders: list[Path]) -> None:
    """Refuse runs over different images."""
    lines = []
    for ours, others, folder in ((first, second, folders[0]), (second, first, folders[-1])):
        missing = others.index.difference(ours.index, sort=False)
        if len(missing):
            names = first_few([name for _, _, name in missing])
            lines.append(f"{folder} lacks {len(missing)} of {len(others)} images of the other: {names}")
    if lines:
        raise InputError(f"the methods were not measured on the same images: {'; '.join(lines)}")


def check_same_composites(runs: list[pd.DataFrame], folders: list[Path]) -> None:
    """Refuse runs whose composites are others, though their names agree."""
    first, second = (rows_of(rows, "composite", folder) for rows, folder in zip(runs, folders, strict=True))
    if first.empty or second.empty:
        folder = folders[0] if first.empty else folders[1]
        raise InputError(f"{folder}: has no rows of the composite; measure again")
    check_same_images(first, second, folders)
    second = second.loc[first.index]
    sizes = (first.height != second.height) | (first.width != second.width)
    if sizes.any():
        a, b = (frame[sizes].iloc[0] for frame in (first, second))
        raise InputError(
            f"{int(sizes.sum())} images have other sizes in {folders[1]}: {a.name[-1]} is {a.width:.0f} x "
            f"{a.height:.0f} and {b.width:.0f} x {b.height:.0f}; measure both with one --resolution"
        )
    different = ~np.isclose(first.fmse, second.fmse, rtol=SAME, atol=SAME)
    if different.any():
        names = first_few([name for _, _, name in first.index[different]])
        raise InputError(
            f"{int(different.sum())} composites differ between {folders[0]} and {folders[1]}: {names}; measure both "
            "with one --seed and the same data"
        )


def compare(first: pd.DataFrame, second: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Means, difference, interval and p-value of each metric, for each subset and over all images.

    Args:
        first, second: rows of two methods, in the same order.
        seed: of the bootstrap.
    """
    photos = first.index.get_level_values("photo")
    groups = [*first.groupby("subset", sort=False).indices.items(), ("all", np.arange(len(first)))]
    rows = []
    for group, chosen in groups:
        a, b = (frame.iloc[chosen][list(METRICS)] for frame in (first, second))
        difference = b - a
        low, high = mean_intervals(difference.to_numpy(), photos[chosen].tolist(), seed=seed)
        by_photo = difference.groupby(photos[chosen]).mean()
        for i, metric in enumerate(METRICS):
            better = difference[metric] > 0 if metric in HIGHER_IS_BETTER else difference[metric] < 0
            rows.append(
                {
                    "subset": group,
                    "metric": metric,
                    "images": len(chosen),
                    "photos": len(by_photo),
                    "first": a[metric].mean(),
                    "second": b[metric].mean(),
                    "difference": difference[metric].mean(),
                    "low": low[i],
                    "high": high[i],
                    # equal results have no ranks
                    "p": float(wilcoxon(by_photo[metric]).pvalue) if (by_photo[metric] != 0).any() else 1.0,
                    "second_is_better": better.mean(),
                }
            )
    return pd.DataFrame(rows)


def text_of(table: pd.DataFrame, names: list[str]) -> str:
    """The comparison in Markdown."""
    shown = pd.DataFrame(
        {
            "subset": table.subset,
            "metric": table.metric.map(METRICS),
            "images": table.images,
            "photos": table.photos,
            f"{names[0]} (mean)": [f"{value:.5g}" for value in table["first"]],
            f"{names[1]} (mean)": [f"{value:.5g}" for value in table.second],
            "difference": [f"{value:+.4g}" for value in table.difference],
            f"{LEVEL:.0%} interval": [
                "" if np.isnan(low) else f"{low:+.4g} to {high:+.4g}"
                for low, high in zip(table.low, table.high, strict=True)
            ],
            "p": [f"{value:.2g}" for value in table.p],
            f"{names[1]} better": [f"{share:.0%}" for share in table.second_is_better],
        }
    )
    header = f"{names[1]} (second) against {names[0]} (first), {table.images.max()} images"
    return f"{header}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n"


def draw(first: pd.DataFrame, second: pd.DataFrame, table: pd.DataFrame, names: list[str], path: Path) -> None:
    """Each image's two fMSE, and the mean differences of the subsets with their intervals."""
    figure, (scatter, forest) = plt.subplots(1, 2, figsize=(10.5, 4.6), dpi=110, layout="constrained")
    for subset, chosen in first.groupby("subset", sort=False).indices.items():
        a, b = (frame.fmse.iloc[chosen] for frame in (first, second))
        scatter.scatter(a, b, s=9, alpha=0.6, linewidths=0, label=f"{subset} ({len(chosen)})")
    smallest, largest = min(first.fmse.min(), second.fmse.min()), max(first.fmse.max(), second.fmse.max(), 1.0)
    limits = (smallest / 1.5 if smallest > 1 else 0, largest * 1.5)
    scatter.plot(limits, limits, color="black", linewidth=0.8)
    for scale in (scatter.set_xscale, scatter.set_yscale):
        scale("symlog", linthresh=1)  # logarithmic above 1; equal photos have 0
    scatter.set(xlim=limits, ylim=limits, xlabel=f"fMSE of {names[0]}", ylabel=f"fMSE of {names[1]}")
    scatter.set_title(f"below the line {names[1]} is better", fontsize="medium")
    scatter.legend(fontsize="small", loc="upper left")
    scatter.grid(alpha=0.3)
    rows = table[table.metric == "fmse"][::-1].reset_index()
    errors = np.stack([rows.difference - rows.low, rows.high - rows.difference])
    forest.errorbar(rows.difference, rows.index, xerr=np.nan_to_num(errors), fmt="o", capsize=3, color="black")
    forest.axvline(0, color="black", linewidth=0.8)
    forest.set_yticks(rows.index, [f"{row.subset}\n{row.images} images, p = {row.p:.2g}" for row in rows.itertuples()])
    forest.margins(y=0.2)
    forest.set(xlabel=f"mean difference of fMSE with {LEVEL:.0%} interval")
    forest.set_title(f"left of 0 {names[1]} is better", fontsize="medium")
    forest.grid(axis="x", alpha=0.3)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    arguments = parser.parse_args()
    folders: list[Path] = arguments.runs
    if len(folders) > 2:
        raise InputError(f"{len(folders)} folders cannot be compared at once; give one or two")
    runs = [read_run(folder) for folder in folders]
    methods = choose_methods(runs, folders, arguments.methods)
    first, second = rows_of(runs[0], methods[0], folders[0]), rows_of(runs[-1], methods[1], folders[-1])
    check_same_images(first, second, folders)
    if len(runs) == 2:
        check_same_composites(runs, folders)
    second = second.loc[first.index]
    names = methods
    if methods[0] == methods[1]:
        names = [f"{name} ({folder})" for name, folder in zip(methods, folders, strict=True)]
    table = compare(first, second, seed=arguments.seed)
    text = text_of(table, names)
    results = {
        "first": {"method": methods[0], "run": str(folders[0])},
        "second": {"method": methods[1], "run": str(folders[-1])},
        "seed": arguments.seed,
    }
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    writable_folder(arguments.output_dir)
    with atomic_file(arguments.output_dir / "comparison.md") as partial:
        partial.write_text(text)
    with atomic_file(arguments.output_dir / "comparison.json") as partial:
        partial.write_text(json.dumps(results | {"rows": rows}, indent=1))
    with atomic_file(arguments.output_dir / "comparison.png") as partial:
        draw(first, second, table, names, partial)
    print(text)
    print(f"wrote {arguments.output_dir}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"compare_results.py: {error}") from error
