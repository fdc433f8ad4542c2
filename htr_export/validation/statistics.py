"""How sure a difference between two readers is, when both read the same lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 2512
CONFIDENCE = 0.95
_CHUNK = 2_000_000  # drawn line numbers held at a time: 16 MB


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in percentage points."""

    estimate: float
    low: float
    high: float


def paired_bootstrap(
    reference_edits_L: NDArray[np.int64],
    candidate_edits_L: NDArray[np.int64],
    lengths_L: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Estimate how much higher the candidate's error rate is than the reference's.

    Whole lines are drawn with replacement, both readers' edits together, and the difference of the two rates
    is computed for each draw: ``sum(candidate - reference) / sum(length)`` (Bisani and Ney, "Bootstrap
    estimates for confidence intervals in ASR performance evaluation", ICASSP 2004). The interval is that between
    the 2.5 % and 97.5 % quantiles, the percentile method (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, chapter 13).

    Lines count as independent: where many are by one writer, the true interval is wider.

    Args:
        reference_edits_L: int [L], edits of the reference on each line.
        candidate_edits_L: int [L], edits of the candidate on the same lines.
        lengths_L: int [L], length of each line's truth; a draw of empty truths alone counts as one character.
        resamples: number of draws.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        The difference in percentage points, above 0 where the candidate is worse.

    Raises:
        ValueError: if there is no line, or the arrays differ in length.
    """
    if not len(lengths_L) == len(reference_edits_L) == len(candidate_edits_L) > 0:
        raise ValueError("the bootstrap needs the same number of lines, at least one, in all three arrays")
    more_edits_L = candidate_edits_L.astype(np.float64) - reference_edits_L
    lengths_L = lengths_L.astype(np.float64)
    random = np.random.default_rng(seed)
    lines = len(lengths_L)
    rows = max(1, _CHUNK // lines)
    draws = []
    for start in range(0, resamples, rows):
        drawn_RL = random.integers(lines, size=(min(rows, resamples - start), lines))
        draws.append(_points(more_edits_L[drawn_RL].sum(1), lengths_L[drawn_RL].sum(1)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(draws), [tail, 1 - tail])
    return Interval(float(_points(more_edits_L.sum(), lengths_L.sum())), float(low), float(high))


def _points(edits: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100.0 * edits / np.maximum(lengths, 1.0)
