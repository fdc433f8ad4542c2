"""From a float32 graph and a plan of precisions to the graph that computes in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import ExportError
from htr_engines.files import atomic_path
from htr_export.onnx_checks import Check
from htr_export.precision.casting import LARGEST, SMALLEST, set_float_types
from htr_export.precision.modules import module_of
from htr_export.precision.plan import PrecisionPlan, PrecisionPlanError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import GraphProto, ModelProto, NodeProto

HEADROOM = 4.0  # lines that nobody has seen may bring about larger values than those that were measured
# Sums of squares and of exponentials: small in cost, large in range.
FP32_OPERATORS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax")


@dataclass(frozen=True)
class LoweringReport:
    """What became of the nodes and weights of a graph."""

    nodes: Mapping[str, int]  # by the precision that they compute in
    fp32_nodes: int  # those that the plan lowers, but that stay in float32
    out_of_range: Mapping[str, float]  # modules that the range check keeps in float32, with their largest |x|
    overflowing_weights: tuple[str, ...]  # tensors that hold values beyond half precision; their nodes stay float32
    underflowing_values: int  # weights that are not 0 but too small for half precision; they become its smallest
    ranges_measured: bool

    def checks(self) -> list[Check]:
        """Return the account as check lines."""
        counted = ", ".join(f"{count} nodes in {precision}" for precision, count in self.nodes.items())
        said = [f"{counted}; {self.fp32_nodes} of a lower plan stay in float32: norms, Softmax and LayerScale"]
        if "fp16" in self.nodes:
            said += self._range_lines()
        return [Check(passed=True, what=what) for what in said]

    def _range_lines(self) -> list[str]:
        said = []
        if not self.ranges_measured:
            said.append("overflow was not looked at, since there were no --lines")
        elif not self.out_of_range:
            said.append(f"on real lines no node comes within {HEADROOM:g} times of half precision's limit")
        said += [f"{module} stays in float32: |x| up to {peak:.3g}" for module, peak in self.out_of_range.items()]
        said += [f"{name} stays in float32: it holds values beyond {LARGEST:g}" for name in self.overflowing_weights]
        if self.underflowing_values:
            said.append(f"{self.underflowing_values} weights are too small for half precision and become its smallest")
        return said


def lower(
    source: Path,
    target: Path,
    plan: PrecisionPlan,
    *,
    ranges: Mapping[str, float] | None = None,
    calibration: Mapping[str, float] | None = None,
) -> LoweringReport:
    """Write the form of a float32 graph that computes each module in its precision.

    Norms, Softmax and LayerScale stay in float32. LayerScale, since its factors begin at 1e-5, which half precision
    holds as a subnormal only.

    Args:
        source: an ONNX file in float32, exported by this package.
        target: the ONNX file to write; it may be ``source``.
        plan: the precision of each module.
        ranges: the largest |x| of each node on real lines, by node name: of ``fp16``, what comes near the limit of
            half precision stays in float32.
        calibration: the largest |x| to be told apart, by tensor name: needed for ``int8``.

    Raises:
        ExportError: if the graph is lowered already, or its opset does not know a precision of the plan.
        PrecisionPlanError: if the plan does not fit the network, or holds int8 without a calibration.
    """
    import onnx

    model = onnx.load(str(source))
    _check_is_float32(model, source)
    modules = {node.name: module_of(node) for node in model.graph.node}
    plan.check_fits(modules.values())
    if "int8" in plan.precisions and calibration is None:
        raise PrecisionPlanError("int8 needs to see real lines to choose its steps; give a calibration")
    planned = {name: plan.precision_of(module) for name, module in modules.items()}
    floats = {name: plan.float_precision if precision == "int8" else precision for name, precision in planned.items()}
    half = {name for name, precision in floats.items() if precision == "fp16"}
    weights = _float_weights(model.graph, half)
    too_large = tuple(name for name, value in weights.items() if np.abs(value).max(initial=0.0) > LARGEST)
    underflowing = sum(int(((value != 0) & (np.abs(value) < SMALLEST)).sum()) for value in weights.values())
    loud = {name: peak for name, peak in (ranges or {}).items() if peak > LARGEST / HEADROOM and name in half}
    kept = _kept_nodes(model.graph, set(loud), set(too_large))
    element = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    types = {name: element["fp32" if name in kept else precision] for name, precision in floats.items()}
    set_float_types(model, types)
    for entry in model.metadata_props:
        if entry.key == "precision":
            entry.value = plan.name
    with atomic_path(target) as temporary:
        onnx.save(model, str(temporary))
    islands = sum(name in kept and precision != "fp32" for name, precision in floats.items())
    used = Counter("fp32" if name in kept else precision for name, precision in floats.items())
    out_of_range: dict[str, float] = {}
    for name, peak in loud.items():
        out_of_range[modules[name]] = max(peak, out_of_range.get(modules[name], 0.0))
    return LoweringReport(dict(used), islands, out_of_range, too_large, underflowing, ranges is not None)


def _check_is_float32(model: ModelProto, source: Path) -> None:
    precision = next((entry.value for entry in model.metadata_props if entry.key == "precision"), "fp32")
    if precision != "fp32":
        raise ExportError(f"{source} is {precision} already; give the float32 graph")


def _float_weights(graph: GraphProto, nodes: set[str]) -> dict[str, np.ndarray]:
    """Return the float32 constants that the given nodes read."""
    import onnx

    read = {name for node in graph.node if node.name in nodes for name in node.input}
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name in read and tensor.data_type == onnx.TensorProto.FLOAT
    }


def _kept_nodes(graph: GraphProto, loud: set[str], too_large: set[str]) -> set[str]:
    """Return the nodes that stay in float32 whatever the plan says."""
    # What a loud node hands over would overflow in its reader too.
    loud_values = {name for node in graph.node if node.name in loud for name in node.output}

    def stays(node: NodeProto) -> bool:
        read = set(node.input)
        fixed = node.op_type in FP32_OPERATORS or ".ls_" in module_of(node)
        return fixed or node.name in loud or bool(read & too_large) or bool(read & loud_values)

    return {node.name for node in graph.node if stays(node)}
