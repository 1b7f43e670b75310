"""Time and peak memory of a call, and how a table says them, for the benchmarks beside this file."""

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aict_hf.files.atomic_write import atomic_file


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, what it started on a GPU included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def extra_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes a call holds at most beyond what was held before it, its result included.

    On a GPU what torch allocates; on a CPU (Linux alone) the process's resident memory, after freed memory went back to
    the system.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def device_line(device: torch.device) -> str:
    """What figures were taken on."""
    name = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"{device.type} ({name}), torch {torch.__version__}"


def spread(values: Sequence[float], digits: int, *, scale: float = 1.0) -> str:
    """Median, lowest and highest."""
    middle, low, high = (f"{scale * v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def save_table(table: str, path: Path | None) -> None:
    """Print a table, and write it to a file where one is named."""
    print(table)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            partial.write_text(table + "\n")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024
