"""From a series of measured times to the figures that describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

PERCENTILES = (50, 90, 99)
# A tenth at either end is set aside before the scatter is judged: a few interruptions by the system say
# nothing about the engine, while those of a tenth of all calls do.
TRIM = 0.1
# Engines are ranked by differences of some ten per cent; a series that scatters more cannot carry that.
MAX_VARIATION = 0.10
MIN_CALLS = 5  # below this the scatter is not known


@dataclass(frozen=True)
class Timing:
    """Figures of one series, in seconds per call."""

    calls: int
    percentiles: dict[str, float]  # "p50" and so on, interpolated linearly
    mean: float
    std: float  # of the sample, with n - 1; 0 for a single call
    variation: float | None  # coefficient of variation after trimming; None for too few calls
    lines_per_second: float  # at the median


def summarise(seconds: Sequence[float], batch: int) -> Timing:
    """Describe a series of calls."""
    values = np.asarray(seconds, np.float64)
    found = np.percentile(values, PERCENTILES)
    return Timing(
        calls=len(values),
        percentiles={f"p{rank}": float(value) for rank, value in zip(PERCENTILES, found, strict=True)},
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        variation=trimmed_variation(values),
        lines_per_second=batch / float(np.median(values)),
    )


def trimmed_variation(seconds: Sequence[float] | np.ndarray) -> float | None:
    """Return the standard deviation over the mean of the middle part of a series, None if it is too short."""
    values = np.sort(np.asarray(seconds, np.float64))
    if len(values) < MIN_CALLS:
        return None
    cut = int(len(values) * TRIM)
    middle = values[cut : len(values) - cut]
    return float(middle.std(ddof=1) / middle.mean())


def is_stable(variation: float | None, limit: float) -> bool:
    """Tell whether a series scatters little enough to be ranked."""
    return variation is not None and variation <= limit
