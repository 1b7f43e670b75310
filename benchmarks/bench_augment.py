"""How fast `aict augment` is with 1 and 2 workers, and where the time goes.

    python benchmarks/bench_augment.py --output out/augment.md

The data are made on the spot from the example photo: JPEGs of several sizes with an object's mask each, and its
cut-out, 640 x 360, as the foreground. First table: images a second from file to file, beside naive pasting, once every
worker has made its first block; and how long it takes until the first is there. Second table: seconds of one worker by
stage, with their share. Medians of several runs, with the lowest and the highest.
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
from aict_hf.augment.files import AugmentJob, AugmentRun
from aict_hf.model.image_processing_aict import AICTImageProcessor
from aict_hf.model.modeling_aict import AICTModel

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STAGES: dict[str, tuple[Any, str]] = {  # what is timed under which name
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
    """A COCO dataset and a folder with one cut-out."""
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
        str(folder / "annotations.json"), "", foregrounds=(str(folder / "cutouts"),), objects=(2, 2), block_size=4
    )


@contextlib.contextmanager
def stage_times() -> Iterator[dict[str, float]]:
    """Seconds spent in each stage while the block runs, in this process."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable) -> Callable:
        def run(*args, **kwargs):
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
    parser.add_argument("--sizes", nargs="+", default=["640x480", "2048x1536"], help="width x height")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="save the tables here too")
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
                    jobs = [replace(job, output=output, naive=naive) for output in outputs]
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
    """Images a second once the first block is there, and seconds until then."""
    times: list[tuple[float, int]] = []

    class Watch:
        """Stands in for the progress bar, and notes when blocks come."""

        def __init__(self, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count):
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
