"""From a model to one self-contained ONNX file."""

from __future__ import annotations

import contextlib
import logging
import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from htr_engines.errors import ExportError, one_line
from htr_engines.files import atomic_path
from htr_engines.limits import DEFAULT_OPSET, IMAGE_WIDTHS, OPSETS
from htr_engines.lines import load_batches
from htr_engines.progress import SILENT
from htr_export.onnx.checks import OnnxTolerance, check_lowered, check_onnx
from htr_export.precision.lowering import check_opset, lower_on_lines
from htr_export.precision.precision_map import PrecisionMap, PrecisionMapError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from htr_engines.checks import Check
    from htr_engines.lines import Line
    from htr_engines.progress import Progress
    from htr_export.model import Model


@dataclass(frozen=True)
class OnnxOptions:
    """What the graph should allow.

    Raises:
        ExportError: if a number is out of range, or the opset does not know the precision.
    """

    opset: int = DEFAULT_OPSET
    precision_map: PrecisionMap = field(default_factory=PrecisionMap)
    batch: int | None = None  # lines per run; None: any number
    width: int | None = None  # pixels of a line; None: any multiple of 8 from 32 to 2048

    @property
    def precision(self) -> str:
        """The precision in a word, as in the metadata of the file."""
        return self.precision_map.name

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ExportError(f"opset {self.opset} is out of range; choose one from {OPSETS[0]} to {OPSETS[-1]}")
        check_opset(self.precision_map, self.opset)
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
        lines: real lines, of which the precision map draws those that show whether fp16 overflows and that calibrate
            int8.
        progress: reports the steps.

    Returns:
        The checks, all passed.

    Raises:
        ExportError: if PyTorch cannot export it.
        PrecisionMapError: if the map does not fit the network, or not the lines.
        ParityError: if a check fails.
    """
    options = options or OnnxOptions()
    if "int8" in options.precision_map.precisions and not lines:
        raise PrecisionMapError("int8 chooses its steps on real lines; give --lines DIR, and --list FILE")
    options.precision_map.calibration.draw(lines)  # refuses other lines before minutes are spent
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
    precision_map = options.precision_map
    report = lower_on_lines(path, path, precision_map, lines, spec, batch=options.batch or 1, progress=progress)
    progress.step("checking it against PyTorch")
    size = options.batch or 2
    sample_N1HW = next(load_batches(lines, spec, size)).filled(size) if lines else None
    return [*report.checks(), *check_lowered(path, model, precision_map, options.batch, options.width, sample_N1HW)]


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
