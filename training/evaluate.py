"""Measure checkpoints and simple baselines as harmonization papers do.

    python training/evaluate.py --model aict-small --dataset iharmony4 --data_dir iHarmony4 --resolution 256 \
        --output_dir out/evaluation
    python training/evaluate.py --model aict-small out/my-model --dataset synthetic --data_dir pool pool_2 \
        --photos training/splits/out_of_domain.txt --output_dir out/evaluation
    python training/evaluate.py --model aict-small --results peers/PCT-Net peers/Harmonizer --dataset iharmony4 \
        --data_dir iHarmony4 --output_dir out/evaluation

Writes `per_image.csv`, `tables.md` (also printed), `results.json` (which fills the model card) and `grid.jpg`. In the
tables, "not worse" is the share of images with at most 1.05 times the composite's fMSE. "No harm" is the fMSE between a
real photo and the model's result for that photo and its mask. "Drift" is the fMSE between a result and that result
harmonized once more. Brackets hold 95 % bootstrap intervals of the means, for which photos are drawn, each with all of
its composites. `training/compare_results.py` tests whether two methods differ.
"""

import argparse
import functools
import json
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from aict_hf import Harmonizer
from aict_hf.data.decode import load_rgb
from aict_hf.data.mean_intervals import LEVEL, mean_intervals
from aict_hf.data.metrics import photo_metrics
from aict_hf.data.peer_results import RESULT_ENDINGS, check_result_sizes, find_results, first_few
from aict_hf.data.photos import Sample, Triplet, load_triplet, read_iharmony4, synthetic_sample
from aict_hf.data.recoloring import histogram_transfer, reinhard_transfer
from aict_hf.errors import InputError
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool
from aict_hf.harmonize.runtime import usable_device

METRICS = ["mse", "fmse", "psnr", "ssim", "ciede2000"]
RATIOS = {"0-5 %": (0, 0.05), "5-15 %": (0.05, 0.15), "15-100 %": (0.15, 1.01)}  # the foreground's, as in the paper
TRANSFERS = {"Reinhard to background": reinhard_transfer, "histogram to background": histogram_transfer}
TITLES = {
    "fmse": "fMSE",
    "ciede2000": "CIEDE2000",
    "of_composite": "of the composite's",
    "not_worse": "not worse",
    "no_harm": "no harm",
}
GRID_ROWS, GRID_HEIGHT = 12, 160

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--model",
    nargs="*",
    default=[],
    metavar="CHECKPOINT",
    help="checkpoints to measure: bundled names, folders or Hub repositories; the baselines are always measured",
)
parser.add_argument(
    "--results",
    nargs="*",
    default=[],
    type=Path,
    metavar="FOLDER",
    help="iharmony4: folders with the results of other methods, one folder for each, which gives the method its "
    f"name; a result has its composite's name, with or without {', '.join(filter(None, RESULT_ENDINGS))} after it",
)
parser.add_argument(
    "--results_ending",
    metavar="TEXT",
    help="what follows the composite's name in the names of the results, such as _pred_lowres",
)
parser.add_argument(
    "--resize",
    action="store_true",
    help="scale results to the size of the photo that they are compared with; by default another size is an error",
)
parser.add_argument(
    "--dataset",
    choices=["iharmony4", "synthetic"],
    required=True,
    help="iharmony4 reads the composites of test lists; synthetic makes composites from real photos with masks",
)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True, metavar="FOLDER", help="folders of the dataset")
parser.add_argument(
    "--photos",
    type=Path,
    metavar="LIST",
    help="synthetic: text file with the names of the photos to use, one a line; by default all are used",
)
parser.add_argument(
    "--resolution",
    choices=["256", "1024", "2048", "full"],
    default="full",
    help="side of the square in pixels that composites are resized to before anything else; full keeps their size "
    "(default)",
)
parser.add_argument("--output_dir", type=Path, required=True, metavar="FOLDER", help="folder for the tables")
parser.add_argument(
    "--max_samples",
    type=int,
    metavar="N",
    help="measure only N samples, drawn with --seed; by default all are measured",
)
parser.add_argument(
    "--seed", type=int, default=0, help="seed of --max_samples and of the synthetic composites (default: %(default)s)"
)
parser.add_argument(
    "--device",
    default="cuda" if torch.cuda.is_available() else "cpu",
    help="PyTorch device that the models run on; by default a GPU if there is one",
)


