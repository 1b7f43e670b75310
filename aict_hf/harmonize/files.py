"""Harmonize photos in files: one photo, or a folder of photos."""

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import InputError, NoMasksError, UnpairedError, one_line
from ..files.atomic_write import atomic_file
from ..files.images import (
    OUTPUT_FORMATS,
    ImageFile,
    not_kept,
    open_lazily,
    orientation,
    output_format,
    read_image,
    what_is_lost,
    write_image,
)
from ..files.photo_folders import FoundPhotos, check_outside, find_photos, pair_masks
from ..model.foreground_mask import mask_surprises
from ..model.image_arrays import is_painted_mask, mask_array
from ..model.levels import full_scale
from ..model.opened_photo import OpenedPhoto, open_photo
from .large_tiff import harmonize_large_tiff, is_large_tiff
from .options import HarmonizeOptions
from .photo_luts import IdentifiedPredictor, PhotoLUTs
from .run_record import Job, RunRecord, unfinished

PAINTED = "the mask is in one colour on black; the foreground is where that colour is"


@dataclass(frozen=True)
class FileReport:
    """One composite that was harmonized, or scored: a row of `aict harmonize --report` and of `aict score`.

    Attributes:
        composite: the file of the composite.
        mask: the file of its mask, or "" if its alpha channel was the mask.
        output: the file of the result, or "" if nothing was written.
        width, height: size of the composite in pixels.
        mask_area: share of the composite that is foreground, 0 to 1.
        disharmony: mean CIEDE2000 between the foreground and its harmonized colours.
        seconds: time from reading to writing, with an equal share of the network's time for its batch.
        error: why the file failed, else "".
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
    """The outcome of several jobs.

    Attributes:
        written: number of results that were written (or, for scores, measured).
        skipped: number of jobs whose output existed.
        failures: one error per failed job.
        files: one entry per job that was not skipped, in the order they finished.
    """

    written: int = 0
    skipped: int = 0
    failures: list[InputError] = field(default_factory=list)
    files: list[FileReport] = field(default_factory=list)

    def add(
        self, job: Job, *, width: int, height: int, mask_area: float, disharmony: float | None, seconds: float
    ) -> None:
        """Note a finished job; the arguments are attributes of `FileReport`."""
        self.written += 1
        facts = FileReport(*_names(job), width, height, mask_area, disharmony, seconds)
        self.files.append(facts)

    def fail(self, job: Job, error: InputError) -> None:
        """Note a failed job."""
        self.failures.append(error)
        self.files.append(FileReport(*_names(job), error=str(error)))

    def add_unpaired(self, errors: Sequence[UnpairedError]) -> None:
        """Note composites that have no job, before all others."""
        self.failures[:0] = errors
        self.files[:0] = [FileReport(str(error.path), "", "", error=str(error)) for error in errors]

    def worst_first(self) -> list[FileReport]:
        """The files by disharmony, the largest first; failed files last."""
        return sorted(self.files, key=lambda file: -1.0 if file.disharmony is None else file.disharmony, reverse=True)


def find_jobs(
    composites: Path,
    masks: Path | None,
    output: Path | None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    formats: tuple[str, ...] | None = None,
) -> tuple[list[Job], list[UnpairedError]]:
    """Pair the images of a folder and its subfolders with their masks and outputs.

    `find_photos` says which files count, and `pair_masks` which mask belongs to which composite. Outputs keep the
    composite's subfolder and name. Formats that this package does not write become PNG.

    Args:
        composites: folder of composites.
        masks: folder of masks. If None, the mask of `photo.jpg` is `photo_mask.png` beside it, else its alpha channel.
        output: folder of the results, or None if nothing is to be written.
        warn: called with one line for each kind of files that are left out.
        formats: Pillow's names of the formats to accept, for untrusted files; all that Pillow reads if left out.
    Returns:
        the jobs in order of file name, and an `UnpairedError` for every composite that has no mask, has several masks,
        or would be written over another output or an input.
    Raises:
        NoMasksError: if there are neither masks nor alpha channels.
        InputError: if a folder is missing or holds no images.
    """
    around = [folder for folder in (masks, output) if folder is not None]
    photos = find_photos(composites, without=around, formats=formats)
    given = photos
    if masks is not None and not (masks.is_dir() and masks.samefile(composites)):
        given = find_photos(masks, without=[composites], formats=formats)
    pairs = pair_masks(photos, None if masks is None else given)
    inputs = {path.resolve() for path in (*photos.files, *given.files)} if output is not None else set()
    jobs: list[Job] = []
    taken: dict[Path, Path] = {}  # composites by output
    failures: list[UnpairedError] = []
    for composite, candidates in pairs.items():
        if len(candidates) > 1 or (masks is not None and not candidates):
            failures.append(UnpairedError(composite, _no_one_mask(composite, candidates, photos, given)))
            continue
        suffix = composite.suffix if composite.suffix.lower() in OUTPUT_FORMATS else ".png"
        job = Job(
            composite,
            candidates[0] if candidates else None,
            None if output is None else output / photos.relative(composite).with_suffix(suffix),
        )
        if job.output is not None and job.output in taken:
            reason = f"would be written to {job.output}, as {taken[job.output]}; rename one"
            failures.append(UnpairedError(composite, reason))
            continue
        if job.output is not None and job.output.resolve() in inputs:
            reason = f"would be written over {job.output}, one of the inputs; choose another folder for the results"
            failures.append(UnpairedError(composite, reason))
            continue
        if job.output is not None:
            taken[job.output] = composite
        jobs.append(job)
    left_out = [found.left_out for found in ((photos,) if given is photos else (photos, given))]
    if not jobs and not failures:
        words = f" but {left_out[0]}" if left_out[0] else ""
        raise InputError(f"{composites}: holds no images{words}; expected JPEG, PNG, WebP, TIFF or similar")
    if masks is None and not any(job.mask is not None or _may_have_alpha(job.composite, formats) for job in jobs):
        raise NoMasksError(composites)
    for found, words in zip((photos, given), left_out, strict=False):
        if words:
            warn(f"{found.folder}: left out {words}")
    used = {mask for candidates in pairs.values() for mask in candidates}
    if unused := len(set(given.files) - used) if given is not photos else 0:
        warn(f"{masks}: {unused} of {len(given.files)} masks belong to no composite")
    return jobs, failures


def harmonize_files(
    jobs: Sequence[Job],
    harmonizer: IdentifiedPredictor,
    options: HarmonizeOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> Report:
    """Harmonize files. A file that fails does not stop the others.

    Args:
        jobs: the files to read and write.
        harmonizer: the network.
        options: how each file is treated; the defaults of `HarmonizeOptions` if left out.
        warn: called with one line for each surprise that is not a failure.
        progress: show a progress bar.
    Returns:
        the outcome of all jobs.
    Examples:
        >>> from pathlib import Path
        >>> from aict_hf import Harmonizer
        >>> jobs = [Job(Path("composite.jpg"), Path("mask.png"), Path("out.jpg"))]
        >>> report = harmonize_files(jobs, Harmonizer.from_pretrained())
        >>> report.written, report.failures
        (1, [])
    """
    options = options or HarmonizeOptions()
    record = None if options.output_folder is None else RunRecord(options.output_folder, harmonizer, options, warn)
    todo = unfinished(jobs, options, record, warn)
    run = _Run(harmonizer, options, record, Report(skipped=len(jobs) - len(todo)), warn, progress)
    with tqdm(total=len(todo), unit="image", disable=not progress or len(jobs) == 1) as bar:
        for start in range(0, len(todo), options.batch_size):
            batch = []
            for job in todo[start : start + options.batch_size]:
                batch += run.read(job)
                bar.update(len(run.report.files) - bar.n)
            for _ in run.harmonize(batch):
                bar.update(len(run.report.files) - bar.n)
    for words, files in run.notes.items():
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        warn(f"{files[0]}{others}: {words}")
    return run.report


def write_report(path: Path, files: Sequence[FileReport]) -> None:
    """Write a CSV with a row for each file and the attributes of `FileReport` as columns.

    Raises:
        InputError: if the CSV cannot be written.
    """
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [column.name for column in fields(FileReport)])
        writer.writeheader()
        for file in files:
            row = asdict(file)
            rounded = {name: f"{value:.4f}" for name, value in row.items() if isinstance(value, float)}
            writer.writerow(row | rounded)


def given_mask_surprises(mask: Image.Image | np.ndarray) -> list[str]:
    """The signs that a decoded mask is misread, as `mask_surprises` finds them, and whether it is painted."""
    return [*mask_surprises(mask_array(mask)), *([PAINTED] if is_painted_mask(mask) else [])]


def turn_surprises(photo: Path, mask: Path, size: tuple[int, int]) -> list[str]:
    """Say if a mask may have been made of the unturned photo, where the sizes would not tell.

    Args:
        photo, mask: the files.
        size: width and height of the upright photo.
    Returns:
        one sentence, or none.
    """
    turn = 1 if orientation(mask) > 1 else orientation(photo)
    if not (1 < turn < 5 or (turn > 1 and size[0] == size[1])):
        return []
    reason = f"{photo} is turned upright by its EXIF orientation {turn}"
    return [f"the mask is assumed to match the upright photo; {reason}"]


def check_output(job: Job) -> None:
    """Check that an output can be written and would not replace one of its inputs.

    Raises:
        InputError: if the output's format or folder does not fit, or the output is one of the inputs.
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


