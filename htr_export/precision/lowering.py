"""From a float32 graph and a plan of precisions to the graph that computes in them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.checks import Check
from htr_engines.errors import ExportError
from htr_engines.files import atomic_path
from htr_export.precision.casting import LARGEST, set_float_types
from htr_export.precision.int8 import insert_int8, quantisable
from htr_export.precision.islands import HEADROOM, find_islands
from htr_export.precision.modules import module_of
from htr_export.precision.precision_map import MIXED, PrecisionPlan, PrecisionPlanError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto


@dataclass(frozen=True)
class LoweringReport:
    """What became of the nodes and weights of a graph."""

    nodes: Mapping[str, int]  # by the precision that they compute in
    fp32_nodes: int  # those that the plan lowers, but that stay in float32
    out_of_range: Mapping[str, float]  # modules that the range check keeps in float32, with their largest |x|
    overflowing_weights: tuple[str, ...]  # tensors that hold values beyond half precision; their nodes stay float32
    underflowing_values: int  # weights that are not 0 but too small for half precision; they become its smallest
    ranges_measured: bool
    dead: tuple[str, ...] = ()  # modules that int8 leaves as they are, since they read nothing but zeros

    def checks(self) -> list[Check]:
        """Return the account as check lines."""
        said = [", ".join(f"{count} nodes in {precision}" for precision, count in sorted(self.nodes.items()))]
        if self.fp32_nodes:
            said.append(f"{self.fp32_nodes} nodes stay in float32 for their range: norms, Softmax and LayerScale")
        if "fp16" in self.nodes:
            said += self._range_lines()
        said += [f"{module} is not quantised: on these lines it handles nothing but zeros" for module in self.dead]
        checks = [Check(passed=True, detail=detail) for detail in said]
        if "fp16" in self.nodes and not self.ranges_measured:
            checks.append(Check(passed=None, detail="overflow: it needs real lines, so give --lines"))
        return checks

    def _range_lines(self) -> list[str]:
        said = []
        if self.ranges_measured and not self.out_of_range:
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

    Norms, Softmax and LayerScale stay in float32. Of ``int8`` modules the convolutions and linear layers are quantised.

    Args:
        source: an ONNX file in float32, exported by this package.
        target: the ONNX file to write; it may be ``source``.
        plan: the precision of each module.
        ranges: the largest |x| of each node on real lines, by node name: of ``fp16``, what comes near the limit of
            half precision stays in float32.
        calibration: the largest |x| that int8 should tell apart, by tensor name, as
            :func:`htr_export.precision.calibration.calibrate` returns it. Needed for ``int8``.

    Raises:
        ExportError: if the graph is lowered already, or its opset does not know a precision of the plan.
        PrecisionPlanError: if the plan does not fit the network, or holds int8 without a calibration.
    """
    import onnx

    model = onnx.load(str(source))
    _check_is_float32(model, source)
    modules = {node.name: module_of(node) for node in model.graph.node}
    plan.check_fits(modules.values())
    check_opset(plan, max(entry.version for entry in model.opset_import if not entry.domain))
    if "int8" in plan.precisions and calibration is None:
        raise PrecisionPlanError("int8 needs real lines to choose its steps by; give --lines")
    planned = {name: plan.precision_of(module) for name, module in modules.items()}
    floats = {name: plan.float_precision if precision == "int8" else precision for name, precision in planned.items()}
    islands = find_islands(model.graph, {name for name, used in floats.items() if used == "fp16"}, ranges or {})
    used = {name: "fp32" if name in islands.nodes else precision for name, precision in floats.items()}
    element = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    types = {name: element[precision] for name, precision in used.items()}
    wanted = [node.name for node in quantisable(model.graph) if planned[node.name] == "int8"]
    int8 = insert_int8(model.graph, wanted, calibration or {}, types)
    set_float_types(model, {**types, **{name: types[served] for name, served in int8.served.items()}})
    _set_metadata(model, plan)
    with atomic_path(target) as temporary:
        onnx.save(model, str(temporary))
    return LoweringReport(
        nodes=Counter({**used, **dict.fromkeys(int8.nodes, "int8")}.values()),
        fp32_nodes=sum(floats[name] != "fp32" for name in islands.nodes),
        out_of_range={modules[name]: peak for name, peak in sorted(islands.loud.items(), key=lambda item: item[1])},
        overflowing_weights=islands.too_large,
        underflowing_values=islands.underflowing,
        ranges_measured=ranges is not None,
        dead=int8.dead,
    )


def check_opset(plan: PrecisionPlan, opset: int) -> None:
    """Check that an opset knows the precisions of a plan.

    Raises:
        ExportError: if it does not; its message says from which opset on.
    """
    if opset < plan.lowest_opset:
        raise ExportError(
            f"opset {opset} does not know this precision; give --opset {plan.lowest_opset} or a later one"
        )


def _check_is_float32(model: ModelProto, source: Path) -> None:
    precision = next((entry.value for entry in model.metadata_props if entry.key == "precision"), "fp32")
    if precision != "fp32":
        raise ExportError(f"{source} is {precision} already; give the float32 graph")


def _set_metadata(model: ModelProto, plan: PrecisionPlan) -> None:
    """Let the graph tell its precision; of a mixed one also which module has which."""
    for entry in model.metadata_props:
        if entry.key == "precision":
            entry.value = plan.name
    if plan.name == MIXED:
        told = json.dumps({"default": plan.default, "modules": dict(plan.modules)})
        model.metadata_props.add(key="precision_plan", value=told)
