"""What the user of ``htr-export trt`` may ask for, what each runtime supports, and the profiles of a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from htr_engines.backends.tensorrt.sidecar import Profile
from htr_engines.errors import ExportError
from htr_engines.limits import DEFAULT_OPSET, IMAGE_WIDTHS
from htr_engines.versions import release

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.base import TensorInfo
    from htr_engines.backends.tensorrt.library import Runtime
    from htr_export.onnx.file import OnnxFile

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

BATCHES = (1, 8, 32)  # min, opt and max where the graph leaves the batch open
AXES = ("batch", "channels", "height", "width")

PlanPrecision = Literal["fp16", "fp32"]


@dataclass(frozen=True)
class NamedShape:
    """A shape [N,1,H,W] of an input, as ``image:8x1x64x512`` gives it."""

    name: str
    shape: tuple[int, int, int, int]

    def __str__(self) -> str:
        return f"{self.name}:{'x'.join(str(axis) for axis in self.shape)}"


@dataclass(frozen=True)
class PlanOptions:
    """How to build a plan.

    One profile is made of each three shapes that stand at the same place; all three fields are of equal length.
    """

    runtime: Runtime | Literal["auto"] = "auto"  # auto: TensorRT if it is installed, else TensorRT-RTX
    precision: PlanPrecision | None = None  # of a float32 graph, by default fp16; others keep what they have
    min_shapes: tuple[NamedShape, ...] = ()
    opt_shapes: tuple[NamedShape, ...] = ()  # empty: made from the graph
    max_shapes: tuple[NamedShape, ...] = ()
    timing_cache: Path | None = None
    workspace: int | None = None  # bytes of GPU memory that one layer may use; None: all there is
    hardware_compatible: bool = False
    version_compatible: bool = False
    targets: tuple[str, ...] = ()  # "sm86"; empty: what TensorRT-RTX serves by default


def parse_shape(text: str) -> NamedShape:
    """Read ``image:8x1x64x512``.

    Raises:
        ValueError: if it is not of that form.
    """
    found = re.fullmatch(r"([^:]+):(\d{1,9})x(\d{1,9})x(\d{1,9})x(\d{1,9})", text, re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is not of the form image:NxCxHxW, such as image:8x1x64x512")
    n, c, h, w = (int(number) for number in found.groups()[1:])
    return NamedShape(found[1], (n, c, h, w))


def parse_size(text: str) -> int:
    """Read ``512MiB`` as bytes.

    Raises:
        ValueError: if it is not a number above 0 with one of :data:`UNITS`.
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]+)", text, re.ASCII)
    size = round(float(found[1]) * UNITS.get(found[2].upper(), 0)) if found else 0
    if size <= 0:
        raise ValueError(f"{text!r} is not a size such as 512MiB or 2GB")
    return size


def parse_targets(text: str) -> tuple[str, ...]:
    """Read ``sm86,sm89``.

    Raises:
        ValueError: if it is not a list of such names.
    """
    targets = tuple(dict.fromkeys(target.strip().lower() for target in text.split(",")))
    if wrong := [target for target in targets if not re.fullmatch(r"sm\d{2,3}", target, re.ASCII)]:
        raise ValueError(f"{wrong[0]!r} is not a target such as sm86")
    return targets


def check_supported(options: PlanOptions, runtime: Runtime) -> None:
    """Refuse what a runtime does not have; it would ignore it, or fail after minutes.

    Raises:
        ExportError: naming the option and the reason.
    """
    refused: dict[str, tuple[object, str]]
    if runtime == "tensorrt-rtx":
        refused = {
            "--timing-cache": (options.timing_cache, "it compiles for the GPU where the plan is loaded and times none"),
            "--hardware-compatible": (options.hardware_compatible, "its plans serve several GPUs; name them: --target"),
            "--version-compatible": (options.version_compatible, "its plans run on the release that built them alone"),
        }
    else:
        reason = "it builds for this machine's GPU, or with --hardware-compatible for those from sm80 on"
        refused = {"--target": (options.targets, reason)}
    for option, (given, reason) in refused.items():
        if given:
            raise ExportError(f"{runtime} has no {option}: {reason}; leave {option} out")


