"""Measure checkpoints and simple baselines as harmonization papers do.

    python training/evaluate.py --model aict-small --dataset iharmony4 --data_dir iHarmony4 --resolution 256 \
        --output_dir out/evaluation
    python training/evaluate.py --model aict-small out/my-model --dataset synthetic --data_dir pool pool_2 \
        --photos training/splits/out_of_domain.txt --output_dir out/evaluation

Writes `per_image.csv`, `tables.md` (also printed), `results.json` (which fills the model card) and `grid.jpg`. In the
tables, "not worse" is the share of images with at most 1.05 times the composite's fMSE. "No harm" is the fMSE between a
real photo and the model's result for that photo and its mask. "Drift" is the fMSE between a result and that result
harmonized once more.
"""

import argparse
import functools
import json
import platform
import sys
from collections.abc import Callable, Iterator
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
from aict_hf.data.metrics import photo_metrics
from aict_hf.data.photos import Sample, load_triplet, read_iharmony4, synthetic_sample
from aict_hf.data.recoloring import histogram_transfer, reinhard_transfer
from aict_hf.errors import InputError
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool

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
class Measured:
    """What was measured.

    Attributes:
        rows: one row of figures for each image and method.
        grid: one strip of pictures for each of the first images: composite, mask, results of the models, real photo.
        skipped: names of the images that could not be measured.
    """

    rows: list[dict[str, Any]]
    grid: list[np.ndarray]
    skipped: list[str]


def read_samples(arguments: argparse.Namespace) -> tuple[int, Iterator[tuple[str, Callable[[], Sample | None]]]]:
    """The number of samples, and for each its name and a function that loads it, or None if it gives no composite."""
    rng = np.random.default_rng(arguments.seed)
    if arguments.dataset == "iharmony4":
        triplets = read_iharmony4(arguments.data_dir, "test")
        chosen = rng.permutation(len(triplets))[: arguments.max_samples]
        return len(chosen), (
            (triplets[i].composite.name, functools.partial(load_triplet, triplets[i])) for i in sorted(chosen.tolist())
        )
    photos = read_photo_pool(arguments.data_dir)
    if arguments.photos is not None:
        photos = photos_named_in(arguments.photos, photos)
    chosen = rng.permutation(len(photos))[: arguments.max_samples]
    return len(chosen), (
        (photos[i].name, functools.partial(synthetic_sample, photos, i, seed=arguments.seed))
        for i in sorted(chosen.tolist())
    )


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


def table_of(frame: pd.DataFrame, groups: str) -> pd.DataFrame:
    """Mean of the metrics for each method, by group and over all images (an image counts once, as in the papers)."""
    grouped = frame.groupby([groups, "method"], sort=False, observed=True)[METRICS].mean()
    overall = pd.concat({"all": frame.groupby("method", sort=False)[METRICS].mean()}, names=[groups])
    return pd.concat([grouped, overall]).rename(columns=str.upper).rename(columns={"FMSE": "fMSE"})


def grid_row(images: list[np.ndarray]) -> np.ndarray:
    width = round(images[0].shape[1] * GRID_HEIGHT / images[0].shape[0])
    return np.hstack([cv2.resize(image, (width, GRID_HEIGHT), interpolation=cv2.INTER_AREA) for image in images])


def load_models(names: list[str], device: torch.device) -> dict[str, Harmonizer]:
    """Harmonizers by the last part of their names, which the tables show."""
    models: dict[str, Harmonizer] = {}
    rows = [Path(name).name for name in names]
    for row in rows:
        if rows.count(row) > 1 or row in ("composite", *TRANSFERS):
            raise InputError(f"{row} would be the name of two rows of the tables; rename a model's folder")
    for row, name in zip(rows, names, strict=True):
        models[row] = Harmonizer.from_pretrained(name, device=device)
    return models


def measure_sample(
    index: int, sample: Sample, models: dict[str, Harmonizer]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """A row of figures for each method, and the methods' results."""
    results = {"composite": sample.composite}
    results |= {name: to_background(sample, transfer) for name, transfer in TRANSFERS.items()}
    results |= {name: harmonizer(sample.composite, sample.mask) for name, harmonizer in models.items()}
    rows = []
    for method, result in results.items():
        row: dict[str, Any] = {"sample": index, "method": method, "image": sample.name, "subset": sample.subset}
        row |= {
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


def measure_all(
    samples: Iterator[tuple[str, Callable[[], Sample | None]]],
    models: dict[str, Harmonizer],
    *,
    count: int,
    resolution: str,
) -> Measured:
    """Measure every sample; Ctrl-C ends early and keeps what was measured so far."""
    measured = Measured([], [], [])
    index = 0
    try:
        for index, (name, load) in enumerate(tqdm(samples, total=count, unit="image")):
            try:
                sample = load()
            except InputError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                measured.skipped.append(name)
                continue
            sample = None if sample is None else resized(sample, resolution)
            if sample is None or (sample.mask > 0).sum() < 2:
                tqdm.write(f"skipped: {name}: gives no composite, or has no foreground at this size", file=sys.stderr)
                measured.skipped.append(name)
                continue
            rows, results = measure_sample(index, sample, models)
            measured.rows.extend(rows)
            if len(measured.grid) < GRID_ROWS:
                mask = np.repeat(sample.mask[..., None], 3, axis=2)
                harmonized = [results[name] for name in models]
                measured.grid.append(grid_row([sample.composite, mask, *harmonized, sample.real]))
    except KeyboardInterrupt:
        print(f"interrupted: the tables are of the first {index} of {count} images", file=sys.stderr)
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
    count, samples = read_samples(arguments)
    device = torch.device(arguments.device)
    models = load_models(arguments.model, device)
    writable_folder(arguments.output_dir)
    measured = measure_all(samples, models, count=count, resolution=arguments.resolution)
    if not measured.rows:
        raise InputError("no sample could be measured; is the data what --dataset says?")

    frame = frame_of(measured.rows)
    summary = summary_of(frame)
    images = frame["sample"].nunique()
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    device_name = f"{device.type} ({machine})"
    text = text_of(
        f"{images} images, {len(measured.skipped)} skipped, resolution {arguments.resolution}, {device_name}",
        {
            "Summary": summary.rename(columns=TITLES),
            "By subset" if arguments.dataset == "iharmony4" else "By recolouring": table_of(frame, "subset"),
            "By foreground ratio": table_of(frame, "foreground"),
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
