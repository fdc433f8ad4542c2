"""The largest |x| that int8 should tell apart, for every tensor that a convolution or a linear layer reads.

Beyond it values are clipped, below it they share 127 steps. Histograms are gathered while lines run through the float32
graph, so that the memory needed does not grow with the number of lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import ExportError
from htr_engines.host import physical_cores
from htr_engines.lines import load_batches
from htr_export.precision.int8 import tensors_to_calibrate
from htr_export.precision.precision_map import DEFAULT_METHOD

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from onnxruntime import InferenceSession

    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_export.precision.precision_map import Method

BINS = 4096
LEVELS = 128  # int8 values that are not negative
SAMPLES = 1 << 16  # values of a tensor and line that enter its histogram
PERCENTILE = 99.99
CLIPPED = 1e-3  # of the values, that entropy clips at most: the white of a line alone would let it clip all ink


def calibrate(
    model: Path, lines: Iterable[Line], spec: Preprocessing, method: Method = DEFAULT_METHOD, *, batch: int = 1
) -> dict[str, float]:
    """Run a float32 graph on lines and choose where int8 clips.

    Args:
        model: an ONNX file in float32.
        lines: what to run it on; lines whose image cannot be read are left out.
        spec: how the network wants its lines.
        method: ``minmax`` clips nothing that was seen, ``percentile`` the largest ten thousandth of the values, and
            ``entropy`` what loses least information.
        batch: lines per run, the graph's own number where it is fixed.

    Returns:
        The largest |x| that int8 holds, by tensor name; 0 for a tensor that was never anything else.

    Raises:
        DataError: if no line could be read.
        ExportError: if a value was not finite.
    """
    histograms = gather_histograms(model, lines, spec, batch)
    return {name: histogram.limit(method) for name, histogram in histograms.items()}


def gather_histograms(model: Path, lines: Iterable[Line], spec: Preprocessing, batch: int = 1) -> dict[str, Histogram]:
    """Run a float32 graph on lines and count the values of what int8 would quantise, by tensor name.

    The arguments and errors are those of :func:`calibrate`.
    """
    session, names = _session(model)
    histograms = {name: Histogram() for name in ("image", *names)}
    for loaded in load_batches(lines, spec, batch):
        image_N1HW = loaded.filled(batch)
        histograms["image"].add(image_N1HW)
        for name, value in zip(names, session.run(names, {"image": image_N1HW}), strict=True):
            histograms[name].add(value)
    for name, histogram in histograms.items():
        if not np.isfinite(histogram.peak):
            raise ExportError(f"the float32 graph gives values that are not finite ({name}); check its weights")
    return histograms


def _session(path: Path) -> tuple[InferenceSession, list[str]]:
    """Open a graph that gives out the tensors to look at, and return their names."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    names = [name for name in tensors_to_calibrate(model.graph) if name != "image"]
    given = {value.name for value in model.graph.output}
    for name in names:
        if name not in given:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = physical_cores()
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), names


class Histogram:
    """Counts of |x| in bins of equal width; the range doubles whenever a value lies beyond it."""

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
    counts[0] = counts[1]  # what ReLU made 0 is told exactly, and would outweigh all else
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