@dataclass(frozen=True)
class Item:
    """One composite to measure.

    Attributes:
        name: file name of the composite, or name of the photo in its pool.
        photo: name of the real photo in the data, the same for all composites of the photo.
        mask: name of the mask.
        load: makes the sample, or None if the photo gives no composite.
        results: for each folder of results, the composite's.
    """

    name: str
    photo: str
    mask: str
    load: Callable[[], Sample | None]
    results: dict[str, Path]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        rows: one row of figures for each image and method.
        grid: one strip of pictures for each of the first images: composite, mask, results of the methods, real photo.
        skipped: names of the images that could not be measured.
        scaled: for each folder of results, the number that were scaled.
    """

    rows: list[dict[str, Any]]
    grid: list[np.ndarray]
    skipped: list[str]
    scaled: Counter[str]


def read_items(arguments: argparse.Namespace) -> list[Item]:
    """What the arguments choose to measure."""
    rng = np.random.default_rng(arguments.seed)
    if arguments.dataset == "iharmony4":
        triplets = read_iharmony4(arguments.data_dir, "test")
        triplets = [triplets[i] for i in sorted(rng.permutation(len(triplets))[: arguments.max_samples].tolist())]
        results = {folder.absolute().name: results_of(folder, triplets, arguments) for folder in arguments.results}
        return [
            Item(
                triplet.composite.name,
                f"{triplet.subset}/{triplet.real.name}",
                triplet.mask.name,
                functools.partial(load_triplet, triplet),
                {name: files[number] for name, files in results.items()},
            )
            for number, triplet in enumerate(triplets)
        ]
    if arguments.results:
        raise InputError(
            "--results: the synthetic composites are in no files, so no other method can have results for them; "
            "choose --dataset iharmony4"
        )
    photos = read_photo_pool(arguments.data_dir)
    if arguments.photos is not None:
        photos = photos_named_in(arguments.photos, photos)
    chosen = sorted(rng.permutation(len(photos))[: arguments.max_samples].tolist())
    return [
        Item(
            photos[i].name,
            name_in_pools(photos[i].image, arguments.data_dir),
            name_in_pools(photos[i].mask, arguments.data_dir),
            functools.partial(synthetic_sample, photos, i, seed=arguments.seed),
            {},
        )
        for i in chosen
    ]


def results_of(folder: Path, triplets: Sequence[Triplet], arguments: argparse.Namespace) -> list[Path]:
    """The results of one folder, in the order of the triplets; says what else the folder holds."""
    endings = RESULT_ENDINGS if arguments.results_ending is None else [arguments.results_ending]
    found = find_results(folder, triplets, endings=endings)
    if not arguments.resize:
        side = None if arguments.resolution == "full" else int(arguments.resolution)
        check_result_sizes(found.files, triplets, side=side)
    if found.left_out:
        others = first_few([path.name for path in found.left_out])
        count = len(found.left_out)
        print(f"{folder}: {count} other images are not measured, {others}", file=sys.stderr)
    return found.files


def name_in_pools(path: Path, folders: list[Path]) -> str:
    """A file's path in its pool, after the name of the pool if there are several: they may have files of one name."""
    for folder in folders:
        if path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix()
            return f"{folder.absolute().name}/{name}" if len(folders) > 1 else name
    return str(path)  # an absolute path in metadata.csv


def resized(sample: Sample, resolution: str) -> Sample:
    if resolution == "full":
        return sample
    size = (int(resolution), int(resolution))
    images = [cv2.resize(image, size) for image in (sample.composite, sample.mask, sample.real)]
    return Sample(images[0], images[1], images[2], sample.name, sample.subset)


