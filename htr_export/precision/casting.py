"""Giving each node of a float32 graph the float type that it computes in, with casts where two types meet."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

LARGEST = 65504.0  # finite value of half precision
SMALLEST = 5.96e-8  # positive value of half precision, subnormal
SCOPES = "pkg.torch.onnx.name_scopes"  # the metadata of a node that says which module it comes from
SUFFIXES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}


def set_float_types(model: ModelProto, types: Mapping[str, int]) -> None:
    """Rewrite a float32 graph in place so that each node computes in its own float type.

    Inputs and outputs of the graph stay float32. Constants are stored in the type of the nodes that read them; values
    too small for half precision become its smallest, so that none becomes 0.

    Args:
        model: a graph of one level whose floats are all float32.
        types: ``TensorProto.FLOAT``, ``FLOAT16`` or ``BFLOAT16`` by node name; nodes without one stay float32.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = _float_tensors(model)
    current = dict.fromkeys((value.name for value in graph.input), TensorProto.FLOAT)
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    outputs = {value.name for value in graph.output}
    converted: dict[tuple[str, int], str] = {}  # what was cast or stored already, by name and type
    nodes: list[NodeProto] = []
    for node in graph.node:
        wanted = types.get(node.name, TensorProto.FLOAT)
        for index, name in enumerate(node.input):
            if name not in floats or not _follows(node, index, opset):
                continue
            if name in constants:
                node.input[index] = _stored(model, constants[name], wanted, converted)
            elif current[name] != wanted:
                if (name, wanted) not in converted:
                    nodes.append(_cast(name, f"{name}_{SUFFIXES[wanted]}", wanted, node))
                    converted[name, wanted] = nodes[-1].output[0]
                node.input[index] = converted[name, wanted]
        nodes.append(node)
        for index, name in enumerate(node.output):
            current[name] = wanted
            if name in outputs and name in floats and wanted != TensorProto.FLOAT:
                node.output[index] = f"{name}_{SUFFIXES[wanted]}"
                nodes.append(_cast(node.output[index], name, TensorProto.FLOAT, node))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # they tell the types of before
    _drop_unread_constants(model)


def module_of(node: NodeProto) -> str:
    """Return the path of the module that a node came from, such as ``blocks.3.attn``; its own name if it has none."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            # ['', 'blocks.3', 'blocks.3.attn', 'matmul_7']: from the whole network inwards to the operation.
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2]) or "network"
    return str(node.name)


def rounded(values: NDArray[np.float32], wanted: int) -> NDArray[Any]:
    """Round to a float type. In half precision nothing becomes 0 that was not, and nothing infinite."""
    if wanted == TensorProto.FLOAT16:
        small = (values != 0) & (np.abs(values) < SMALLEST)
        values = np.where(small, np.copysign(np.float32(SMALLEST), values), np.clip(values, -LARGEST, LARGEST))
    return values.astype(onnx.helper.tensor_dtype_to_np_dtype(wanted))


def _float_tensors(model: ModelProto) -> set[str]:
    """Return the names of all float32 tensors of a graph."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _follows(node: NodeProto, index: int, opset: int) -> bool:
    """Return whether an input has the type that its node computes in; the scales of Resize, say, are float32."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    formal = schema.inputs[min(index, len(schema.inputs) - 1)]
    return "(" not in formal.type_str


def _stored(model: ModelProto, tensor: TensorProto, wanted: int, converted: dict[tuple[str, int], str]) -> str:
    """Return the name of a constant in the type wanted, adding it to the graph when it is new."""
    if wanted == TensorProto.FLOAT:
        return str(tensor.name)
    if (tensor.name, wanted) not in converted:
        name = f"{tensor.name}_{SUFFIXES[wanted]}"
        stored = onnx.numpy_helper.from_array(rounded(onnx.numpy_helper.to_array(tensor), wanted), name)
        model.graph.initializer.append(stored)
        converted[tensor.name, wanted] = name
    return converted[tensor.name, wanted]


def _cast(source: str, target: str, wanted: int, of: NodeProto) -> NodeProto:
    """Return a cast that counts as part of the module of ``of``."""
    node = onnx.helper.make_node("Cast", [source], [target], name=f"{of.name}_{target}_cast", to=wanted)
    node.metadata_props.extend(of.metadata_props)
    return node


def _drop_unread_constants(model: ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
