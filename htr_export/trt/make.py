"""From an ONNX file to a plan with its sidecar."""

from __future__ import annotations

import hashlib
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.backends.tensorrt.sidecar import PlanSidecar, sidecar_path, to_json
from htr_engines.files import atomic_path
from htr_engines.host import describe_environment
from htr_engines.progress import SILENT
from htr_export.graph_file import foreign_graph
from htr_export.trt.build import Built, Parsed, build, parse
from htr_export.trt.options import fix_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.checks import Check
    from htr_engines.lines import Line
    from htr_engines.progress import Progress
    from htr_export.onnx.file import OnnxFile
    from htr_export.trt.prepare import Prepared


@dataclass(frozen=True)
class BuiltPlan:
    """What was written."""

    plan: Path
    sidecar: PlanSidecar
    checks: list[Check] = field(default_factory=list)  # of the conversion, if there was one


def make_plan(
    prepared: Prepared,
    lines: Sequence[Line] = (),
    progress: Progress = SILENT,
) -> BuiltPlan:
    """Build a plan and write it with its sidecar: both or neither. Lines serve the range check of a conversion.

    Raises:
        ExportError: if the graph cannot be parsed or built.
        KeyboardInterrupt: if the user stopped the build.
    """
    parsed, checks = parse_prepared(prepared, lines, progress)
    built = build(
        prepared.trt, parsed, prepared.options, prepared.profiles, lambda phase: progress.step(f"building: {phase}")
    )
    progress.step("writing the plan")
    sidecar = _sidecar(prepared, built)
    with ExitStack() as stack:
        # The last to be opened is the first to get its name: no plan without its sidecar.
        plan, beside = (
            stack.enter_context(atomic_path(path)) for path in (prepared.target, sidecar_path(prepared.target))
        )
        plan.write_bytes(built.plan)
        beside.write_text(to_json(sidecar), encoding="utf-8")
    return BuiltPlan(prepared.target, sidecar, checks)


def parse_prepared(
    prepared: Prepared, lines: Sequence[Line] = (), progress: Progress = SILENT
) -> tuple[Parsed, list[Check]]:
    """Convert the graph if need be and parse it; the converted graph is gone once it is parsed."""
    graph = prepared.graph
    if not prepared.lowers:
        progress.step("parsing the graph")
        return parse(prepared.trt, graph.path, graph.path), []
    with tempfile.TemporaryDirectory(prefix="htr-export-") as folder:
        lowered = Path(folder) / "lowered.onnx"
        with foreign_graph(graph.path):
            checks = _lower(graph, lowered, lines, progress)
        progress.step("parsing the graph")
        return parse(prepared.trt, lowered, graph.path), checks


def _lower(graph: OnnxFile, target: Path, lines: Sequence[Line], progress: Progress) -> list[Check]:
    from htr_export.precision.lowering import lower_on_lines
    from htr_export.precision.precision_map import PrecisionMap

    fp16, spec = PrecisionMap("fp16"), graph.preprocessing
    return lower_on_lines(graph.path, target, fp16, lines, spec, batch=graph.batch, progress=progress).checks()


def _sidecar(prepared: Prepared, built: Built) -> PlanSidecar:
    graph, options = prepared.graph, prepared.options
    image, logits = fix_axes(graph, prepared.profiles)
    return PlanSidecar(
        runtime=prepared.runtime,
        runtime_version=prepared.trt.__version__,
        compute_capability=prepared.compute_capability,
        targets=prepared.targets,
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        precision=prepared.precision,
        profiles=prepared.profiles,
        input=image,
        output=logits,
        onnx_file=graph.path.name,
        onnx_sha256=graph.sha256,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=built.plan.nbytes,
        metadata={**graph.metadata, "precision": prepared.precision},
        flags={
            "strongly_typed": True,
            "tf32": False,
            "workspace_bytes": options.workspace,
            "timing_cache": options.timing_cache is not None,
            "converted_from": graph.precision if prepared.lowers else None,
            "range_checked": prepared.has_lines,
            "cpu_seconds": round(built.cpu_seconds, 3),
        },
        seconds=round(built.seconds, 3),
        log=built.log,
        environment=describe_environment(),
        command=rebuild_command(prepared),
    )


def rebuild_command(prepared: Prepared) -> str:
    """Return the command that builds the plan again, by the names of its files alone."""
    options = prepared.options
    words = ["htr-export", "trt", prepared.graph.path.name, "-o", prepared.target.name, "--runtime", prepared.runtime]
    if options.precision:
        words += ["--precision", options.precision]
    if prepared.has_lines:
        words += ["--lines", "LINES"]
    for option in ("min_shapes", "opt_shapes", "max_shapes"):
        for shape in getattr(options, option):
            words += [f"--{option.replace('_', '-')}", str(shape)]
    if options.timing_cache:
        words += ["--timing-cache", options.timing_cache.name]
    if options.workspace:
        words += ["--workspace", f"{options.workspace}B"]
    words += ["--hardware-compatible"] * options.hardware_compatible
    words += ["--version-compatible"] * options.version_compatible
    if options.targets:
        words += ["--target", ",".join(options.targets)]
    return shlex.join(words)
