"""A graph of low precision on a CPU: computed in float32, with every value rounded to the type that it should have.

ONNX Runtime has few bfloat16 kernels on the CPU, and computes half precision there in float32 between the casts, where
nothing overflows. Rounded after each node, values overflow and lose digits as they do on a device; what is left out is
in which precision a device sums up within a node.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from htr_engines.backends import open_engine
from htr_engines.backends.base import Closeable
from htr_engines.errors import EngineError, ExportError
from htr_export.graph_file import foreign_graph, load_graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from htr_engines.backends.base import ModelFile

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class RoundingEngine(Closeable):
    """ONNX Runtime on the rounding form of a graph.

    Raises:
        EngineError: if the file is no ONNX graph.
    """

    def __init__(self, model: Path | ModelFile, threads: int | None = None) -> None:
        with tempfile.TemporaryDirectory(prefix="htr-export-") as folder:
            rounding = Path(folder) / "rounding.onnx"
            try:
                with foreign_graph(model):
                    write_rounding(model, rounding)
            except ExportError as error:
                raise EngineError(str(error)) from None
            self._engine = open_engine(rounding, threads=threads)
        self.info = replace(self._engine.info, engine="rounding")

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        return self._engine.infer(image_N1HW)

    def close(self) -> None:
        """Free the session."""
        self._engine.close()


def write_rounding(source: Path | ModelFile, target: Path) -> None:
    """Write the float32 graph that rounds as the graph ``source`` does."""
    model = load_graph(source)
    types = _types(model)
    for tensor in model.graph.initializer:
        if tensor.data_type in LOW:
            values = onnx.numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Cast":
            _set_target(node)
        for index, name in enumerate(node.output):
            if types.get(name) in LOW:
                node.output[index] = f"{name}_exact"
                nodes.append(onnx.helper.make_node("Cast", [f"{name}_exact"], [f"{name}_low"], to=types[name]))
                nodes.append(onnx.helper.make_node("Cast", [f"{name}_low"], [name], to=TensorProto.FLOAT))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    onnx.save(model, str(target))


def _types(model: ModelProto) -> Mapping[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}


def _set_target(cast: NodeProto) -> None:
    for attribute in cast.attribute:
        if attribute.name == "to" and attribute.i in LOW:
            attribute.i = TensorProto.FLOAT
