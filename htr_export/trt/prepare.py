"""All that is decided and checked before a build, which may take minutes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from htr_engines.backends.tensorrt.library import load_tensorrt
from htr_engines.backends.tensorrt.sidecar import RTX_DEFAULT_TARGETS, gpus
from htr_engines.errors import ExportError, MissingExtraError
from htr_export.onnx.file import read_onnx
from htr_export.trt.options import check_opset, check_supported, check_targets, make_profiles

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.tensorrt.library import Runtime
    from htr_engines.backends.tensorrt.sidecar import Profile
    from htr_export.onnx.file import OnnxFile
    from htr_export.trt.options import PlanOptions


@dataclass(frozen=True)
class Prepared:
    """A build that has passed all checks that need no minutes."""

    graph: OnnxFile
    options: PlanOptions
    runtime: Runtime
    trt: Any  # the runtime's module
    compute_capability: str | None  # of this machine's GPU, which a TensorRT plan is for
    profiles: tuple[Profile, ...]
    precision: str  # of the plan
    target: Path
    has_lines: bool  # for the range check of a conversion

    @property
    def lowers(self) -> bool:
        """Whether the graph is converted on the way."""
        return self.precision != self.graph.precision

    @property
    def targets(self) -> tuple[str, ...]:
        """The GPUs that a TensorRT-RTX plan serves."""
        if self.runtime == "tensorrt":
            return ()
        return self.options.targets or RTX_DEFAULT_TARGETS

    @property
    def gpus(self) -> str:
        """The GPUs that the plan serves, in words."""
        return gpus(self.targets, self.compute_capability, hardware_compatible=self.options.hardware_compatible)


def prepare(source: Path, target: Path | None, options: PlanOptions, *, has_lines: bool = False) -> Prepared:
    """Check everything that can be checked before the build; the target may be a folder, by default that of ``source``.

    Raises:
        HtrError: if something is missing, or does not go together.
    """
    graph = read_onnx(source)
    precision = choose_precision(graph, options, has_lines=has_lines)
    profiles = make_profiles(graph, options)
    if options.runtime != "auto":
        check_supported(options, options.runtime)
    runtime, trt = choose_runtime(options)
    check_supported(options, runtime)
    if runtime == "tensorrt-rtx":
        check_targets(trt, options)
    check_opset(runtime, trt.__version__, graph.opset)
    compute_capability = _compute_capability() if runtime == "tensorrt" else None
    target = target or source.parent
    return _with_target(
        Prepared(graph, options, runtime, trt, compute_capability, profiles, precision, target, has_lines)
    )


def choose_precision(graph: OnnxFile, options: PlanOptions, *, has_lines: bool) -> str:
    """Return the precision of the plan.

    Raises:
        ExportError: if the graph is lowered already and something else is asked for.
    """
    if graph.precision == "fp32":
        precision = options.precision or "fp16"
        if has_lines and precision == "fp32":
            raise ExportError("--lines serve the range check of fp16; leave them out, or --precision fp32")
        return precision
    if options.precision not in {None, graph.precision}:
        raise ExportError(
            f"{graph.path} is {graph.precision} already and cannot become {options.precision}; leave --precision out, "
            "or give the float32 graph"
        )
    if has_lines:
        raise ExportError(f"{graph.path} is {graph.precision} already; leave --lines out, or give the float32 graph")
    return graph.precision


def choose_runtime(options: PlanOptions) -> tuple[Runtime, Any]:
    """Return the runtime asked for with its module; for ``auto`` TensorRT where it is installed, else TensorRT-RTX.

    Raises:
        HtrError: if it cannot be loaded.
    """
    if options.runtime != "auto":
        return options.runtime, load_tensorrt(options.runtime)
    if options.targets:
        return "tensorrt-rtx", load_tensorrt("tensorrt-rtx")
    try:
        return "tensorrt", load_tensorrt("tensorrt")
    except MissingExtraError:
        pass
    try:
        return "tensorrt-rtx", load_tensorrt("tensorrt-rtx")
    except MissingExtraError:
        raise ExportError(
            "neither TensorRT nor TensorRT-RTX is installed; install one with: pip install 'htr-export[trt]' on the "
            "device, or pip install 'htr-export[rtx]', which builds without a GPU too"
        ) from None


def _compute_capability() -> str:
    """Return the compute capability of the GPU that TensorRT builds for."""
    from htr_engines.backends.tensorrt.cuda import open_cuda

    cuda = open_cuda("trt")
    capability = cuda.device.compute_capability
    cuda.close()
    return capability


def _with_target(prepared: Prepared) -> Prepared:
    """Fill in the plan's name where a folder was given, and see that it can be written."""
    target = prepared.target
    if target.is_dir():
        target /= plan_name(prepared)
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ExportError(f"{folder} cannot be written to ({error.strerror}); give another -o") from None
    return replace(prepared, target=target)


def plan_name(prepared: Prepared) -> str:
    """Return ``model.fp16.sm86.trt10.3.plan``: precision, GPU and release belong to a plan as its suffix does."""
    version = ".".join(prepared.trt.__version__.split(".")[:2])
    if prepared.runtime == "tensorrt-rtx":
        gpu, library = "-".join(prepared.options.targets), f"rtx{version}"
    elif prepared.options.hardware_compatible:
        gpu, library = "sm80+", f"trt{version}"
    else:
        gpu, library = f"sm{prepared.compute_capability}".replace(".", ""), f"trt{version}"
    stem = prepared.graph.path.stem.removesuffix(f".{prepared.precision}")
    return ".".join(part for part in (stem, prepared.precision, gpu, library, "plan") if part)
