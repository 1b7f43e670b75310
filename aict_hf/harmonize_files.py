"""Harmonize photos that lie in files: one, or a folder of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .errors import InputError, one_line
from .image_files import (
    DEFAULT_MAX_MEGAPIXELS,
    IMAGE_SUFFIXES,
    OUTPUT_FORMATS,
    ImageFile,
    output_format,
    read_image,
    write_image,
)
from .image_processing_aict import AICTImageProcessor, photo_tensors
from .large_images import harmonize_large_tiff, is_large_tiff
from .lut import to_unit
from .modeling_aict import AICTModel


@dataclass(frozen=True)
class Job:
    """One composite to harmonize; `mask` is None where the composite's alpha channel is the mask."""

    composite: Path
    mask: Path | None
    output: Path


@dataclass
class Report:
    """What became of the jobs."""

    written: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)


def find_jobs(composites: Path, masks: Path, output: Path) -> tuple[list[Job], list[str]]:
    """Pair the images of a folder with their masks and outputs.

    A composite's mask has its stem (`photo.jpg`, `photo.png`), its stem and `_mask` (`photo_mask.png`) or, as in
    iHarmony4, its stem without the last number (`a0002_1_4.jpg`, `a0002_1.png`). Outputs keep the composite's name;
    formats this package does not write become PNG.

    Returns:
        the jobs in order of file name, and one message for every composite that has no mask, or several, or shares
        its output with another.
    Raises:
        InputError: if a folder is missing or holds no images.
    """
    for folder in (composites, masks):
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder; give a folder of images")
    by_stem: dict[str, list[Path]] = {}
    for path in _images_in(masks):
        by_stem.setdefault(path.stem, []).append(path)
    jobs: dict[Path, Job] = {}
    failures = []
    for composite in _images_in(composites):
        base, _, number = composite.stem.rpartition("_")
        names = [composite.stem, f"{composite.stem}_mask", *([base] if number.isdigit() else [])]
        candidates = next((by_stem[name] for name in names if name in by_stem), [])
        if len(candidates) != 1:
            found = f"{len(candidates)} masks ({', '.join(c.name for c in candidates)})" if candidates else "no mask"
            failures.append(f"{composite}: has {found} in {masks}; expected one named {composite.stem}.png or alike")
            continue
        suffix = composite.suffix if composite.suffix.lower() in OUTPUT_FORMATS else ".png"
        job = Job(composite, candidates[0], output / (composite.stem + suffix))
        if job.output in jobs:
            failures.append(
                f"{composite}: would be written to {job.output}, as {jobs[job.output].composite}; rename one"
            )
            continue
        jobs[job.output] = job
    if not jobs and not failures:
        raise InputError(f"{composites}: holds no images; expected {', '.join(IMAGE_SUFFIXES)}")
    return list(jobs.values()), failures


