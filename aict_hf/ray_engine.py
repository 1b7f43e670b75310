"""`aict augment` and `aict harmonize` on Ray Data: on the processes of one machine, or the machines of a cluster.

Needs `pip install "aict_hf[augment,ray]"`. Ray Data gives blocks of images to actors. Each actor holds a network on its
share of CPUs or GPUs, reads the images and writes the results. The names of the results are known beforehand: if a
worker or its machine dies, the repeated block replaces its own files. An interrupted run resumes where it stopped. The
results are the same as those of the local engine on torch.

On a cluster, install the package on every machine and put inputs and outputs on a file system that all machines share
(NFS, Lustre, a mounted bucket). Then run on one of the machines:

    ray start --head                      # and on the others: ray start --address=HEAD:6379
    aict augment in.json /shared/out --engine ray --workers 32 --gpus-per-worker 0.25 --format parquet --block-size 256

Commands that run on a machine of a cluster use this cluster, or the one that RAY_ADDRESS names. On other machines, Ray
uses only that machine. For a remote cluster, use `ray job submit -- aict augment ...`. Set the number of workers to the
number of CPUs, or to the number of GPUs times the networks that fit into one.
"""

import json
import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .augment.files import AugmentReport, AugmentRun
from .augment.options import AugmentJob
from .errors import InputError
from .harmonize.files import FileReport, Job, Report, harmonize_files
from .harmonize.harmonizer import Harmonizer
from .harmonize.options import HarmonizeOptions
from .harmonize.run_record import RunRecord, unfinished

MOST_UNITS = 4096  # most pieces of work: each costs Ray some bookkeeping


def augment_with_ray(
    job: AugmentJob, *, workers: int = 1, gpus_per_worker: float = 0.0, progress: bool = False
) -> AugmentReport:
    """Do a job on Ray, with the same result as `augment_files`. Call it again to resume an interrupted run.

    Args:
        job: the job to do. Its paths must lead to the same files on all machines.
        workers: number of actors, each with its own network and one CPU.
        gpus_per_worker: share of a GPU for each actor; above 0, the job's `device` should be "cuda".
        progress: show a progress bar.
    Raises:
        InputError: if the job cannot be done, or Ray is not installed or gives up.
    """
    run = AugmentRun(job)
    todo = run.start()
    earlier = run.total - run.count_images(todo)
    with tqdm(total=run.total, initial=earlier, unit="image", disable=not progress) as bar:
        numbers = [{"number": number} for number in todo]
        for row in _mapped(numbers, 1, _BlockMaker, (run.job,), workers, gpus_per_worker):
            bar.update(row["images"])
    return replace(run.finish(), earlier=earlier)


def harmonize_with_ray(
    jobs: Sequence[Job],
    checkpoint: str | None = None,
    options: HarmonizeOptions | None = None,
    *,
    device: str = "cpu",
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
) -> Report:
    """Do the work of `harmonize_files` on Ray.

    Args:
        jobs: the files to read and write. The paths must lead to the same files on all machines.
        checkpoint: as for `Harmonizer.from_pretrained`. Each worker loads it.
        options: how each file is treated; the defaults of `HarmonizeOptions` if left out.
        device: where each network runs.
        workers, gpus_per_worker, progress: as for `augment_with_ray`.
        warn: called with one line for each surprise that is not a failure.
    Raises:
        InputError: if the checkpoint cannot be loaded, or Ray is not installed or gives up.
    """
    options = options or HarmonizeOptions()
    harmonizer = Harmonizer.from_pretrained(checkpoint)  # a bad checkpoint is one line here, a Ray error in a worker
    record = None if options.output_folder is None else RunRecord(options.output_folder, harmonizer, options, warn)
    todo = unfinished(jobs, options, record, warn)
    report = Report(skipped=len(jobs) - len(todo))
    rows = [
        {
            "composite": str(job.composite.absolute()),
            "mask": "" if job.mask is None else str(job.mask.absolute()),
            "output": "" if job.output is None else str(job.output.absolute()),
        }
        for job in todo
    ]
    by_output = {row["output"]: job for row, job in zip(rows, todo, strict=True)}
    if record is not None:
        for job in todo:
            record.begin(job)
    arguments = (checkpoint, device, replace(options, skip_existing=False, output_folder=None))
    with tqdm(total=len(todo), unit="image", disable=not progress) as bar:
        for row in _mapped(rows, options.batch_size, _HarmonizeActor, arguments, workers, gpus_per_worker):
            report.written += row["written"]
            report.failures += pickle.loads(row["failures"])
            files = [FileReport(**file) for file in json.loads(row["files"])]
            report.files += files
            for file in files:
                if record is not None and not file.error:
                    record.finish(by_output[file.output])
            for message in row["warnings"]:
                warn(message)
            bar.update(row["images"])
    return report


class _BlockMaker:
    """Actor that makes blocks of an `AugmentRun`."""

    def __init__(self, job: AugmentJob):
        torch.set_num_threads(1)  # as in the local engine: sums in another order differ in the last bit
        self.run = AugmentRun(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        return {"images": [self.run.make_block(int(number)) for number in batch["number"]]}


class _HarmonizeActor:
    """Harmonizes batches of jobs."""

    def __init__(self, checkpoint: str | None, device: str, options: HarmonizeOptions) -> None:
        torch.set_num_threads(1)
        self.options = options
        self.harmonizer = Harmonizer.from_pretrained(checkpoint, device=device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        warnings: list[str] = []
        jobs = [
            Job(Path(composite), Path(mask) if mask else None, Path(output) if output else None)
            for composite, mask, output in zip(batch["composite"], batch["mask"], batch["output"], strict=True)
        ]
        report = harmonize_files(jobs, self.harmonizer, self.options, warn=warnings.append)
        row: dict[str, Any] = {"written": report.written, "warnings": warnings}
        row["failures"] = pickle.dumps(report.failures)  # with the fields of each error
        row |= {"images": len(jobs), "files": json.dumps([asdict(file) for file in report.files])}
        return {name: [value] for name, value in row.items()}


def _mapped(
    rows: Sequence[dict[str, Any]],
    batch_size: int,
    actor: type,
    arguments: tuple[Any, ...],
    workers: int,
    gpus_per_worker: float,
) -> Iterator[dict[str, Any]]:
    """The results of the actors, one row for each batch, in the order they finish."""
    if not rows:
        return
    batches = -(-len(rows) // batch_size)
    with _ray() as ray:
        units = ray.data.from_items(list(rows), override_num_blocks=min(batches, MOST_UNITS))
        results = units.map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=batch_size,
            compute=ray.data.ActorPoolStrategy(size=min(workers, batches)),
            num_cpus=1,
            num_gpus=gpus_per_worker or None,
        )
        try:
            yield from results.iter_rows()
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            ours = [line.partition("InputError: ")[2] for line in lines if "InputError: " in line]
            if ours:
                raise InputError(ours[-1]) from error
            raise InputError(f"Ray gave up ({lines[-1][:300]}); run the same command again to resume") from error


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray on the running cluster, or started for the duration of the block."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError('Ray is not installed; pip install "aict_hf[augment,ray]"') from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    shown = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False  # the command has its own bar
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars, context.print_on_execution_start = shown
        if started:
            ray.shutdown()


__all__ = ["augment_with_ray", "harmonize_with_ray"]
