"""Spread work over processes, results in order; a run that was stopped goes on where it was."""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import msgspec

from htr_engines.errors import StoppedError
from htr_engines.files import read_file, write_text
from htr_training.stopping import ignore_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

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


def resume_jobs(
    unfinished: Path,
    key: object,
    kind: type[Result],
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int | None,
    chunk: int,
) -> Iterator[Result]:
    """Do as :func:`map_jobs`, and keep each result in a file, from which the next run takes it.

    Args:
        unfinished: the file; to be removed when what is made of the results is written.
        key: all that the results depend on; results of another one are not taken.
        kind: of a result; it can be written as JSON.
        work: as for :func:`map_jobs`, with the rest.
        jobs: likewise.
        workers: likewise.
        chunk: likewise.

    Raises:
        StoppedError: after a signal.
    """
    digest = hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()
    results = _read_results(unfinished, digest, kind)[: len(jobs)]
    write_text(unfinished, "".join(f"{row}\n" for row in (json.dumps(digest), *map(_to_row, results))))
    number = len(results)
    try:
        yield from results
        with unfinished.open("a", encoding="ascii") as stream:
            for result in map_jobs(work, jobs[number:], workers, chunk):
                stream.write(f"{_to_row(result)}\n")
                stream.flush()
                number += 1
                yield result
    except KeyboardInterrupt:
        raise StoppedError(f"stopped after {number} of {len(jobs)}; the same command goes on from there") from None


def _to_row(result: object) -> str:
    return json.dumps(msgspec.to_builtins(result))


def _read_results(path: Path, digest: str, kind: type[Result]) -> list[Result]:
    """Return the results that are whole, none if they are of another run."""
    rows = read_file(path).decode("utf-8", "replace").splitlines() if path.exists() else []
    results: list[Result] = []
    try:
        if rows and json.loads(rows[0]) == digest:
            results.extend(msgspec.convert(json.loads(row), kind) for row in rows[1:])
    except (ValueError, RecursionError):  # the last row of a run that was killed
        pass
    return results


PR_SET_PDEATHSIG = 1  # of Linux's prctl


def _end_with_parent() -> None:
    """Have this process killed when its parent ends, however it ends."""
    ignore_signals()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it ended before the line above
        os._exit(1)
