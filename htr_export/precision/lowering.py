"""From a float32 graph and a precision map to the graph that computes in these precisions.

``onnx``, ``trt``, ``search`` and the benchmarks all measure, calibrate and lower here, so that one map and one set of
lines give one graph.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from htr_engines.checks import Check
from htr_engines.errors import ExportError
from htr_engines.files import atomic_path
from htr_engines.limits import RANGE_LINES
from htr_engines.progress import SILENT
from htr_export.graph_file import load_graph
from htr_export.precision.calibration import gather_histograms
from htr_export.precision.casting import LARGEST, module_of, set_float_types
from htr_export.precision.int8 import insert_int8, quantisable
from htr_export.precision.islands import HEADROOM, find_islands
from htr_export.precision.precision_map import MIXED, PrecisionMap, PrecisionMapError
from htr_export.precision.ranges import measure_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_engines.progress import Progress
    from htr_export.precision.histogram import Histogram
    from htr_export.precision.precision_map import Method

    Measure = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class LoweringReport:
    """What became of the nodes and weights of a graph."""

    nodes: Mapping[str, int]  # by the precision that they compute in
    fp32_nodes: int  # those that the map lowers, but that stay in float32
    out_of_range: Mapping[str, float]  # modules that the range check keeps in float32, with their largest |x|
    overflowing_weights: tuple[str, ...]  # tensors that hold values beyond half precision; their nodes stay float32
    underflowing_values: int  # weights that are not 0 but too small for half precision; they become its smallest
    ranges_measured: bool
    all_zero: tuple[str, ...] = ()  # modules that int8 leaves as they are, since they read nothing but zeros

    def checks(self) -> list[Check]:
        """Return the account as check lines."""
        said = [", ".join(f"{count} nodes in {precision}" for precision, count in sorted(self.nodes.items()))]
        if self.fp32_nodes:
            said.append(f"{self.fp32_nodes} nodes stay in float32 for their range: norms, Softmax and LayerScale")
        if "fp16" in self.nodes:
            said += self._range_lines()
        said += [f"{module} is not quantised: on these lines it handles nothing but zeros" for module in self.all_zero]
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


def lower_on_lines(
    source: Path,
    target: Path,
    precision_map: PrecisionMap,
    lines: Sequence[Line],
    spec: Preprocessing,
    *,
    batch: int = 1,
    progress: Progress = SILENT,
) -> LoweringReport:
    """Draw lines as the map says, measure the graph on them and write its lowered form.

    Without lines fp16 is not checked for overflow, and int8 is refused. ``target`` may be ``source``.

    Raises:
        PrecisionMapError: if the lines are not those of the map, or as :func:`lower` raises it.
        DataError: if no line could be read.
        ExportError: as :func:`lower` raises it.
    """
    drawn = precision_map.calibration.draw(lines)
    if drawn:
        precision_map = replace(precision_map, calibration=precision_map.calibration.fix(drawn))
    return Lowering(source, drawn, spec, batch, progress).write(target, precision_map)


@dataclass
class Lowering:
    """Writes lowered forms of one float32 graph; each measurement is made once, when a form first needs it."""

    source: Path
    drawn: Sequence[Line]  # by Calibration.draw
    spec: Preprocessing
    batch: int = 1
    progress: Progress = SILENT
    get_or_measure: Callable[[str, Measure], Mapping[str, float]] = lambda _name, measure: measure()

    def write(self, target: Path, precision_map: PrecisionMap) -> LoweringReport:
        """Write the form that a precision map asks for; the errors are those of :func:`lower_on_lines`."""
        used, measured = precision_map.precisions, bool(self.drawn)
        ranges = self.ranges() if measured and "fp16" in used else None
        limits = self.limits(precision_map.calibration.method) if measured and "int8" in used else None
        self.progress.step("lowering the precision")
        return lower(self.source, target, precision_map, ranges=ranges, limits=limits)

    def ranges(self) -> Mapping[str, float]:
        """Return the largest |x| of each node, by node name."""
        drawn = self.drawn[:RANGE_LINES]

        def measure() -> Mapping[str, float]:
            self.progress.step(f"measuring the range of every node on {len(drawn)} lines")
            return measure_ranges(self.source, drawn, self.spec, self.batch)

        return self.get_or_measure("ranges", measure)

    def limits(self, method: Method) -> Mapping[str, float]:
        """Return the largest |x| that int8 does not clip, by tensor name; 0 for a tensor of zeros.

        Args:
            method: ``minmax`` clips nothing that was seen, ``percentile`` the largest ten thousandth of the values, and
                ``entropy`` where the least information is lost.
        """
        return self.get_or_measure(
            f"limits {method}", lambda: {name: found.limit(method) for name, found in self._histograms.items()}
        )

    @cached_property
    def _histograms(self) -> Mapping[str, Histogram]:
        self.progress.step(f"calibrating on {len(self.drawn)} lines")
        return gather_histograms(self.source, self.drawn, self.spec, self.batch)


def lower(
    source: Path,
    target: Path,
    precision_map: PrecisionMap,
    *,
    ranges: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
) -> LoweringReport:
    """Write the form of a float32 graph that computes each module in its precision.

    Norms, Softmax and LayerScale stay in float32. Of ``int8`` modules the convolutions and linear layers are quantised.

    Args:
        source: an ONNX file in float32, exported by this package.
        target: the ONNX file to write; it may be ``source``.
        precision_map: the precision of each module.
        ranges: the largest |x| of each node on real lines, by node name: ``fp16`` nodes that come near the limit of
            half precision stay in float32.
        limits: the largest |x| that int8 does not clip, by tensor name. Needed for ``int8``.

    Raises:
        ExportError: if the graph is lowered already, or its opset does not support a precision of the map.
        PrecisionMapError: if the map does not fit the network, or holds int8 and there are no limits.
    """
    import onnx

    model = load_graph(source)
    _check_is_float32(model, source)
    modules = {node.name: module_of(node) for node in model.graph.node}
    precision_map.check_fits(modules.values())
    check_opset(precision_map, max(entry.version for entry in model.opset_import if not entry.domain))
    if "int8" in precision_map.precisions and limits is None:
        raise PrecisionMapError("int8 needs real lines to choose its steps by; give --lines")
    planned = {name: precision_map.precision_of(module) for name, module in modules.items()}
    floats = {
        name: precision_map.float_precision if precision == "int8" else precision for name, precision in planned.items()
    }
    islands = find_islands(model.graph, {name for name, used in floats.items() if used == "fp16"}, ranges or {})
    used = {name: "fp32" if name in islands.nodes else precision for name, precision in floats.items()}
    element = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
    types = {name: element[precision] for name, precision in used.items()}
    wanted = [node.name for node in quantisable(model.graph) if planned[node.name] == "int8"]
    int8 = insert_int8(model.graph, wanted, limits or {}, types)
    set_float_types(model, {**types, **{name: types[served] for name, served in int8.added_for.items()}})
    _set_metadata(model, precision_map)
    with atomic_path(target) as temporary:
        onnx.save(model, str(temporary))
    return LoweringReport(
        nodes=Counter({**used, **dict.fromkeys(int8.nodes, "int8")}.values()),
        fp32_nodes=sum(floats[name] != "fp32" for name in islands.nodes),
        out_of_range={
            modules[name]: peak for name, peak in sorted(islands.near_overflow.items(), key=lambda item: item[1])
        },
        overflowing_weights=islands.too_large,
        underflowing_values=islands.underflowing,
        ranges_measured=ranges is not None,
        all_zero=int8.all_zero,
    )


def check_opset(precision_map: PrecisionMap, opset: int) -> None:
    """Check that an opset supports the precisions of a map.

    Raises:
        ExportError: if it does not; its message says from which opset on.
    """
    if opset < precision_map.lowest_opset:
        raise ExportError(
            f"opset {opset} does not know this precision; give --opset {precision_map.lowest_opset} or a later one"
        )


def _check_is_float32(model: ModelProto, source: Path) -> None:
    precision = next((entry.value for entry in model.metadata_props if entry.key == "precision"), "fp32")
    if precision != "fp32":
        raise ExportError(f"{source} is {precision} already; give the float32 graph")


def _set_metadata(model: ModelProto, precision_map: PrecisionMap) -> None:
    """Write the precision into the graph's metadata, with the modules of a mixed one and the calibration."""
    for entry in model.metadata_props:
        if entry.key == "precision":
            entry.value = precision_map.name
    if precision_map.name == MIXED:
        modules = {"default": precision_map.default, "modules": dict(precision_map.modules)}
        model.metadata_props.add(key="precision_map", value=json.dumps(modules))
    if precision_map.calibration.sha256:
        model.metadata_props.add(key="calibration", value=json.dumps(asdict(precision_map.calibration)))
