"""How much faster one engine is than another on a machine that does other things as well."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import infer_lines
from htr_export.search.groups import REST, Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_export.precision.precision_map import Precision

ROUNDS = 200  # turns of each engine, at most
FEWEST = 8  # whatever time they take
# Of the multiplications of a tensor core, against float32 (TF32): twice as many in half precision, four times in INT8.
PROXY_COSTS: dict[Precision, float] = {"fp32": 1.0, "fp16": 0.5, "bf16": 0.5, "int8": 0.25}


@dataclass(frozen=True)
class Latency:
    """The time that a lowered graph takes, as a share of the time that float32 takes."""

    ratio: float  # median over the rounds of its time by float32's time
    low: float  # quartiles of the same
    high: float
    reference_ms: float | None = None  # median, in float32; None where nothing was measured
    rounds: int = 0  # 0 where the ratio is a proxy
    cpu_ratio: float | None = None  # median over the rounds of processor times

    @property
    def score(self) -> float:
        """What graphs are ranked by: the ratio of processor times, in which other processes have no part."""
        return self.ratio if self.cpu_ratio is None else self.cpu_ratio


def compare_latency(reference: Engine, candidate: Engine, image_N1HW: NDArray[np.float32], seconds: float) -> Latency:
    """Run two engines in turns on the same lines.

    Each round gives a ratio of two times that follow each other, so that what slows the machine down for longer
    than a round hits both. In every other round the candidate comes first. After
    ``seconds`` no further round begins, once there are enough.
    """
    for engine in (reference, candidate) * 2:
        infer_lines(engine, image_N1HW)
    rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    end = time.perf_counter() + seconds
    enabled = gc.isenabled()
    gc.disable()  # as timeit does: a collection would hit whoever's turn it is
    try:
        while len(rounds) < ROUNDS and (len(rounds) < FEWEST or time.perf_counter() < end):
            if len(rounds) % 2:
                later = _seconds(candidate, image_N1HW)
                rounds.append((_seconds(reference, image_N1HW), later))
            else:
                rounds.append((_seconds(reference, image_N1HW), _seconds(candidate, image_N1HW)))
    finally:
        if enabled:
            gc.enable()
    times = np.array(rounds)  # [round, engine, clock]
    ratios = times[:, 1] / times[:, 0]
    low, ratio, high = np.quantile(ratios[:, 0], [0.25, 0.5, 0.75])
    reference_ms = 1000 * float(np.median(times[:, 0, 0]))
    return Latency(float(ratio), float(low), float(high), reference_ms, len(rounds), float(np.median(ratios[:, 1])))


def proxy_latency(lowered: Mapping[str, Precision], groups: Sequence[Group]) -> Latency:
    """Return the multiply-adds, each weighted by :data:`PROXY_COSTS`, as a share of float32's."""
    beside = PROXY_COSTS[_float_precision(lowered)]  # what in an int8 group has no int8 form
    ratio = 0.0
    for group in groups:
        precision = lowered.get(group.path, "fp32")
        cost = PROXY_COSTS[precision]
        ratio += group.layers * cost + (group.work - group.layers) * (beside if precision == "int8" else cost)
    return Latency(ratio, ratio, ratio)


def _float_precision(lowered: Mapping[str, Precision]) -> Precision:
    return lowered.get(REST, "fp32")


def _seconds(engine: Engine, image_N1HW: NDArray[np.float32]) -> tuple[float, float]:
    """Return the time that a run takes, and the processor time of all threads."""
    infer_lines(engine, image_N1HW)  # the other has just emptied the caches
    began, cpu_began = time.perf_counter(), time.process_time()
    infer_lines(engine, image_N1HW)
    return time.perf_counter() - began, time.process_time() - cpu_began
