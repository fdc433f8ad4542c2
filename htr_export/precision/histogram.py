"""The distribution of a tensor's values, and the largest |x| that int8 should not clip.

Values up to it share 127 steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_export.precision.precision_map import Method

BINS = 4096
LEVELS = 128  # int8 values that are not negative
SAMPLES = 1 << 16  # values of a tensor and line that enter its histogram
PERCENTILE = 99.99
CLIPPED = 1e-3  # of the values, that entropy clips at most: the white of a line alone would let it clip all ink


class Histogram:
    """Counts of |x| in bins of equal width; the range doubles whenever a value is beyond it."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._limit = 2.0**-20
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values; of many, every n-th."""
        size_x = np.abs(values.ravel())
        peak = float(size_x.max(initial=0.0))
        if not np.isfinite(peak):
            self.peak = np.inf
            return
        self.peak = max(self.peak, peak)
        while self._limit < peak:
            self._counts[: BINS // 2] = self._counts.reshape(-1, 2).sum(1)
            self._counts[BINS // 2 :] = 0
            self._limit *= 2
        sample = size_x[:: -(-size_x.size // SAMPLES) | 1]  # an odd step, which no axis of an even length hides from
        bins = np.minimum(sample * np.float32(BINS / self._limit), BINS - 1).astype(np.int32)
        self._counts += np.bincount(bins, minlength=BINS)

    def limit(self, method: Method) -> float:
        """Return the |x| at which to clip."""
        used = self._counts[: int(np.ceil(self.peak / self._limit * BINS))]
        width = self._limit / BINS
        if method == "minmax" or len(used) <= LEVELS:
            return self.peak
        bins = _percentile_bins(used) if method == "percentile" else _entropy_bins(used)
        return min(self.peak, bins * width)


def _percentile_bins(counts: NDArray[np.int64]) -> int:
    """Return how many bins hold all but the largest ten thousandth of the values (arXiv 2004.09602)."""
    return _bins_of_share(counts, PERCENTILE / 100)


def _entropy_bins(counts: NDArray[np.int64]) -> int:
    """Return how many bins to keep for the smallest Kullback-Leibler divergence between values and int8 values.

    The calibration of TensorRT, after Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    counts = counts.copy()
    if not counts[1:].any():
        return len(counts)
    fewest = max(LEVELS, _bins_of_share(counts, 1 - CLIPPED))
    counts[0] = counts[1]  # the zeros of ReLU are exact, and would outweigh all else
    candidates = range(fewest, len(counts) + 1, LEVELS // 8)
    return min(candidates, key=lambda bins: _divergence(counts, bins))


def _bins_of_share(counts: NDArray[np.int64], share: float) -> int:
    """Return how many bins hold a share of the values."""
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum())) + 1


def _divergence(counts: NDArray[np.int64], bins: int) -> float:
    clipped = counts[:bins].astype(np.float64)
    level = np.arange(bins) * LEVELS // bins
    filled = clipped > 0
    mass = np.bincount(level, clipped, LEVELS)
    members = np.bincount(level, filled, LEVELS)
    clipped[-1] += counts[bins:].sum()
    quantised = np.where(filled, mass[level] / np.maximum(members[level], 1), 0.0)
    p, q = clipped / clipped.sum(), quantised / max(quantised.sum(), 1.0)
    both = (p > 0) & (q > 0)
    missing = p[(p > 0) & (q == 0)].sum()
    return float((p[both] * np.log(p[both] / q[both])).sum() + 1e3 * missing)
