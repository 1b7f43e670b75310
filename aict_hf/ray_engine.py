"""`aict augment` and `aict harmonize` on Ray Data: over the processes of one machine, or the machines of a cluster.

Needs `pip install "aict_hf[augment,ray]"`. Ray Data hands out blocks of images to actors, each of which holds a network
on its share of CPUs or GPUs, reads the images, and writes the results itself under names that are known beforehand. So
a block that is made again, because a worker or its machine died, replaces its own files; an interrupted run goes on
where it stopped; and the results are those of the local engine.

On a cluster, install the package on every machine and put inputs and outputs on a file system that all share (NFS,
Lustre, a mounted bucket). Then, on any of the machines:

    ray start --head                      # and on the others: ray start --address=HEAD:6379
    aict augment in.json /shared/out --engine ray --workers 32 --gpus-per-worker 0.25 --format parquet --block-size 256

Commands started on a machine of a cluster use the cluster (or what RAY_ADDRESS names), elsewhere Ray on that machine
alone; `ray job submit -- aict augment ...` does for a cluster elsewhere. Give as many workers as there are CPUs to use,
or GPUs times what fits into one.
"""

import json
import logging
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
from .pretrained import load_checkpoint

MOST_UNITS = 4096  # that the work is cut into: each costs Ray some bookkeeping


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
    *,
    device: str = "cpu",
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    skip_existing: bool = False,
    warn: Callable[[str], None] = lambda message: None,
    progress: bool = False,
    **options: Any,
) -> Report:
    """Do what `harmonize_files` does on Ray.

    Args:
        jobs: what to read and write; the paths must lead to the same files on all machines.
        checkpoint: as for `load_checkpoint`.
        device: where each network runs.
        workers, gpus_per_worker, progress: as for `augment_with_ray`.
        skip_existing, warn, options: as for `harmonize_files`.
    Raises:
        InputError: if the checkpoint cannot be loaded, or Ray is not installed or gives up.
    """
    load_checkpoint(checkpoint)  # here, where its errors are one line
    todo = [job for job in jobs if not (skip_existing and job.output is not None and job.output.is_file())]
    report = Report(skipped=len(jobs) - len(todo))
    rows = [
        {
            "composite": str(job.composite.absolute()),
            "mask": "" if job.mask is None else str(job.mask.absolute()),
            "output": "" if job.output is None else str(job.output.absolute()),
        }
        for job in todo
    ]
    arguments = (checkpoint, device, options)
    with tqdm(total=len(todo), unit="image", disable=not progress) as bar:
        for row in _mapped(rows, options.get("batch_size", 4), _Harmonizer, arguments, workers, gpus_per_worker):
            report.written += row["written"]
            report.failures += list(row["failures"])
            report.files += [FileReport(**file) for file in json.loads(row["files"])]
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


class _Harmonizer:
    """Harmonizes batches of jobs."""

    def __init__(self, checkpoint: str | None, device: str, options: dict[str, Any]):
        torch.set_num_threads(1)
        self.options = options
        self.network = load_checkpoint(checkpoint, device=device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        warnings: list[str] = []
        jobs = [
            Job(Path(composite), Path(mask) if mask else None, Path(output) if output else None)
            for composite, mask, output in zip(batch["composite"], batch["mask"], batch["output"], strict=True)
        ]
        report = harmonize_files(jobs, *self.network, warn=warnings.append, **self.options)
        row: dict[str, Any] = {"written": report.written, "failures": report.failures, "warnings": warnings}
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
    """What actors return for each batch of rows, as it comes."""
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
            raise InputError(f"Ray gave up ({lines[-1][:300]}); run the same command again to go on") from error


@contextmanager
def _ray() -> Iterator[Any]:
    """Ray, on the cluster that is there, or started for as long as the block runs."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError('--engine ray needs Ray; pip install "aict_hf[augment,ray]"') from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    shown = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False  # there is one bar already
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars, context.print_on_execution_start = shown
        if started:
            ray.shutdown()


__all__ = ["augment_with_ray", "harmonize_with_ray"]