def harmonize_files(
    jobs: Sequence[Job],
    model: AICTModel,
    processor: AICTImageProcessor,
    *,
    strength: float = 1.0,
    invert_mask: bool = False,
    batch_size: int = 4,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    skip_existing: bool = False,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> Report:
    """Harmonize files; one that fails does not stop the others.

    Args:
        jobs: what to read and write.
        model, processor: a checkpoint's two parts.
        strength: share of the change to apply, 0 to 1.
        invert_mask: fit the background to the foreground instead.
        batch_size: how many composites go through the network, and stay in memory, at once.
        max_megapixels: refuse larger images.
        skip_existing: leave jobs whose output exists (outputs appear only when complete).
        warn: called with one line for what is no failure, but may surprise.
        progress: show a progress bar.
    Returns:
        how many were written and skipped, and a line for each that failed.
    """
    report = Report()
    todo = [job for job in jobs if not (skip_existing and job.output.is_file())]
    report.skipped = len(jobs) - len(todo)
    with tqdm(total=len(todo), unit="image", disable=not progress or len(jobs) == 1) as bar:
        for start in range(0, len(todo), batch_size):
            batch = []
            for job in todo[start : start + batch_size]:
                try:
                    if is_large_tiff(job.composite, job.mask, job.output):
                        assert job.mask is not None
                        any_foreground = harmonize_large_tiff(
                            job.composite,
                            job.mask,
                            job.output,
                            model,
                            processor,
                            strength=strength,
                            invert_mask=invert_mask,
                            max_megapixels=max_megapixels,
                            progress=progress,
                        )
                        if not any_foreground:
                            _warn_of_no_foreground(job, warn)
                        report.written += 1
                        bar.update()
                        continue
                    batch.append((job, *_read(job, invert_mask, max_megapixels, warn)))
                except InputError as error:
                    report.failures.append(str(error))
                    bar.update()
            try:
                results = _harmonize(batch, model, processor, strength)
            except Exception:  # whichever of them it was (too large for the memory, say), the others shall go on
                results = [_harmonize_alone(item, model, processor, strength) for item in batch]
            for (job, photo, _), result in zip(batch, results, strict=True):
                try:
                    if isinstance(result, Exception):
                        raise InputError(f"{job.composite}: {one_line(result) or type(result).__name__}")
                    write_image(job.output, replace(photo, pixels=result))
                    report.written += 1
                except InputError as error:
                    report.failures.append(str(error))
                bar.update()
    return report


def check_output(job: Job) -> None:
    """Refuse an output that cannot be written, or would replace one of the files it is made from.

    Raises:
        InputError: saying which.
    """
    output_format(job.output)
    if not job.output.parent.is_dir():
        raise InputError(f"{job.output.parent}: no such folder; create it, or choose another output")
    if job.output.is_dir():
        raise InputError(f"{job.output}: is a folder; give the name of a file")
    for source in (job.composite, job.mask):
        if source is not None and job.output.exists() and source.exists() and source.samefile(job.output):
            raise InputError(f"{job.output}: is one of the inputs; choose another output, so that nothing is lost")


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


@torch.inference_mode()
def _harmonize(
    batch: Sequence[tuple[Job, ImageFile, torch.Tensor]],
    model: AICTModel,
    processor: AICTImageProcessor,
    strength: float,
) -> list[Any]:
    if not batch:
        return []
    images, masks = [photo.pixels for _, photo, _ in batch], [mask for _, _, mask in batch]
    inputs = processor(images, masks, return_tensors="pt").to(model.device)
    outputs = model(**inputs, return_harmonized=False)
    return processor.post_process_harmonization(outputs, images, masks, strength)


def _harmonize_alone(
    item: tuple[Job, ImageFile, torch.Tensor], model: AICTModel, processor: AICTImageProcessor, strength: float
) -> Any:
    """The result for one photo, or the exception in its place."""
    try:
        return _harmonize([item], model, processor, strength)[0]
    except Exception as error:
        return error


def _read(
    job: Job, invert_mask: bool, max_megapixels: float, warn: Callable[[str], None]
) -> tuple[ImageFile, torch.Tensor]:
    photo = read_image(job.composite, max_megapixels=max_megapixels)
    foreground: Image.Image | np.ndarray | None = None
    if job.mask is not None:
        foreground = read_image(job.mask, max_megapixels=max_megapixels).pixels
    try:
        _, mask = photo_tensors(photo.pixels, foreground)
    except ValueError as error:
        raise InputError(f"{job.mask or job.composite}: {error}") from error
    mask = to_unit(mask)
    if invert_mask:
        mask = 1 - mask
    if not mask.any():
        _warn_of_no_foreground(job, warn)
    return photo, mask


def _warn_of_no_foreground(job: Job, warn: Callable[[str], None]) -> None:
    warn(f"{job.mask or job.composite}: the mask has no foreground; the image is written unchanged")


__all__ = ["Job", "Report", "check_output", "find_jobs", "harmonize_files"]
