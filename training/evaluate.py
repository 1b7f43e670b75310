"""Measure checkpoints, and simple baselines beside them, as harmonization papers do.

    python training/evaluate.py --model aict-small --dataset iharmony4 --data_dir iHarmony4 --resolution 256 \
        --output_dir out/evaluation
    python training/evaluate.py --model aict-small out/my-model --dataset synthetic --data_dir pool pool_2 \
        --photos training/splits/out_of_domain.txt --output_dir out/evaluation

Writes `per_image.csv`, `tables.md` (also printed), `results.json` (the model card is filled from it) and `grid.jpg`.
"Not worse" is the share of images whose fMSE is at most 1.05 times the composite's; "no harm" the fMSE between a real
photo and what the model makes of it, with its mask; "drift" that between the result and the result harmonized again.
"""

import argparse
import functools
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from aict_hf.data.metrics import harmonization_metrics
from aict_hf.data.photos import Sample, load_triplet, read_iharmony4, synthetic_sample
from aict_hf.data.recoloring import histogram_transfer, reinhard_transfer
from aict_hf.errors import InputError
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import photos_named_in, read_photo_pool
from aict_hf.pretrained import load_checkpoint

METRICS = ["mse", "fmse", "psnr", "ssim", "ciede2000"]
RATIOS = {"0-5 %": (0, 0.05), "5-15 %": (0.05, 0.15), "15-100 %": (0.15, 1.01)}  # the foreground's, as in the paper
GRID_ROWS, GRID_HEIGHT = 12, 160

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", nargs="*", default=[], help="bundled names, folders or Hub repositories")
parser.add_argument("--dataset", choices=["iharmony4", "synthetic"], required=True)
parser.add_argument("--data_dir", nargs="+", type=Path, required=True)
parser.add_argument("--photos", type=Path, help="synthetic: use only the photos this list names, one a line")
parser.add_argument("--resolution", choices=["256", "1024", "2048", "full"], default="full", help="side to resize to")
parser.add_argument("--output_dir", type=Path, required=True)
parser.add_argument("--max_samples", type=int, help="only so many, drawn with the seed")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def read_samples(arguments: argparse.Namespace) -> tuple[int, Iterator[tuple[str, Callable[[], Sample | None]]]]:
    """How many samples there are, and of each its name and what loads it (None: the photo allows no composite)."""
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


def to_background(sample: Sample, transfer) -> np.ndarray:
    """The composite with its foreground given the background's statistics: a baseline without learning."""
    foreground, background = sample.mask > 0, sample.mask == 0
    if background.sum() < 2:
        return sample.composite
    pixels = sample.composite.astype(np.float32) / 255
    weight = sample.mask[foreground][:, None] / 255
    changed = transfer(pixels[foreground], pixels[background]).clip(0, 1)
    result = sample.composite.copy()
    result[foreground] = ((weight * changed + (1 - weight) * pixels[foreground]) * 255).round().astype(np.uint8)
    return result


