"""Harmonize photos that lie in files: one, or a folder of them."""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..errors import InputError, one_line
from ..files.atomic_write import atomic_file
from ..files.images import (
    DEFAULT_MAX_MEGAPIXELS,
    IMAGE_SUFFIXES,
    OUTPUT_FORMATS,
    ImageFile,
    output_format,
    read_image,
    write_image,
)
from ..model.image_processing_aict import AICTImageProcessor, photo_tensors
from ..model.levels import to_unit
from ..model.modeling_aict import AICTModel
from .large_tiff import harmonize_large_tiff, is_large_tiff


@dataclass(frozen=True)
class Job:
    """One composite to harmonize.

    `mask` is None where the composite's alpha channel is the mask, `output` where the composite is only measured.
    """

    composite: Path
    mask: Path | None
    output: Path | None


@dataclass(frozen=True)
class FileReport:
    """One composite that was harmonized, or scored: a row of `aict harmonize --report` and of `aict score`.

    Attributes:
        composite, mask, output: the files; mask is "" where the alpha channel was it, output where nothing is written.
        width, height: of the composite, in pixels.
        mask_area: share of it that is foreground, 0 to 1.
        disharmony: how far the foreground was from its harmonized colours, mean CIEDE2000.
        seconds: from reading to writing; of the network, its share.
        error: why it failed, else "".
    """

    composite: str
    mask: str
    output: str
    width: int | None = None
    height: int | None = None
    mask_area: float | None = None
    disharmony: float | None = None
    seconds: float | None = None
    error: str = ""


@dataclass
class Report:
    """What became of the jobs.

    Attributes:
        written: how many results were written (or, for scores, measured).
        skipped: how many were there already.
        failures: one line for each that failed.
        files: one entry for each that was worked on, as they were finished.
    """

    written: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)


def find_jobs(composites: Path, masks: Path, output: Path | None) -> tuple[list[Job], list[str]]:
    """Pair the images of a folder with their masks and outputs.

    A composite's mask has its stem (`photo.jpg`, `photo.png`), its stem and `_mask` (`photo_mask.png`) or, as in
    iHarmony4, its stem without the last number (`a0002_1_4.jpg`, `a0002_1.png`). Outputs keep the composite's name;
    formats this package does not write become PNG. Without an output folder nothing is to be written.

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
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}  # composites by output
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
        job = Job(composite, candidates[0], None if output is None else output / (composite.stem + suffix))
        if job.output is not None and job.output in taken:
            failures.append(f"{composite}: would be written to {job.output}, as {taken[job.output]}; rename one")
            continue
        if job.output is not None:
            taken[job.output] = composite
        jobs.append(job)
    if not jobs and not failures:
        raise InputError(f"{composites}: holds no images; expected {', '.join(IMAGE_SUFFIXES)}")
    return jobs, failures


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
    measure: bool = False,
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
        measure: put the disharmony of each composite into the report.
        warn: called with one line for what is no failure, but may surprise.
        progress: show a progress bar.
    Returns:
        what became of the jobs.
    """
    report = Report()
    todo = [job for job in jobs if not (skip_existing and job.output is not None and job.output.is_file())]
    report.skipped = len(jobs) - len(todo)
    with tqdm(total=len(todo), unit="image", disable=not progress or len(jobs) == 1) as bar:

        def done(job: Job, **facts: Any) -> None:
            """Note what became of a job: it is finished, or failed if `error` is among the facts."""
            if "error" in facts:
                report.failures.append(facts["error"])
            else:
                report.written += 1
            mask, output = ("" if path is None else str(path) for path in (job.mask, job.output))
            report.files.append(FileReport(str(job.composite), mask, output, **facts))
            bar.update()

        for start in range(0, len(todo), batch_size):
            batch = []
            for job in todo[start : start + batch_size]:
                began = time.perf_counter()
                try:
                    if job.output is not None and is_large_tiff(job.composite, job.mask, job.output):
                        assert job.mask is not None
                        large = harmonize_large_tiff(
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
                        if not large.mask_area:
                            _warn_of_no_foreground(job, warn)
                        done(job, **large._asdict(), seconds=time.perf_counter() - began)
                        continue
                    photo, mask = _read(job, invert_mask, max_megapixels, warn)
                    batch.append(_Opened(job, photo, mask, time.perf_counter() - began))
                except InputError as error:
                    done(job, error=str(error))
            began = time.perf_counter()
            options: dict[str, Any] = {"strength": strength, "measure": measure}
            try:
                results = _harmonize(batch, model, processor, **options)
            except Exception:  # whichever of them it was (too large for the memory, say), the others shall go on
                results = [_harmonize_alone(item, model, processor, **options) for item in batch]
            each = (time.perf_counter() - began) / max(1, len(batch))
            for item, result in zip(batch, results, strict=True):
                began = time.perf_counter()
                try:
                    if isinstance(result, Exception):
                        raise InputError(f"{item.job.composite}: {one_line(result) or type(result).__name__}")
                    pixels, disharmony = result
                    if item.job.output is not None:
                        write_image(item.job.output, replace(item.photo, pixels=pixels))
                    done(
                        item.job,
                        width=item.photo.size[0],
                        height=item.photo.size[1],
                        mask_area=float(item.mask.mean()),
                        disharmony=disharmony,
                        seconds=item.seconds + each + time.perf_counter() - began,
                    )
                except InputError as error:
                    done(item.job, error=str(error))
    return report


def write_report(path: Path, files: Sequence[FileReport]) -> None:
    """Write a table of files as CSV, one row each, with the attributes of `FileReport` as columns.

    Raises:
        InputError: if it cannot be written.
    """
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [column.name for column in fields(FileReport)])
        writer.writeheader()
        for file in files:
            row = asdict(file)
            rounded = {name: f"{value:.4f}" for name, value in row.items() if isinstance(value, float)}
            writer.writerow(row | rounded)


def check_output(job: Job) -> None:
    """Refuse an output that cannot be written, or would replace one of the files it is made from.

    Raises:
        InputError: saying which.
    """
    if job.output is None:
        return
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


@dataclass(frozen=True)
class _Opened:
    """A job whose files are read; `seconds` is how long that took."""

    job: Job
    photo: ImageFile
    mask: torch.Tensor
    seconds: float


@torch.inference_mode()
def _harmonize(
    batch: Sequence[_Opened], model: AICTModel, processor: AICTImageProcessor, *, strength: float, measure: bool
) -> list[Any]:
    """For each photo its result (None where no file is to be written) and its disharmony (None unless measured)."""
    if not batch:
        return []
    images, masks = [item.photo.pixels for item in batch], [item.mask for item in batch]
    inputs = processor(images, masks, return_tensors="pt").to(model.device)
    outputs = model(**inputs, return_harmonized=False)
    results: list[Any] = [None] * len(batch)
    if any(item.job.output is not None for item in batch):
        results = processor.post_process_harmonization(outputs, images, masks, strength)
    distances = processor.disharmony(outputs, images, masks) if measure else [None] * len(batch)
    return list(zip(results, distances, strict=True))


def _harmonize_alone(item: _Opened, model: AICTModel, processor: AICTImageProcessor, **options: Any) -> Any:
    """The result for one photo, or the exception in its place."""
    try:
        return _harmonize([item], model, processor, **options)[0]
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


__all__ = ["FileReport", "Job", "Report", "check_output", "find_jobs", "harmonize_files", "write_report"]
