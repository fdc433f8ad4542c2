"""Histograms of every tensor that a convolution or a linear layer reads, from which int8 gets its steps.

They are gathered while lines run through the float32 graph, so that the memory needed does not grow with the lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import ExportError
from htr_engines.host import physical_cores
from htr_engines.lines import load_batches
from htr_export.graph_file import load_graph
from htr_export.precision.histogram import Histogram
from htr_export.precision.int8 import tensors_to_calibrate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from onnxruntime import InferenceSession

    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing


def gather_histograms(model: Path, lines: Iterable[Line], spec: Preprocessing, batch: int = 1) -> dict[str, Histogram]:
    """Run a float32 graph on lines and count the values of what int8 would quantise.

    Returns:
        The histograms by tensor name.

    Raises:
        DataError: if no line could be read.
        ExportError: if a value was not finite.
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

    model = load_graph(path)
    names = [name for name in tensors_to_calibrate(model.graph) if name != "image"]
    present = {value.name for value in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = physical_cores()
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]), names