def check_output_folder(output: Path, inputs: Sequence[Path]) -> None:
    """Check that a folder of results lies in no folder of inputs, where the next run would read them as inputs.

    Raises:
        InputError: if it is one of the folders, or lies in one, or has the name of an image.
    """
    if not output.is_dir() and output.suffix.lower() in OUTPUT_FORMATS:
        raise InputError(f"{output}: is the name of an image; several results need a folder, so give its name")
    for folder in inputs:
        if output.exists() and folder.exists() and output.samefile(folder):
            raise InputError(f"{output}: is one of the inputs; choose another folder, so that nothing is lost")
        check_outside(output, folder)


def _names(job: Job) -> tuple[str, str, str]:
    return str(job.composite), str(job.mask or ""), str(job.output or "")


def _no_one_mask(composite: Path, candidates: Sequence[Path], photos: FoundPhotos, masks: FoundPhotos) -> str:
    """Why a composite has not exactly one mask."""
    stem, subfolder = composite.stem, photos.relative(composite).parent
    found = f"{len(candidates)} masks ({', '.join(c.name for c in candidates)})" if candidates else "no mask"
    if masks.folder.samefile(photos.folder):
        return f"has {found} beside it; expected one named {stem}_mask.png or similar"
    namesakes = [mask for mask in masks.files if mask.stem in (stem, f"{stem}_mask")] if not candidates else []
    elsewhere = f" (not {namesakes[0]}, which is in another subfolder)" if namesakes else ""
    return f"has {found} in {masks.folder / subfolder}; expected one named {stem}.png or similar{elsewhere}"


