"""Spread work over processes, results in order."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, chunk: int) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, in order.

    Args:
        work: can be pickled, as can its jobs and results.
        jobs: what to work on.
        workers: number of processes; None means one per core. With one, the work is done in this process.
        chunk: jobs that a process takes at once.
    """
    workers = min(workers or os.cpu_count() or 1, -(-len(jobs) // chunk))
    if workers <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers, initializer=_end_with_parent) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=chunk)
        finally:
            pool.shutdown(cancel_futures=True)


PR_SET_PDEATHSIG = 1  # of Linux's prctl


def _end_with_parent() -> None:
    """Have this process killed when its parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it ended before the line above
        os._exit(1)
