"""Cleaning an exported graph: no shape is computed at run time that could be written down."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants

from htr_export.precision.casting import SCOPES

FOLDED_BYTES = 1 << 24  # of a constant worth storing, such as the position bias of a fixed width


def clean(model: ir.Model) -> None:
    """Simplify a graph in place.

    The exporter computes the target of every Reshape from the input's sizes. Where a target has at most one axis that
    is not known and not copied, ``0`` (copy) and ``-1`` (the rest) say the same as a constant, and engines can plan.
    """
    graph = model.graph
    for node in graph:
        if node.op_type == "Reshape" and (target := _constant_target(node)) is not None:
            _set_constant_target(graph, node, target)
    RemoveUnusedNodesPass()(model)
    fold_constants(model, input_size_limit=FOLDED_BYTES, output_size_limit=FOLDED_BYTES)
    CommonSubexpressionEliminationPass()(model)
    LiftConstantsToInitializersPass()(model)
    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    for node in graph:
        _tidy(node)


def _constant_target(node: ir.Node) -> list[int] | None:
    """Return the constant that does what a Reshape's computed target does, or None if there is none."""
    data, target = node.inputs[0], node.inputs[1]
    if data is None or target is None or target.const_value is not None or data.shape is None:
        return None
    producer = target.producer()
    # The target may be another value's shape, when the output itself carries none.
    like = producer.inputs[0] if producer is not None and producer.op_type == "Shape" else node.outputs[0]
    if like is None or like.shape is None:
        return None
    constant = [_constant_axis(axis, index, data.shape) for index, axis in enumerate(like.shape)]
    return constant if constant.count(-1) <= 1 else None


def _constant_axis(axis: int | ir.SymbolicDim, index: int, data_shape: ir.Shape) -> int:
    if isinstance(axis, int):
        return axis
    copied = index < len(data_shape) and axis.value is not None and str(data_shape[index]) == str(axis)
    return 0 if copied else -1


def _set_constant_target(graph: ir.Graph, node: ir.Node, target: list[int]) -> None:
    value = ir.val(
        name=f"{node.outputs[0].name}_target",
        const_value=ir.tensor(np.array(target, np.int64)),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([len(target)]),
    )
    graph.register_initializer(value)
    node.replace_input_with(1, value)
    node.attributes.pop("allowzero", None)  # 0 means copy


def _tidy(node: ir.Node) -> None:
    """Keep a node's module path; drop the stack trace, which holds paths of the exporting machine, and its shapes."""
    for key in [key for key in node.metadata_props if key != SCOPES]:
        del node.metadata_props[key]
    node.doc_string = None
    for output in node.outputs:
        output.metadata_props.clear()
        if not output.is_graph_output():
            output.shape = None  # the exporter gives one length several names