def check_targets(trt: Any, options: PlanOptions) -> None:  # noqa: ANN401
    """Refuse targets that this TensorRT-RTX does not know.

    Raises:
        ExportError: naming those that it knows.
    """
    if not options.targets:
        return
    known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    if unknown := [target for target in options.targets if target not in known]:
        raise ExportError(
            f"tensorrt-rtx {trt.__version__} does not build for {unknown[0]}; choose from {', '.join(known)}, or build "
            "with --runtime tensorrt on a machine with that GPU"
        )


def check_opset(runtime: Runtime, version: str, opset: int) -> None:
    """Refuse a graph that is too new for the runtime.

    Raises:
        ExportError: saying how to export it.
    """
    if runtime == "tensorrt" and release(version)[:2] == (10, 3) and opset > DEFAULT_OPSET:
        raise ExportError(
            f"the graph is of ONNX opset {opset} and TensorRT {version} reads up to {DEFAULT_OPSET}; export it "
            f"with: htr-export onnx --opset {DEFAULT_OPSET}"
        )


def make_profiles(graph: OnnxFile, options: PlanOptions) -> tuple[Profile, ...]:
    """Return the profiles that the options ask for, or one that suits the graph.

    Raises:
        ExportError: if a shape does not fit the graph, or the three of a profile do not fit each other.
    """
    if not (options.min_shapes or options.opt_shapes or options.max_shapes):
        return (_default(graph),)
    counts = {len(shapes) for shapes in (options.min_shapes, options.opt_shapes, options.max_shapes)}
    if len(counts) != 1:
        raise ExportError("give --min-shapes, --opt-shapes and --max-shapes together, each once for every profile")
    profiles = []
    for shapes in zip(options.min_shapes, options.opt_shapes, options.max_shapes, strict=True):
        for option, named in zip(("--min-shapes", "--opt-shapes", "--max-shapes"), shapes, strict=True):
            _check(named, graph, option)
        try:
            profiles.append(Profile(*(named.shape for named in shapes)))
        except ValueError as error:
            raise ExportError(
                f"{error}; let each axis grow from --min-shapes over --opt-shapes to --max-shapes"
            ) from None
    return tuple(profiles)


def fix_axes(graph: OnnxFile, profiles: tuple[Profile, ...]) -> tuple[TensorInfo, TensorInfo]:
    """Return a plan's input and output: an axis of one length in all profiles has that length in place of a name."""
    shapes = [shape for profile in profiles for shape in (profile.min, profile.max)]
    lengths = [{shape[axis] for shape in shapes} for axis in range(len(AXES))]
    axes = [min(found) if len(found) == 1 else name for found, name in zip(lengths, graph.input.shape, strict=True)]
    batch, frames, classes = graph.output.shape
    batch = axes[0] if isinstance(batch, str) else batch
    # One frame stands for 4 pixels.
    frames = axes[3] // 4 if isinstance(frames, str) and isinstance(axes[3], int) else frames
    return replace(graph.input, shape=tuple(axes)), replace(graph.output, shape=(batch, frames, classes))


def _default(graph: OnnxFile) -> Profile:
    """Take any number of lines of the width that the network was trained with, as far as the graph leaves it open."""
    batch, channels, height, width = graph.input.shape
    if isinstance(width, str):
        width = graph.preprocessing.width
    if isinstance(channels, str) or isinstance(height, str):
        raise ExportError(f"{graph.path} leaves channels or height open; export it again with 'htr-export onnx'")
    minimum, optimum, maximum = BATCHES if isinstance(batch, str) else (batch, batch, batch)
    rest = (channels, height, width)
    return Profile((minimum, *rest), (optimum, *rest), (maximum, *rest))


def _check(named: NamedShape, graph: OnnxFile, option: str) -> None:
    if named.name != graph.input.name:
        raise ExportError(
            f"{option} {named}: the graph's input is called {graph.input.name!r}; give {graph.input.name}:..."
        )
    for axis, given, allowed in zip(AXES, named.shape, graph.input.shape, strict=True):
        if isinstance(allowed, int) and given != allowed:
            raise ExportError(f"{option} {named}: the graph's {axis} is {allowed}, not {given}; give {allowed} there")
        if given < 1:
            raise ExportError(f"{option} {named}: the {axis} should be at least 1")
    if named.shape[3] not in IMAGE_WIDTHS:
        raise ExportError(
            f"{option} {named}: the width should be a multiple of 8 from {IMAGE_WIDTHS[0]} to {IMAGE_WIDTHS[-1]}"
        )
