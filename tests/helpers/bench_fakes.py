"""A model that is small enough to be made and run at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

CHARACTERS = "abcdefg"


def write_onnx(path: Path, width: int = 64) -> Path:
    """Write an ONNX file that maps image [N,1,64,W] to logits [N,W/4,8] by averaging patches."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    scale = numpy_helper.from_array(np.arange(8, dtype=np.float32), "scale")
    axis = numpy_helper.from_array(np.array([2], np.int64), "axis")
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[64, 4], strides=[64, 4]),
        helper.make_node("Squeeze", ["pooled", "axis"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["columns", "scale"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 64, "width"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "frames", 8])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], [scale, axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    preprocessing = json.dumps({"width": width, "height": 64, "alpha": "white"})
    helper.set_model_props(model, {"charset": CHARACTERS, "precision": "fp32", "preprocessing": preprocessing})
    onnx.save(model, str(path))
    return path


def make_onnx(path, precision="fp32", **metadata):
    """Write a small model with all the metadata that a bundle needs."""
    import onnx

    from helpers.small import CONFIG

    write_onnx(path)
    model = onnx.load(str(path))
    facts = {entry.key: entry.value for entry in model.metadata_props} | {
        "format": "htr-convtext",
        "schema_version": "1",
        "network": json.dumps({**CONFIG.to_dict(), "num_classes": 8, "image_width": 64}),
        "num_classes": "8",
        "precision": precision,
        "source_sha256": "5" * 64,
    }
    onnx.helper.set_model_props(model, {**facts, **metadata})
    onnx.save(model, str(path))
    return path
