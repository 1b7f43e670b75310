"""What the outputs of a folder were made from, so that a later run knows which of them are finished."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import HarmonizeOptions
from .photo_luts import IdentifiedPredictor


@dataclass(frozen=True)
class Job:
    """One composite to harmonize.

    Attributes:
        composite: the file to read.
        mask: the file of its mask, or None if the composite's alpha channel is the mask.
        output: the file to write, or None if the composite is only measured.
    """

    composite: Path
    mask: Path | None
    output: Path | None


class RunRecord:
    """A file beside a folder of outputs with a line for each output: what it was made from.

    It is not in the folder, because programs read whatever a folder of photos holds. A line is written before an output
    is written, and another one after it, so the record never takes an old output for a new one. A file that cannot be
    written costs a warning.

    Args:
        output: the folder of outputs.
        harmonizer: the network.
        options: the strength and whether the mask is inverted.
        warn: called with one line if the file cannot be written.
    """

    def __init__(
        self, output: Path, harmonizer: IdentifiedPredictor, options: HarmonizeOptions, warn: Callable[[str], None]
    ) -> None:
        self.folder = output
        self.path = output.resolve().parent / f".{output.resolve().name}.aict.jsonl"
        self._settings = [
            harmonizer.digest(),
            list(harmonizer.input_size),
            options.strength,
            options.invert_mask,
        ]
        self._warn: Callable[[str], None] | None = warn
        self._lines: dict[str, Any] = {}
        self._cut = False  # whether the file ends within a line
        with contextlib.suppress(OSError):
            text = self.path.read_text(encoding="utf-8", errors="replace")
            self._cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                with contextlib.suppress(ValueError, TypeError):  # a full disk cut it; the other lines count
                    name, facts, written = json.loads(line)
                    self._lines[name] = [facts, written]

    def knows(self, job: Job) -> bool:
        """Whether the job's output was made, or begun, by a recorded run and has not been replaced since."""
        written = self._lines.get(self._name(job), [None, []])[1]
        return written is None or written == file_stamp(job.output)

    def is_finished(self, job: Job) -> bool:
        """Whether the job's output was made from the same files with the same settings."""
        facts, written = self._lines.get(self._name(job), [None, None])
        return written is not None and facts == self._facts(job)

    def begin(self, job: Job) -> None:
        """Note that the job's output is about to be written, and create its subfolder.

        Raises:
            InputError: if the subfolder cannot be created.
        """
        if job.output is None:
            return
        try:
            job.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{job.output.parent}: cannot be made a folder ({error.strerror})") from error
        self._write(job, None)

    def finish(self, job: Job) -> None:
        """Note that the job's output is complete."""
        if job.output is not None:
            self._write(job, file_stamp(job.output))

    def _name(self, job: Job) -> str:
        assert job.output is not None
        return Path(os.path.relpath(job.output, self.folder)).as_posix()

    def _facts(self, job: Job) -> list[Any]:
        return [
            *self._settings,
            job.composite.name,
            file_stamp(job.composite),
            job.mask and job.mask.name,
            file_stamp(job.mask),
        ]

    def _write(self, job: Job, written: list[int] | None) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                line = json.dumps([self._name(job), self._facts(job), written])
                file.write(f"\n{line}\n" if self._cut else f"{line}\n")
            self._cut = False
        except OSError as error:
            if self._warn is not None:
                self._warn(
                    f"{self.path}: cannot be written ({error.strerror}); a later run cannot tell what is finished"
                )
            self._warn = None


def unfinished(
    jobs: Sequence[Job], options: HarmonizeOptions, record: RunRecord | None, warn: Callable[[str], None]
) -> list[Job]:
    """The jobs that are still to be done.

    Args:
        jobs: all jobs.
        options: without `skip_existing`, all jobs are to be done.
        record: how existing outputs were made; None if nobody recorded it, and existing outputs count as finished.
        warn: called with one line about outputs that are made again, and one about outputs of unknown origin, which are
            kept.
    """
    if not options.skip_existing:
        return list(jobs)
    todo, again, unknown = [], 0, []
    for job in jobs:
        if job.output is None or not job.output.is_file():
            todo.append(job)
        elif record is None or (record.knows(job) and record.is_finished(job)):
            continue
        elif record.knows(job):
            again += 1
            todo.append(job)
        else:
            unknown.append(job.output)
    if again:
        warn(f"outputs made again, because settings or files have changed: {again}")
    if unknown:
        warn(f"outputs kept, because no recorded run made them: {len(unknown)} (the first is {unknown[0]})")
    return todo


def file_stamp(path: Path | None) -> list[int]:
    """Size and time (ns) of a file; empty if there is none."""
    try:
        return [] if path is None else [(status := path.stat()).st_size, status.st_mtime_ns]
    except OSError:
        return []


__all__ = ["RunRecord", "file_stamp", "unfinished"]