def measure(result: np.ndarray, real: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    tensors = (torch.from_numpy(image).permute(2, 0, 1) for image in (result, real))
    return asdict(harmonization_metrics(*tensors, torch.from_numpy(mask)[None]))


def table_of(frame: pd.DataFrame, groups: str) -> pd.DataFrame:
    """Mean of the metrics for each method, by group and over all images (an image counts once, as in the papers)."""
    grouped = frame.groupby([groups, "method"], sort=False, observed=True)[METRICS].mean()
    overall = pd.concat({"all": frame.groupby("method", sort=False)[METRICS].mean()}, names=[groups])
    return pd.concat([grouped, overall]).rename(columns=str.upper).rename(columns={"FMSE": "fMSE"})


def grid_row(images: list[np.ndarray]) -> np.ndarray:
    width = round(images[0].shape[1] * GRID_HEIGHT / images[0].shape[0])
    return np.hstack([cv2.resize(image, (width, GRID_HEIGHT), interpolation=cv2.INTER_AREA) for image in images])


def main() -> None:
    arguments = parser.parse_args()
    count, samples = read_samples(arguments)
    device = torch.device(arguments.device)
    transfers = {"Reinhard to background": reinhard_transfer, "histogram to background": histogram_transfer}
    names = [Path(name).name for name in arguments.model]
    twice = [name for name in names if names.count(name) > 1 or name in ("composite", *transfers)]
    if twice:
        raise InputError(f"{twice[0]} would be the name of two rows of the tables; rename a model's folder")
    models = {name: load_checkpoint(path, device=device) for name, path in zip(names, arguments.model, strict=True)}
    writable_folder(arguments.output_dir)

    @torch.inference_mode()
    def harmonize(name: str, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        model, processor = models[name]
        outputs = model(**processor(image, mask, return_tensors="pt").to(device), return_harmonized=False)
        return processor.post_process_harmonization(outputs, image, mask)[0]

    def measured(index: int, sample: Sample) -> tuple[list[dict], dict[str, np.ndarray]]:
        """A row of figures for each method, and the methods' results."""
        results = {"composite": sample.composite}
        results |= {name: to_background(sample, transfer) for name, transfer in transfers.items()}
        results |= {name: harmonize(name, sample.composite, sample.mask) for name in models}
        rows = []
        for method, result in results.items():
            row = {"sample": index, "method": method, "image": sample.name, "subset": sample.subset}
            row |= {
                "height": sample.real.shape[0],
                "width": sample.real.shape[1],
                "mask_area": int((sample.mask > 127).sum()),
            }
            row |= measure(result, sample.real, sample.mask)
            if method in models:
                real, again = (harmonize(method, image, sample.mask) for image in (sample.real, result))
                row["no_harm"] = measure(real, sample.real, sample.mask)["fmse"]
                row["drift"] = measure(again, result, sample.mask)["fmse"]
            rows.append(row)
        return rows, results

    rows, grid, skipped = [], [], []
    index = 0
    try:
        for index, (name, load) in enumerate(tqdm(samples, total=count, unit="image")):
            try:
                sample = load()
            except InputError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
                skipped.append(name)
                continue
            sample = None if sample is None else resized(sample, arguments.resolution)
            if sample is None or (sample.mask > 0).sum() < 2:
                tqdm.write(f"skipped: {name}: gives no composite, or has no foreground at this size", file=sys.stderr)
                skipped.append(name)
                continue
            figures, results = measured(index, sample)
            rows += figures
            if len(grid) < GRID_ROWS:
                mask = np.repeat(sample.mask[..., None], 3, axis=2)
                grid.append(grid_row([sample.composite, mask, *(results[name] for name in models), sample.real]))
    except KeyboardInterrupt:
        print(f"interrupted: the tables are of the first {index} of {count} images", file=sys.stderr)
    if not rows:
        raise InputError("no sample could be measured; is the data what --dataset says?")

    frame = pd.DataFrame(rows)
    composite = frame[frame.method == "composite"].set_index("sample").fmse
    frame["not_worse"] = frame.fmse <= 1.05 * frame["sample"].map(composite)
    limits = [low for low, _ in RATIOS.values()] + [1.01]
    frame["foreground"] = pd.cut(frame.foreground_ratio, limits, right=False, labels=list(RATIOS))
    summary = (
        frame.groupby("method", sort=False)[["fmse", "ciede2000", "not_worse", "no_harm", "drift"]].mean()
        if models
        else (frame.groupby("method", sort=False)[["fmse", "ciede2000", "not_worse"]].mean())
    )
    summary.insert(1, "of_composite", summary.fmse / summary.fmse["composite"])
    names = {
        "fmse": "fMSE",
        "ciede2000": "CIEDE2000",
        "of_composite": "of the composite's",
        "not_worse": "not worse",
        "no_harm": "no harm",
    }

    device_name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    images = frame["sample"].nunique()
    header = (
        f"{images} images, {len(skipped)} skipped, resolution {arguments.resolution}, {device.type} ({device_name})"
    )
    tables = [
        ("Summary", summary.rename(columns=names)),
        ("By subset" if arguments.dataset == "iharmony4" else "By recolouring", table_of(frame, "subset")),
        ("By foreground ratio", table_of(frame, "foreground")),
    ]
    text = "\n\n".join(
        f"## {title}\n\n{table.reset_index().to_markdown(index=False, floatfmt='.3f')}" for title, table in tables
    )
    text = f"{header}\n\n{text}\n"
    results_json = {
        "dataset": arguments.dataset,
        "photos": arguments.photos.name if arguments.photos else None,
        "resolution": arguments.resolution,
        "images": images,
        "device": f"{device.type} ({device_name})",
        "summary": json.loads(summary.to_json(orient="index")),
        "subsets": {
            method: json.loads(part.groupby("subset")[METRICS].mean().to_json(orient="index"))
            for method, part in frame.groupby("method", sort=False)
        },
    }
    for name, write in (
        ("per_image.csv", lambda path: frame.to_csv(path, index=False)),
        ("tables.md", lambda path: path.write_text(text)),
        ("results.json", lambda path: path.write_text(json.dumps(results_json, indent=1))),
        ("grid.jpg", lambda path: stack(grid).save(path, quality=88)),
    ):
        with atomic_file(arguments.output_dir / name) as partial:
            write(partial)
    print(text)
    print(f"wrote {arguments.output_dir}")


def stack(rows: list[np.ndarray]) -> Image.Image:
    width = max(row.shape[1] for row in rows)
    return Image.fromarray(np.vstack([np.pad(row, ((2, 2), (0, width - row.shape[1]), (0, 0))) for row in rows]))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"evaluate.py: {error}") from error
