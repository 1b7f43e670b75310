"""How many threads to use where torch does not say it."""

import os


def cpu_threads() -> int:
    """Threads as torch counts them: OMP_NUM_THREADS if it is set, else the processors that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["cpu_threads"]
