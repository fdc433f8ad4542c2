"""How much faster one engine is than another on a machine that does other things as well."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.engine import infer_lines
from htr_export.precision.search_groups import REST, Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from htr_engines.engine import Engine
    from htr_export.precision.plan import Precision

ROUNDS = 40  # turns of each engine
SECONDS = 3.0  # after which no further round begins, once there are FEWEST
FEWEST = 8
# Of the multiplications of a tensor core, against float32 (TF32): twice as many in half precision, four times in INT8.
PROXY_COSTS: dict[Precision, float] = {"fp32": 1.0, "fp16": 0.5, "bf16": 0.5, "int8": 0.25}


@dataclass(frozen=True)
class Latency:
    """The time that a plan takes, as a share of the time that float32 takes."""

    ratio: float  # median over the rounds of the plan's time by float32's time
    low: float  # quartiles of the same
    high: float
    reference_ms: float | None = None  # median, in float32; None where nothing was measured
    rounds: int = 0  # 0 where the ratio is a proxy


def compare_latency(reference: Engine, candidate: Engine, image_N1HW: NDArray[np.float32]) -> Latency:
    """Run two engines in turns on the same lines.

    Each round gives a ratio of two times that lie next to each other, so that what slows the machine down for longer
    than a round hits both. In every other round the candidate comes first.

    Args:
        reference: the float32 network.
        candidate: the lowered network.
        image_N1HW: float32 [N,1,64,W] in [0,1].
    """
    for engine in (reference, candidate) * 2:
        infer_lines(engine, image_N1HW)
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + SECONDS
    enabled = gc.isenabled()
    gc.disable()  # as timeit does: a collection would hit whoever's turn it is
    try:
        while len(times) < ROUNDS and (len(times) < FEWEST or time.perf_counter() < end):
            if len(times) % 2:
                later = _seconds(candidate, image_N1HW)
                times.append((_seconds(reference, image_N1HW), later))
            else:
                times.append((_seconds(reference, image_N1HW), _seconds(candidate, image_N1HW)))
    finally:
        if enabled:
            gc.enable()
    was, now = np.array(times).T
    low, ratio, high = np.quantile(now / was, [0.25, 0.5, 0.75])
    return Latency(float(ratio), float(low), float(high), 1000 * float(np.median(was)), len(times))


def proxy_latency(lowered: Mapping[str, Precision], groups: Sequence[Group]) -> Latency:
    """Return a plan's multiply-adds, each weighted by :data:`PROXY_COSTS`, as a share of float32's."""
    beside = PROXY_COSTS[_float_precision(lowered)]  # what in an int8 group has no int8 form
    ratio = 0.0
    for group in groups:
        precision = lowered.get(group.path, "fp32")
        cost = PROXY_COSTS[precision]
        ratio += group.layers * cost + (group.work - group.layers) * (beside if precision == "int8" else cost)
    return Latency(ratio, ratio, ratio)


def _float_precision(lowered: Mapping[str, Precision]) -> Precision:
    return lowered.get(REST, "fp32")


def _seconds(engine: Engine, image_N1HW: NDArray[np.float32]) -> float:
    infer_lines(engine, image_N1HW)  # the other has just emptied the caches
    began = time.perf_counter()
    infer_lines(engine, image_N1HW)
    return time.perf_counter() - began