def _may_have_alpha(path: Path, formats: tuple[str, ...] | None) -> bool:
    """Whether an image has an alpha channel by its header; True if the header cannot be read."""
    try:
        with open_lazily(path, formats) as image:
            return image.has_transparency_data
    except Exception:  # decoders raise of many kinds on damaged files; reading the file says what is wrong
        return True


@dataclass(frozen=True)
class _Read:
    """A job with its decoded files.

    Attributes:
        is_painted: the mask's foreground is where its one colour is.
        seconds: how long decoding took.
    """

    job: Job
    file: ImageFile
    photo: OpenedPhoto
    is_painted: bool
    seconds: float


@dataclass
class _Run:
    """One call of `harmonize_files`.

    Attributes:
        record: notes what the outputs were made from, or None.
        report: the outcome so far.
        notes: files by what is said of them once, at the end.
    """

    harmonizer: IdentifiedPredictor
    options: HarmonizeOptions
    record: RunRecord | None
    report: Report
    warn: Callable[[str], None]
    progress: bool
    notes: dict[str, list[Path]] = field(default_factory=dict)

    def read(self, job: Job) -> list[_Read]:
        """The decoded files of a job; none if it failed, or if it is a large TIFF, which is harmonized right away."""
        try:
            if self.record is not None:
                self.record.begin(job)
            if job.output is None or job.mask is None or not is_large_tiff(job.composite, job.mask, job.output):
                return [_read(job, self.options, self.warn)]
            self._harmonize_large(job, job.mask, job.output)
        except InputError as error:
            self.report.fail(job, error)
        return []

    def harmonize(self, batch: Sequence[_Read]) -> Iterator[None]:
        """Harmonize decoded photos with one run of the network; yields after each of them."""
        began = time.perf_counter()
        predicted = _predict(batch, self.harmonizer)
        share = (time.perf_counter() - began) / max(1, len(batch))
        for read, luts in zip(batch, predicted, strict=True):
            try:
                self._write(read, luts, read.seconds + share)
            except InputError as error:
                self.report.fail(read.job, error)
            yield

    def _harmonize_large(self, job: Job, mask: Path, output: Path) -> None:
        began = time.perf_counter()
        large = harmonize_large_tiff(
            job.composite, mask, output, self.harmonizer, self.options, warn=self.warn, progress=self.progress
        )
        if not large.mask_area:
            _warn_of_no_foreground(job, self.warn)
        facts = large._asdict()
        self._finish(job, facts.pop("not_kept"), **facts, seconds=time.perf_counter() - began)

    def _write(self, read: _Read, luts: PhotoLUTs | Exception, seconds: float) -> None:
        """Write the result of a decoded photo, for which `seconds` were spent before."""
        began, job = time.perf_counter(), read.job
        disharmony = _write_result(read, luts, self.options)
        self._finish(
            job,
            [] if job.output is None else what_is_lost(job.output, read.file),
            width=read.file.size[0],
            height=read.file.size[1],
            mask_area=float(read.photo.mask.mean()) / full_scale(read.photo.mask),
            disharmony=disharmony,
            seconds=seconds + time.perf_counter() - began,
        )
        if job.mask is not None and read.is_painted:
            self.notes.setdefault(PAINTED, []).append(job.mask)
        for surprise in _surprises(read):
            self.warn(f"{job.mask or job.composite}: {surprise}")

    def _finish(self, job: Job, lost: Sequence[str], **facts: Any) -> None:
        """Note a job that is done; `facts` are those of `Report.add`."""
        for note in not_kept(lost):
            self.notes.setdefault(note, []).append(job.composite)
        self.report.add(job, **facts)
        if self.record is not None:
            self.record.finish(job)


