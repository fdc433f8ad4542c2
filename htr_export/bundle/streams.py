"""How many streams read most lines a second here: measured when a bundle is made, and kept in its manifest."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from htr_engines.backends import backends
from htr_engines.backends.base import infer_lines
from htr_engines.errors import HtrError
from htr_engines.host import describe_environment, hardware_of, physical_cores
from htr_engines.manifest import Throughput
from htr_engines.pipeline import map_in_threads
from htr_engines.preprocess import load_line
from htr_engines.selection import candidates

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.bundle import Bundle
    from htr_engines.selection import Candidate

ROUNDS = 3
ROUND_S = 0.05  # of each number of streams, but at least one line a stream
GAIN = 1.03  # by which more streams have to be faster: fewer answer sooner and take less memory


def add_throughput(bundle: Bundle, entries: Sequence[dict[str, Any]]) -> None:
    """Measure every model on every engine here that has streams, and add the best number to the models' entries."""
    known, cores = backends(), physical_cores()
    if cores == 1:
        return
    hardware = hardware_of(describe_environment())
    image_1HW = load_line(bundle.golden[0].image, bundle.preprocessing)
    by_name = {entry["file"]: entry for entry in entries}
    for candidate in candidates(bundle):
        if not known[candidate.engine].streams:
            continue
        try:
            speeds = [_lines_per_s(candidate, cores, streams, image_1HW[None]) for streams in _choices(cores)]
        except HtrError:
            continue  # it does not run here
        best = next(number for number, speed in enumerate(speeds) if speed * GAIN >= max(speeds))
        figure = Throughput(_choices(cores)[best], round(speeds[best], 2), hardware)
        by_name[candidate.model.file.name].setdefault("throughput", {})[candidate.engine] = asdict(figure)


def _choices(cores: int) -> list[int]:
    return sorted({1, max(1, cores // 4), cores // 2, cores})


def _lines_per_s(candidate: Candidate, threads: int, streams: int, image_11HW: NDArray[np.float32]) -> float:
    """Return the median speed of some rounds. Only one engine is open: the threads of another would wait actively."""
    with candidate.open(threads, streams) as engine:
        _round(engine, image_11HW)  # warms up
        return statistics.median(_round(engine, image_11HW) for _ in range(ROUNDS))


def _round(engine: Engine, image_11HW: NDArray[np.float32]) -> float:
    began = time.perf_counter()
    lines = 0
    while lines == 0 or time.perf_counter() - began < ROUND_S:
        batches = [image_11HW] * engine.info.streams * 2
        read = map_in_threads(lambda batch: infer_lines(engine, batch), batches, engine.info.streams, ahead=0)
        lines += sum(map(len, read))
    return lines / (time.perf_counter() - began)
