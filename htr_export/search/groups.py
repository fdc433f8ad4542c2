"""The parts of a network that a search lowers as one, and how much of the work each does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import ExportError
from htr_export.graph_file import load_graph
from htr_export.precision.casting import module_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto, NodeProto

REST = "the rest"  # of the network: norms, sums and whatever has no weights
_HEAVY = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Group:
    """Modules whose paths begin alike."""

    path: str  # "blocks.3.attn", or REST
    work: float  # share of the network's multiply-adds, 0 to 1
    layers: float  # that of its convolutions and linear layers alone, which is what int8 lowers


def find_groups(model: Path, height: int, width: int, most: int) -> list[Group]:
    """Divide a graph into groups of modules, finer where more of the work is done.

    Returns:
        The groups in the order of the graph, and REST last.

    Raises:
        ExportError: if no convolution or linear layer of the graph names its module, or ``most`` is too small.
    """
    graph = load_graph(model)
    weights = {tensor.name for tensor in graph.graph.initializer}
    work = multiply_adds(graph, height, width)
    modules: dict[str, float] = {}
    for node in graph.graph.node:
        if node.op_type in _HEAVY and weights & set(node.input) and (module := module_of(node)) != node.name:
            modules[module] = modules.get(module, 0.0) + work.get(node.name, 0.0)
    if not modules:
        raise ExportError(f"no node of {model} names its module; export the model again with: htr-export onnx")
    paths = divide(modules, most - 1)
    if len(paths) >= most:
        raise ExportError(
            f"{most} groups are too few for the {len(paths)} top-level modules and the rest; give --groups "
            f"{len(paths) + 1} or more"
        )
    shares, layers = dict.fromkeys((*paths, REST), 0.0), dict.fromkeys((*paths, REST), 0.0)
    for node in graph.graph.node:
        path = group_of(module_of(node), paths)
        shares[path] += work.get(node.name, 0.0)
        layers[path] += work.get(node.name, 0.0) if weights & set(node.input) else 0.0
    total = max(sum(shares.values()), 1.0)
    return [Group(path, shares[path] / total, layers[path] / total) for path in (*paths, REST)]


def divide(work: Mapping[str, float], most: int) -> list[str]:
    """Divide modules into groups by the beginnings of their paths.

    A number belongs to the name before it: ``blocks.0.attn`` has two names. All modules of one first name begin as a
    group. Then kinds of groups are divided by the next name of their paths, those of fewest names first and of these
    that which does most of the work, as long as there are not too many; ``blocks.0`` and ``blocks.7`` are of one kind
    and are divided together. A kind that does less work than a group's fair share is left whole.

    Args:
        work: that each module does, by path, in any unit.
        most: number of groups that is not exceeded, unless there are more first names.

    Returns:
        The beginnings, in the order of ``work``. Where a module that is a group has groups below it, it stands for what
        they leave over.
    """
    names = {module: _names(module) for module in work}
    lengths = dict.fromkeys(work, 1)  # of each module's group, in names
    whole: set[tuple[str, ...]] = set()
    while True:
        kinds: dict[tuple[str, ...], list[str]] = {}
        for module, length in lengths.items():
            kinds.setdefault(_kind(names[module][:length]), []).append(module)
        divisible = {
            kind: sum(work[module] for module in modules)
            for kind, modules in kinds.items()
            if kind not in whole and any(len(names[module]) > len(kind) for module in modules)
        }
        if not divisible:
            return _beginnings(names, lengths)
        kind = min(divisible, key=lambda candidate: (len(candidate), -divisible[candidate]))
        finer = {**lengths, **{module: min(len(kind) + 1, len(names[module])) for module in kinds[kind]}}
        if len(_beginnings(names, finer)) > most or divisible[kind] * most < sum(work.values()):
            whole.add(kind)
        else:
            lengths = finer


def group_of(module: str, paths: Sequence[str]) -> str:
    """Return the longest of the paths that leads to a module, or REST."""
    leading = [path for path in paths if f"{module}.".startswith(f"{path}.")]
    return max(leading, key=len, default=REST)


def multiply_adds(model: ModelProto, height: int, width: int) -> dict[str, float]:
    """Count the multiplications of each convolution and matrix product for one line, by node name."""
    import onnx

    still = onnx.ModelProto()
    still.CopyFrom(model)
    for axis, size in zip(still.graph.input[0].type.tensor_type.shape.dim, (1, 1, height, width), strict=True):
        axis.dim_value = size
    del still.graph.value_info[:]  # written for axes of any length
    for axis in still.graph.output[0].type.tensor_type.shape.dim:
        axis.Clear()
    inferred = onnx.shape_inference.infer_shapes(still, data_prop=True).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    shapes.update({tensor.name: list(tensor.dims) for tensor in inferred.initializer})
    return {node.name: _work(node, shapes) for node in inferred.node if node.op_type in _HEAVY}


def _work(node: NodeProto, shapes: Mapping[str, Sequence[int]]) -> float:
    output = shapes.get(node.output[0], ())
    if node.op_type == "Conv":
        weight = shapes.get(node.input[1], ())
        factors = [*output, *weight[1:]]
    else:
        left = shapes.get(node.input[0], ())
        across = any(entry.name == "transA" and entry.i for entry in node.attribute)
        factors = [*output, left[0 if across else -1]] if left else []
    work = 1.0 if factors else 0.0
    for factor in factors:
        work *= factor
    return work


def _names(module: str) -> tuple[str, ...]:
    """Cut a path into names with their numbers: ``("blocks.0", "attn", "qkv")``."""
    return tuple(re.split(r"\.(?!\d+(?:\.|$))", module))


def _kind(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(re.sub(r"\.\d+", ".*", name) for name in names)


def _beginnings(names: Mapping[str, tuple[str, ...]], lengths: Mapping[str, int]) -> list[str]:
    return list(dict.fromkeys(".".join(names[module][:length]) for module, length in lengths.items()))
