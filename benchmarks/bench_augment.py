"""Measure the speed of `aict augment` with 1 and 2 workers, and the time that each stage takes.

    python benchmarks/bench_augment.py --output out/augment.md

The dataset is made from the example photo: JPEGs of several sizes with one annotated object each. The object's cut-out,
640 x 360, is pasted. The first table has images per second from file to file, once each worker has made its first
block, for harmonized and naive pasting; and the seconds until the first block is written. The second table has the
seconds per image that one worker spends in each stage, with their share. Figures are medians of several runs, with the
lowest and the highest.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import device_line, save_table, spread
from PIL import Image

from aict_hf.augment import files as augment_files
from aict_hf.augment import transform as augmentation
from aict_hf.augment.annotations import AnnotatedImage, mask_rle
from aict_hf.augment.files import AugmentRun
from aict_hf.augment.options import AugmentJob, CopyPasteOptions
from aict_hf.model.image_processing_aict import AICTImageProcessor
from aict_hf.model.modeling_aict import AICTModel

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STAGES: dict[str, tuple[Any, str]] = {  # name of a stage: what is timed
    "decode image and masks": (AnnotatedImage, "sample"),
    "draw and paste": (augmentation.HarmonizedCopyPaste, "_draw"),
    "resize": (AICTImageProcessor, "preprocess"),
    "network": (AICTModel, "forward"),
    "LUTs": (augmentation, "apply_luts"),
    "masks and boxes": (augmentation.HarmonizedCopyPaste, "_augmented"),
    "encode": (augment_files, "_encoded"),
    "write": (augment_files, "_write"),
}


def make_dataset(folder: Path, images: int, width: int, height: int) -> AugmentJob:
    """Write a COCO dataset and a folder with one cut-out; return the job that augments it."""
    (folder / "images").mkdir(parents=True)
    (folder / "cutouts" / "dandelion").mkdir(parents=True)
    photo, mask = (Image.open(EXAMPLES / f"dandelion_{name}") for name in ("composite.jpg", "mask.png"))
    cutout = photo.convert("RGB")
    cutout.putalpha(mask.convert("L"))
    cutout.resize((640, 360)).save(folder / "cutouts" / "dandelion" / "0.png")
    photo, mask = photo.resize((width, height)), mask.convert("L").resize((width, height))
    opaque = mask.point(lambda level: 255 * (level > 127))
    left, top, right, bottom = opaque.getbbox()
    records, annotations = [], []
    encoded = mask_rle(np.asarray(opaque) > 0)
    for number in range(1, images + 1):
        photo.save(folder / "images" / f"{number}.jpg", quality=95)
        records.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        box = [left, top, right - left, bottom - top]
        annotation = {"id": number, "image_id": number, "category_id": 1, "segmentation": encoded, "bbox": box}
        annotations.append(annotation)
    categories = [{"id": 1, "name": "dandelion"}]
    content = {"images": records, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return AugmentJob(
        str(folder / "annotations.json"),
        "",
        CopyPasteOptions(objects=(2, 2)),
        cutouts=(str(folder / "cutouts"),),
        block_size=4,
    )


@contextlib.contextmanager
def stage_times() -> Iterator[dict[str, float]]:
    """Collect the seconds that this process spends in each stage while the `with` block runs."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.perf_counter() - start

        return run

    kept = {name: getattr(owner, attribute) for name, (owner, attribute) in STAGES.items()}
    for name, (owner, attribute) in STAGES.items():
        setattr(owner, attribute, timed(name, kept[name]))
    try:
        yield seconds
    finally:
        for name, (owner, attribute) in STAGES.items():
            setattr(owner, attribute, kept[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", default=["640x480", "2048x1536"], help="sizes of the images, width x height"
    )
    parser.add_argument("--images", type=int, default=64, help="images in the dataset")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the network runs"
    )
    parser.add_argument("--output", type=Path, help="also save the tables to this file")
    arguments = parser.parse_args()
    what = f"{arguments.images} images, 2 objects pasted into each, median of {arguments.runs} runs (lowest to highest)"
    lines = [f"{device_line(torch.device(arguments.device))}, {what}", ""]
    lines += ["| images | workers | paste | images/s | start, s |", "|---|---|---|---|---|"]
    shares = ["", "| images | stage | s per image | share |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            job = make_dataset(Path(folder) / size, arguments.images, *map(int, size.split("x")))
            job = replace(job, device=arguments.device)
            stages: list[dict[str, float]] = []
            for workers in arguments.workers:
                for naive in (False, True):
                    outputs = [f"{folder}/{size}_{workers}_{naive}_{run}" for run in range(arguments.runs)]
                    options = replace(job.options, naive=naive)
                    jobs = [replace(job, output=output, options=options) for output in outputs]
                    rates, starts = zip(*[rate_of(one, workers) for one in jobs], strict=True)
                    way = "naive" if naive else "harmonized"
                    lines.append(f"| {size} | {workers} | {way} | {spread(rates, 2)} | {spread(starts, 1)} |")
                    print(lines[-1], flush=True)
            for run in range(arguments.runs):
                prepared = AugmentRun(replace(job, output=f"{folder}/{size}_stages_{run}"))
                blocks = prepared.start()
                threads = torch.get_num_threads()
                torch.set_num_threads(1)
                prepared.make_block(blocks[0])  # loads the network
                start = time.perf_counter()
                with stage_times() as seconds:
                    for number in blocks[1:]:
                        prepared.make_block(number)
                total = time.perf_counter() - start
                torch.set_num_threads(threads)
                count = arguments.images - job.block_size
                taken = {name: value / count for name, value in seconds.items()}
                taken["all else"] = total / count - sum(taken.values())
                stages.append(taken)
            whole = statistics.median(sum(one.values()) for one in stages)
            for name in (*STAGES, "all else"):
                values = [one[name] for one in stages]
                share = statistics.median(values) / whole
                shares.append(f"| {size} | {name} | {spread(values, 4)} | {share:.0%} |")
    save_table("\n".join(lines + shares), arguments.output)


def rate_of(job: AugmentJob, workers: int) -> tuple[float, float]:
    """Return the images per second after each worker's first block, and the seconds until the first block."""
    times: list[tuple[float, int]] = []

    class Watch:
        """Replaces the progress bar and records when blocks are done."""

        def __init__(self, **options: Any):
            pass

        def __enter__(self) -> "Watch":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def update(self, count: int) -> None:
            times.append((time.perf_counter(), count))

    bar, augment_files.tqdm = augment_files.tqdm, Watch
    begin = time.perf_counter()
    try:
        augment_files.augment_files(job, workers=workers)
    finally:
        augment_files.tqdm = bar
    return sum(count for _, count in times[workers:]) / (times[-1][0] - times[workers - 1][0]), times[0][0] - begin


if __name__ == "__main__":  # workers are spawned
    main()