def _read(job: Job, options: HarmonizeOptions, warn: Callable[[str], None]) -> _Read:
    began = time.perf_counter()
    file = read_image(job.composite, max_megapixels=options.max_megapixels)
    foreground: Image.Image | np.ndarray | None = None
    if job.mask is not None:
        foreground = read_image(job.mask, max_megapixels=options.max_megapixels).pixels
    try:
        photo = open_photo(file.pixels, foreground)
    except ValueError as error:
        raise InputError(f"{job.mask or job.composite}: {error}") from error
    if options.invert_mask:
        photo = photo.inverted()
    if not photo.mask.any():
        _warn_of_no_foreground(job, warn)
    is_painted = foreground is not None and is_painted_mask(foreground)
    return _Read(job, file, photo, is_painted, time.perf_counter() - began)


def _predict(batch: Sequence[_Read], harmonizer: IdentifiedPredictor) -> list[PhotoLUTs | Exception]:
    """For each photo its LUTs, or the exception that prevented them."""
    try:
        return list(harmonizer.predict_opened([read.photo for read in batch]))
    except Exception as error:  # one photo's fault, or too many at once for the memory
        if len(batch) == 1:
            return [error]
        return [_predict([read], harmonizer)[0] for read in batch]


def _write_result(read: _Read, luts: PhotoLUTs | Exception, options: HarmonizeOptions) -> float | None:
    """Write the result of a job. Returns its disharmony if that is to be measured."""
    result = read.file
    try:
        if isinstance(luts, Exception):
            raise luts
        disharmony = luts.disharmony() if options.measure else None
        if read.job.output is not None:
            result = replace(read.file, pixels=luts.apply(strength=options.strength, overwrite=True))
    except Exception as error:  # too large for the memory, for example; the others go on
        raise InputError(f"{read.job.composite}: {one_line(error) or type(error).__name__}") from error
    if read.job.output is not None:
        write_image(read.job.output, result)
    return disharmony


def _surprises(read: _Read) -> list[str]:
    """The signs that the mask of a job is misread."""
    found = read.photo.surprises()
    if read.job.mask is not None:
        found += turn_surprises(read.job.composite, read.job.mask, read.file.size)
    return found


def _warn_of_no_foreground(job: Job, warn: Callable[[str], None]) -> None:
    warn(f"{job.mask or job.composite}: the mask has no foreground; the image is written unchanged")


__all__ = [
    "FileReport",
    "Job",
    "Report",
    "check_output",
    "check_output_folder",
    "find_jobs",
    "given_mask_surprises",
    "harmonize_files",
    "turn_surprises",
    "write_report",
]
