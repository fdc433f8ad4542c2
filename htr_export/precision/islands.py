"""Which nodes stay in float32 in a graph of half precision or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_export.precision.casting import LARGEST, SMALLEST, module_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import GraphProto, NodeProto

HEADROOM = 4.0  # lines that nobody has seen may bring about larger values than those that were measured
# Sums of squares and of exponentials: small in cost, large in range.
FP32_OPERATORS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax")


@dataclass(frozen=True)
class Islands:
    """What stays in float32, and why."""

    nodes: frozenset[str]
    near_overflow: Mapping[str, float]  # nodes near the limit of half precision, with their largest |x|
    too_large: tuple[str, ...]  # constants that hold values beyond half precision
    underflowing: int  # values of constants that are not 0 but too small for half precision


def find_islands(graph: GraphProto, half: set[str], ranges: Mapping[str, float]) -> Islands:
    """Find the nodes that stay in float32 whatever the precision map says.

    LayerScale is one, since its factors begin at 1e-5, which half precision holds as a subnormal only.

    Args:
        graph: a float32 graph.
        half: the nodes that are to compute in half precision, to whose limits the range check applies.
        ranges: the largest |x| of each node on real lines, by node name.
    """
    import onnx

    read = {name for node in graph.node if node.name in half for name in node.input}
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in read and tensor.data_type == onnx.TensorProto.FLOAT
    }
    too_large = tuple(name for name, value in constants.items() if np.abs(value).max(initial=0.0) > LARGEST)
    underflowing = sum(int(((value != 0) & (np.abs(value) < SMALLEST)).sum()) for value in constants.values())
    near_overflow = {name: peak for name, peak in ranges.items() if peak > LARGEST / HEADROOM and name in half}
    # The values of such a node would overflow in the nodes that read them, too.
    avoided = {*too_large, *(name for node in graph.node if node.name in near_overflow for name in node.output)}
    nodes = {
        node.name
        for node in graph.node
        if _always_float32(node) or node.name in near_overflow or (node.name in half and avoided & set(node.input))
    }
    return Islands(frozenset(nodes), near_overflow, too_large, underflowing)


def _always_float32(node: NodeProto) -> bool:
    return node.op_type in FP32_OPERATORS or ".ls_" in module_of(node)
