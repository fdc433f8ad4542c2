"""Spread work over processes, results in order."""

from __future__ import annotations

import os
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
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=chunk)
        finally:
            pool.shutdown(cancel_futures=True)
