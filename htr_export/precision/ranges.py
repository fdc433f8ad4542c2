"""The largest values that real lines bring about in each node of a graph.

A CPU does not show whether half precision overflows: ONNX Runtime computes it in float32 there. So the float32 graph is
run on real lines, and what comes near the limit is kept out of half precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.lines import load_batches
from htr_export.graph_file import load_graph

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing


def measure_ranges(
    model: Path,
    lines: Iterable[Line],
    spec: Preprocessing,
    batch: int = 1,
) -> dict[str, float]:
    """Run a float32 graph on lines and look at every float in it.

    Returns:
        The largest |x| of each node, by node name; infinite where a value was not finite.

    Raises:
        DataError: if no line could be read.
    """
    import onnxruntime

    graph, outputs = _with_all_outputs(model)
    options = onnxruntime.SessionOptions()
    # Optimised, nodes would be fused and their values gone.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(outputs.values(), 0.0)
    for loaded in load_batches(lines, spec, batch):
        image_N1HW = loaded.filled(batch)
        values = session.run(list(outputs), {"image": image_N1HW})
        for node, value in zip(outputs.values(), values, strict=True):
            peak = float(np.abs(value).max(initial=0.0))
            largest[node] = max(largest[node], peak) if np.isfinite(peak) else np.inf
    return largest


def _with_all_outputs(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return a graph that gives out every float tensor, and the node that each comes from."""
    import onnx

    model = onnx.shape_inference.infer_shapes(load_graph(path))
    floats = {
        value.name for value in model.graph.value_info if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    present = {value.name for value in model.graph.output}
    outputs: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.output:
            if name in floats | present:
                outputs[name] = node.name
            if name in floats - present:
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(), outputs