def to_background(sample: Sample, transfer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """A baseline without learning: the foreground gets the colour statistics of the background."""
    foreground, background = sample.mask > 0, sample.mask == 0
    if background.sum() < 2:
        return sample.composite
    pixels = sample.composite.astype(np.float32) / 255
    weight = sample.mask[foreground][:, None] / 255
    changed = transfer(pixels[foreground], pixels[background]).clip(0, 1)
    result = sample.composite.copy()
    result[foreground] = ((weight * changed + (1 - weight) * pixels[foreground]) * 255).round().astype(np.uint8)
    return result


def figures_of(frame: pd.DataFrame, groups: str, *, seed: int) -> pd.DataFrame:
    """Means of the metrics and their intervals for each method, by group and over all images.

    Over all images an image counts once, as in the papers.

    Args:
        frame: rows of figures.
        groups: column with the groups.
        seed: of the bootstrap.
    Returns:
        one row for each group and method, with the columns `images`, `photos`, and for each metric `fmse`, `fmse_low`
        and `fmse_high`; the ends are NaN for a single photo.
    """
    in_order = isinstance(frame[groups].dtype, pd.CategoricalDtype)  # others come as they appear
    parts = [*frame.groupby(groups, sort=in_order, observed=True), ("all", frame)]
    rows = []
    for group, part in parts:
        photos = part.drop_duplicates("sample").set_index("sample").photo
        methods = part.method.unique()
        wide = part.pivot(index="sample", columns="method", values=METRICS).loc[photos.index]
        columns = [(metric, method) for method in methods for metric in METRICS]
        low, high = mean_intervals(wide[columns].to_numpy(float), photos.tolist(), seed=seed)
        ends = {column: (low[i], high[i]) for i, column in enumerate(columns)}
        for method in methods:
            row: dict[str, Any] = {groups: group, "method": method, "images": len(photos), "photos": photos.nunique()}
            for metric in METRICS:
                row[metric] = wide[metric, method].mean()
                row[f"{metric}_low"], row[f"{metric}_high"] = ends[metric, method]
            rows.append(row)
    return pd.DataFrame(rows).set_index([groups, "method"])


def table_of(figures: pd.DataFrame) -> pd.DataFrame:
    """The figures as text: each mean with its interval in brackets."""
    table = figures[["images", "photos"]].copy()
    for metric in METRICS:
        title = TITLES.get(metric, metric.upper())
        digits = 4 if metric == "ssim" else 2
        columns = (figures[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
        table[title] = [
            f"{mean:.{digits}f}" + ("" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")
            for mean, low, high in zip(*columns, strict=True)
        ]
    return table


def grid_row(images: list[np.ndarray]) -> np.ndarray:
    width = round(images[0].shape[1] * GRID_HEIGHT / images[0].shape[0])
    return np.hstack([cv2.resize(image, (width, GRID_HEIGHT), interpolation=cv2.INTER_AREA) for image in images])


def check_names(models: list[str], folders: list[Path]) -> None:
    """The tables show the last part of the names of models and folders, so these must differ."""
    rows = [*(Path(name).name for name in models), *(folder.absolute().name for folder in folders)]
    for row in rows:
        if rows.count(row) > 1 or row in ("composite", *TRANSFERS):
            raise InputError(f"{row} would be the name of two rows of the tables; rename a folder")


def measure_sample(
    index: int, item: Item, sample: Sample, models: dict[str, Harmonizer], peers: dict[str, np.ndarray]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row of figures for each method, and the methods' results."""
    results = {"composite": sample.composite}
    results |= {name: to_background(sample, transfer) for name, transfer in TRANSFERS.items()}
    results |= {name: harmonizer(sample.composite, sample.mask) for name, harmonizer in models.items()}
    results |= peers
    rows = []
    for method, result in results.items():
        row: dict[str, Any] = {"sample": index, "method": method, "image": sample.name, "subset": sample.subset}
        row |= {
            "photo": item.photo,
            "mask": item.mask,
            "height": sample.real.shape[0],
            "width": sample.real.shape[1],
            "mask_area": int((sample.mask > 127).sum()),
        }
        row |= asdict(photo_metrics(result, sample.real, sample.mask))
        if method in models:
            real, again = (models[method](image, sample.mask) for image in (sample.real, result))
            row["no_harm"] = photo_metrics(real, sample.real, sample.mask).fmse
            row["drift"] = photo_metrics(again, result, sample.mask).fmse
        rows.append(row)
    return rows, results


def measure_all(items: Sequence[Item], models: dict[str, Harmonizer], *, resolution: str) -> Measured:
    """Measure every sample; Ctrl-C ends early and keeps what was measured so far."""
    measured = Measured([], [], [], Counter())
    index = 0
    try:
        for index, item in enumerate(tqdm(items, unit="image")):
            try:
                sample = item.load()
                peers = {name: load_rgb(path) for name, path in item.results.items()}
            except InputError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                measured.skipped.append(item.name)
                continue
            sample = None if sample is None else resized(sample, resolution)
            if sample is None or (sample.mask > 0).sum() < 2:
                tqdm.write(
                    f"skipped: {item.name}: gives no composite, or has no foreground at this size", file=sys.stderr
                )
                measured.skipped.append(item.name)
                continue
            size = sample.real.shape[1::-1]
            for name, result in peers.items():
                if result.shape != sample.real.shape:
                    peers[name] = np.asarray(cv2.resize(result, size))
                    measured.scaled[name] += 1
            rows, results = measure_sample(index, item, sample, models, peers)
            measured.rows.extend(rows)
            if len(measured.grid) < GRID_ROWS:
                mask = np.repeat(sample.mask[..., None], 3, axis=2)
                harmonized = [results[name] for name in (*models, *peers)]
                measured.grid.append(grid_row([sample.composite, mask, *harmonized, sample.real]))
    except KeyboardInterrupt:
        print(f"interrupted: the tables are of the first {index} of {len(items)} images", file=sys.stderr)
    return measured


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows with two more columns: whether a result is not worse than its composite, and the foreground's ratio."""
    frame = pd.DataFrame(rows)
    composite = frame[frame.method == "composite"].set_index("sample").fmse
    frame["not_worse"] = frame.fmse <= 1.05 * frame["sample"].map(composite)
    limits = [low for low, _ in RATIOS.values()] + [1.01]
    frame["foreground"] = pd.cut(frame.foreground_ratio, limits, right=False, labels=list(RATIOS))
    return frame


def summary_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean figures of each method, and its fMSE as a share of the composite's."""
    columns = [name for name in ("fmse", "ciede2000", "not_worse", "no_harm", "drift") if name in frame]
    summary = frame.groupby("method", sort=False)[columns].mean()
    summary.insert(1, "of_composite", summary.fmse / summary.fmse["composite"])
    return summary


def intervals_of(figures: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """For each method and group: the number of photos, and the two ends of each metric's interval, or None."""
    intervals: dict[str, dict[str, dict[str, Any]]] = {}
    for (group, method), row in figures.iterrows():
        ends = {metric: [row[f"{metric}_low"], row[f"{metric}_high"]] for metric in METRICS}
        cells: dict[str, Any] = {"photos": int(row.photos)}
        cells |= {metric: None if np.isnan(pair).any() else pair for metric, pair in ends.items()}
        intervals.setdefault(method, {})[str(group)] = cells
    return intervals


def text_of(header: str, tables: dict[str, pd.DataFrame]) -> str:
    """The tables in Markdown."""
    parts = [
        f"## {title}\n\n{table.reset_index().to_markdown(index=False, floatfmt='.3f')}"
        for title, table in tables.items()
    ]
    return "\n\n".join([header, *parts]) + "\n"


def stack(rows: list[np.ndarray]) -> Image.Image:
    width = max(row.shape[1] for row in rows)
    return Image.fromarray(np.vstack([np.pad(row, ((2, 2), (0, width - row.shape[1]), (0, 0))) for row in rows]))


def main() -> None:
    arguments = parser.parse_args()
    check_names(arguments.model, arguments.results)
    if arguments.max_samples is not None and arguments.max_samples < 1:
        raise InputError(f"--max_samples is {arguments.max_samples}; expected 1 or more")
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; expected 0 or more")
    device = usable_device(arguments.device)
    items = read_items(arguments)
    models = {Path(name).name: Harmonizer.from_pretrained(name, device=device) for name in arguments.model}
    writable_folder(arguments.output_dir)
    measured = measure_all(items, models, resolution=arguments.resolution)
    if not measured.rows:
        raise InputError("no sample could be measured; is the data what --dataset says?")

    frame = frame_of(measured.rows)
    summary = summary_of(frame)
    images = frame["sample"].nunique()
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    device_name = f"{device.type} ({machine})"
    by_subset = figures_of(frame, "subset", seed=arguments.seed)
    by_ratio = figures_of(frame, "foreground", seed=arguments.seed)
    scaled = "".join(f", {count} results of {name} scaled" for name, count in measured.scaled.items())
    text = text_of(
        f"{images} images, {len(measured.skipped)} skipped, resolution {arguments.resolution}, {device_name}{scaled}; "
        f"in brackets {LEVEL:.0%} intervals",
        {
            "Summary": summary.rename(columns=TITLES),
            "By subset" if arguments.dataset == "iharmony4" else "By recolouring": table_of(by_subset),
            "By foreground ratio": table_of(by_ratio),
        },
    )
    results = {
        "dataset": arguments.dataset,
        "photos": arguments.photos.name if arguments.photos else None,
        "resolution": arguments.resolution,
        "images": images,
        "device": device_name,
        "summary": json.loads(summary.to_json(orient="index")),
        "subsets": {
            method: json.loads(part.groupby("subset")[METRICS].mean().to_json(orient="index"))
            for method, part in frame.groupby("method", sort=False)
        },
        "intervals": intervals_of(by_subset),
        "scaled_results": measured.scaled,
    }
    for name, write in (
        ("per_image.csv", lambda path: frame.to_csv(path, index=False)),
        ("tables.md", lambda path: path.write_text(text)),
        ("results.json", lambda path: path.write_text(json.dumps(results, indent=1))),
        ("grid.jpg", lambda path: stack(measured.grid).save(path, quality=88)),
    ):
        with atomic_file(arguments.output_dir / name) as partial:
            write(partial)
    print(text)
    print(f"wrote {arguments.output_dir}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"evaluate.py: {error}") from error
