"""From a model to one self-contained ONNX file."""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from htr_engines.errors import ExportError, one_line
from htr_engines.files import atomic_path
from htr_engines.lines import load_batches
from htr_engines.progress import SILENT
from htr_export.network.config import IMAGE_WIDTHS
from htr_export.onnx.checks import OnnxTolerance, check_lowered, check_onnx
from htr_export.precision.calibration import calibrate
from htr_export.precision.lowering import check_opset, lower
from htr_export.precision.precision_map import DEFAULT_METHOD, Method, PrecisionPlan, PrecisionPlanError
from htr_export.precision.ranges import measure_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from htr_engines.checks import Check
    from htr_engines.lines import Line
    from htr_engines.progress import Progress
    from htr_export.model import Model

OPSETS = range(18, 24)
RANGE_LINES = 50  # for the range check: enough to meet what a network does, few enough to take seconds


@dataclass(frozen=True)
class CalibrationOptions:
    """On which of the lines, and how, int8 chooses where to clip.

    Raises:
        ExportError: if the number of lines is out of range.
    """

    method: Method = DEFAULT_METHOD
    lines: int = 500  # drawn from those given
    seed: int = 0  # of the draw

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise ExportError(f"{self.lines} calibration lines are too few; give at least 1")

    def draw(self, lines: Sequence[Line]) -> list[Line]:
        """Draw lines, so that they are of all writers, and keep their order."""
        chosen = random.Random(self.seed).sample(range(len(lines)), min(self.lines, len(lines)))  # noqa: S311
        return [lines[index] for index in sorted(chosen)]


@dataclass(frozen=True)
class OnnxOptions:
    """What the graph should allow.

    Raises:
        ExportError: if a number is out of range, or the opset does not know the precision.
    """

    opset: int = 20  # the highest that TensorRT 10.3 reads
    plan: PrecisionPlan = field(default_factory=PrecisionPlan)
    batch: int | None = None  # lines per run; None: any number
    width: int | None = None  # pixels of a line; None: any multiple of 8 from 32 to 2048
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)

    @property
    def precision(self) -> str:
        """The precision in a word, as the file tells it."""
        return self.plan.name

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ExportError(f"opset {self.opset} is out of range; choose one from {OPSETS[0]} to {OPSETS[-1]}")
        check_opset(self.plan, self.opset)
        if self.batch is not None and self.batch < 1:
            raise ExportError(f"batch {self.batch} is out of range; give at least 1, or 'dynamic'")
        if self.width is not None and self.width not in IMAGE_WIDTHS:
            raise ExportError(f"width {self.width} should be a multiple of 8 from 32 to 2048, or 'dynamic'")


def export_onnx(
    model: Model,
    target: Path,
    options: OnnxOptions | None = None,
    tolerance: OnnxTolerance | None = None,
    lines: Sequence[Line] = (),
    progress: Progress = SILENT,
) -> list[Check]:
    """Write ``target`` and prove it equal to PyTorch; a file that is not equal never gets that name.

    Args:
        model: what to export.
        target: the ``.onnx`` file.
        options: batch, width and opset.
        tolerance: how far the logits of its float32 form may be from PyTorch's.
        lines: real lines, on which a graph of lower precision is checked for values out of its range, and int8 is
            calibrated.
        progress: told the steps.

    Returns:
        The checks, all passed.

    Raises:
        ExportError: if PyTorch cannot export it.
        PrecisionPlanError: if the plan does not fit the network, or needs lines and there are none.
        ParityError: if a check fails.
    """
    options = options or OnnxOptions()
    if "int8" in options.plan.precisions and not lines:
        raise PrecisionPlanError("int8 chooses its steps on real lines; give --lines DIR, and --list FILE")
    with atomic_path(target) as temporary:
        progress.step("exporting the graph")
        write_graph(model, temporary, options)
        progress.step("checking it against PyTorch")
        checks = check_onnx(temporary, model, options.batch, options.width, tolerance or OnnxTolerance())
        if options.precision != "fp32":
            checks += _lower(model, temporary, options, lines, progress)
        return checks


def _lower(model: Model, path: Path, options: OnnxOptions, lines: Sequence[Line], progress: Progress) -> list[Check]:
    """Replace a checked float32 graph by its form of lower precision, and check that too."""
    spec = replace(model.preprocessing, width=options.width or model.preprocessing.width)
    batch, plan = options.batch or 1, options.plan
    ranges = calibration = None
    if lines and "fp16" in plan.precisions:
        progress.step(f"measuring the range of every node on {len(lines[:RANGE_LINES])} lines")
        ranges = measure_ranges(path, lines[:RANGE_LINES], spec, batch)
    if "int8" in plan.precisions:
        chosen = options.calibration.draw(lines)
        progress.step(f"calibrating on {len(chosen)} lines")
        calibration = calibrate(path, chosen, spec, options.calibration.method, batch=batch)
    progress.step("lowering the precision")
    report = lower(path, path, plan, ranges=ranges, calibration=calibration)
    progress.step("checking it against PyTorch")
    size = options.batch or 2
    sample_N1HW = next(load_batches(lines, spec, size)).filled(size) if lines else None
    return [*report.checks(), *check_lowered(path, model, plan, options.batch, options.width, sample_N1HW)]


def write_graph(model: Model, path: Path, options: OnnxOptions) -> None:
    """Export and clean the graph, without checks."""
    import onnx_ir as ir

    from htr_export.onnx.graph import clean

    exported = _export(model, options)
    clean(exported)
    _name_axes(exported, options)
    exported.producer_name = "htr-export"
    exported.producer_version = tool_version()
    exported.doc_string = "HTR-ConvText: image [N,1,64,W] in [0,1], white = 1, to CTC logits [N,W/4,classes]"
    exported.metadata_props.clear()
    exported.metadata_props.update(model.metadata())
    ir.save(exported, path)


def _export(model: Model, options: OnnxOptions) -> ir.Model:
    image_N1HW = torch.zeros(options.batch or 2, 1, model.preprocessing.height, options.width or 512)
    axes: dict[int, object] = {}
    if options.batch is None:
        axes[0] = torch.export.Dim("batch", min=1)
    if options.width is None:
        axes[3] = 8 * torch.export.Dim("eighths", min=IMAGE_WIDTHS[0] // 8, max=IMAGE_WIDTHS[-1] // 8)
    try:
        with _quiet():
            program = torch.onnx.export(
                model.network(),
                (image_N1HW,),
                dynamo=True,
                opset_version=options.opset,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes=(axes,) if axes else None,
                verbose=False,
            )
    except Exception as error:  # the exporter's own errors have no public base
        raise ExportError(f"PyTorch {torch.__version__} could not export the network: {one_line(error)}") from error
    if program is None:
        raise ExportError(f"PyTorch {torch.__version__} exported nothing; install a version from 2.9 to 2.13")
    return program.model


def _name_axes(exported: ir.Model, options: OnnxOptions) -> None:
    import onnx_ir as ir

    image, logits = exported.graph.inputs[0], exported.graph.outputs[0]
    assert image.shape is not None
    assert logits.shape is not None
    batch = options.batch or "batch"
    frames = options.width // 4 if options.width else "frames"
    image.shape = ir.Shape([batch, 1, image.shape[2], options.width or "width"])
    logits.shape = ir.Shape([batch, frames, logits.shape[2]])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's remarks on packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def tool_version() -> str:
    """Return the version of this package, or ``unknown`` where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("htr-export")
    except PackageNotFoundError:
        return "unknown"
