"""INT8 as pairs of QuantizeLinear and DequantizeLinear, which TensorRT, ONNX Runtime and OpenVINO all fuse.

Symmetric, since TensorRT takes no other zero point than 0; one scale per output channel of the weights and one per
activation tensor; biases stay float. Outputs of convolutions are quantised too where one node reads them: ONNX Runtime
computes a convolution in integers only between quantised tensors that have one reader each, and OpenVINO gains as well.
Where a ReLU follows, both have the same scale, so that nothing is rounded twice.

Ours and not a library's, since a precision map chooses by module and mixes int8 with half precision and BF16 in one
strongly typed graph: ``onnxruntime.quantization`` and ModelOpt choose by operator or node name, NNCF by patterns over
node names, and NNCF's graph of this network runs at one width only. Measured at the published size on a line of 64x512
(AVX-512 VNNI), OpenVINO takes 0.198 of PyTorch's time for this form and 0.201 for NNCF's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import ExportError
from htr_export.precision.casting import module_of, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from onnx import GraphProto, NodeProto

LARGEST_INT8 = 127  # -128 is not used, so that both signs have the same steps


@dataclass(frozen=True)
class Quantised:
    """What was quantised."""

    nodes: frozenset[str]
    all_zero: tuple[str, ...]  # modules left as they were, since they read nothing but zeros
    added_for: Mapping[str, str]  # the node that each new one was added for


def quantisable(graph: GraphProto) -> list[NodeProto]:
    """Return the convolutions and linear layers of a graph: those whose weights are constant."""
    weights = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type in {"Conv", "MatMul"} and node.input[1] in weights]


def tensors_to_calibrate(graph: GraphProto) -> list[str]:
    """Return the tensors whose largest values int8 needs to know."""
    readers = _readers(graph)
    names = [name for node in quantisable(graph) for name in (node.input[0], *_quantised_output(node, readers))]
    return list(dict.fromkeys(names))


def insert_int8(
    graph: GraphProto, nodes: Iterable[str], limits: Mapping[str, float], float_types: Mapping[str, int]
) -> Quantised:
    """Put pairs of QuantizeLinear and DequantizeLinear around nodes, in place.

    Args:
        graph: a float32 graph.
        nodes: the names of the convolutions and linear layers to quantise.
        limits: the largest |x| that is not clipped, by tensor name.
        float_types: the float type that a node computes in when it has no int8 form, by node name: scales are chosen
            among its numbers.

    Raises:
        ExportError: if ``limits`` are not of this graph, or weights are not finite.
    """
    return _Insertion(graph, limits, float_types).run(set(nodes))


class _Insertion:
    """One pass over a graph, with what it has added so far."""

    def __init__(self, graph: GraphProto, limits: Mapping[str, float], float_types: Mapping[str, int]) -> None:
        self._graph, self._limits, self._float_types = graph, limits, float_types
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._readers = _readers(graph)
        self._nodes: list[NodeProto] = []
        self._activations: dict[tuple[str, int], str] = {}  # the quantised form of a tensor, by name and float type
        self._weights: dict[tuple[str, int], str] = {}
        self._added_for: dict[str, str] = {}

    def run(self, wanted: set[str]) -> Quantised:
        """Do the work."""
        quantised, all_zero = set(), []
        for node in self._graph.node:
            if node.name not in wanted:
                self._nodes.append(node)
            elif self._is_all_zero(node):
                all_zero.append(module_of(node))
                self._nodes.append(node)
            else:
                quantised.add(node.name)
                self._quantise(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        return Quantised(frozenset(quantised), tuple(all_zero), self._added_for)

    def _is_all_zero(self, node: NodeProto) -> bool:
        tensors = (node.input[0], *_quantised_output(node, self._readers))
        if missing := [name for name in tensors if name not in self._limits]:
            raise ExportError(f"the calibration lacks {missing[0]}; calibrate on this graph again")
        return not all(self._limits[name] > 0 for name in tensors)

    def _quantise(self, node: NodeProto) -> None:
        float_type = self._float_types[node.name]
        source = node.input[0]
        if (source, float_type) not in self._activations:
            self._activations[source, float_type] = f"{source}_int8{float_type}"
            self._add_pair(node, source, self._activations[source, float_type], self._limits[source])
        node.input[0] = self._activations[source, float_type]
        node.input[1] = self._quantised_weights(node)
        self._nodes.append(node)
        for limit in _quantised_output(node, self._readers):
            target = node.output[0]
            node.output[0] = f"{target}_float"
            self._add_pair(node, node.output[0], target, self._limits[limit])

    def _add_pair(self, of: NodeProto, source: str, target: str, limit: float) -> None:
        """Add Quantize and Dequantize of an activation."""
        scale = self._stored(f"{target}_scale", self._scale(np.array(limit, np.float32), of))
        zero = self._stored("int8_zero", np.array(0, np.int8))
        self._add(of, "QuantizeLinear", [source, scale, zero], f"{target}_steps")
        self._add(of, "DequantizeLinear", [f"{target}_steps", scale, zero], target)

    def _quantised_weights(self, node: NodeProto) -> str:
        """Add the weights of a node in int8, with a scale per output channel, and return their dequantised name."""
        import onnx

        name, float_type = node.input[1], self._float_types[node.name]
        target = f"{name}_int8{float_type}"
        if (name, float_type) in self._weights:
            return target
        values = onnx.numpy_helper.to_array(self._constants[name])
        if not np.isfinite(values).all():
            raise ExportError(f"{name} holds weights that are not finite; check the checkpoint")
        axis = 0 if node.op_type == "Conv" else values.ndim - 1
        others = tuple(index for index in range(values.ndim) if index != axis)
        peaks = np.abs(values).max(axis=others)
        scale = self._scale(np.where(peaks > 0, peaks, np.float32(1)), node)  # a channel of zeros may have any scale
        steps = np.rint(values / np.expand_dims(scale, others))
        clipped = np.clip(steps, -LARGEST_INT8, LARGEST_INT8).astype(np.int8)
        inputs = [
            self._stored(f"{target}_steps", clipped),
            self._stored(f"{target}_scale", scale),
            self._stored(f"{target}_zero", np.zeros(scale.shape, np.int8)),
        ]
        self._add(node, "DequantizeLinear", inputs, target, axis=axis)
        self._weights[name, float_type] = target
        return target

    def _scale(self, limit: NDArray[np.float32], of: NodeProto) -> NDArray[np.float32]:
        """Return the step of a limit, as a number that the float type holds."""
        return rounded(limit / np.float32(LARGEST_INT8), self._float_types[of.name]).astype(np.float32)

    def _stored(self, name: str, values: NDArray[np.generic]) -> str:
        import onnx

        if name not in self._constants:
            self._constants[name] = onnx.numpy_helper.from_array(np.asarray(values), name)
            self._graph.initializer.append(self._constants[name])
        return name

    def _add(self, of: NodeProto, operator: str, inputs: list[str], target: str, **attributes: int) -> None:
        import onnx

        node = onnx.helper.make_node(operator, inputs, [target], name=f"{target}_{operator}", **attributes)
        node.metadata_props.extend(of.metadata_props)  # it counts as part of the module
        self._nodes.append(node)
        self._added_for[node.name] = of.name


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _quantised_output(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> list[str]:
    """Return the tensor whose limit serves the output of a convolution: its own, or that of the ReLU after it."""
    after = readers.get(node.output[0], [])
    if node.op_type != "Conv" or len(after) != 1:
        return []
    return [after[0].output[0] if after[0].op_type == "Relu" else node.output[0]]
