"""What the user of ``htr-export trt`` may ask for, and what each runtime can give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from htr_engines.errors import ExportError
from htr_engines.versions import release

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.tensorrt.library import Runtime

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
NEWEST_OPSET_OF_10_3 = 20

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
    if runtime == "tensorrt" and release(version)[:2] == (10, 3) and opset > NEWEST_OPSET_OF_10_3:
        raise ExportError(
            f"the graph is of ONNX opset {opset} and TensorRT {version} reads up to {NEWEST_OPSET_OF_10_3}; export it "
            f"with: htr-export onnx --opset {NEWEST_OPSET_OF_10_3}"
        )
