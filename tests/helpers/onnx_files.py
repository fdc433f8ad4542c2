"""ONNX files with something changed."""

from __future__ import annotations

import onnx
from onnx.numpy_helper import from_array, to_array


def with_weights(source, target, name, change):
    """Write a graph with some weights changed."""
    model = onnx.load(str(source))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(from_array(change(to_array(tensor).copy()), name))
    onnx.save(model, str(target))
    return target
