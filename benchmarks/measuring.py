"""Peak memory of a call, for the benchmarks beside this file. On a CPU it needs Linux."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def extra_memory(run: Callable[[], object], device: torch.device) -> int:
    """Bytes a call holds at most beyond what was held before it, its result included.

    On a GPU what torch allocates; on a CPU the process's resident memory, after freed memory went back to the system.
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


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024
