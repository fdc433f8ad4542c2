"""A TensorRT plan's sidecar: what the plan is, readable without a GPU, and where it can run.

``MODEL.plan`` is exactly what TensorRT wrote; ``MODEL.plan.json`` beside it holds the facts, since a plan cannot be
inspected on a machine whose GPU it does not support.

Version rules are NVIDIA's ("Engine Compatibility" in the documentation of TensorRT and of TensorRT-RTX): a plan runs on
the release that built it; if built version compatible, also on later releases of the same major version. TensorRT-RTX
has no version compatibility.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from htr_engines.backends.base import TensorInfo  # noqa: TC001 - likewise
from htr_engines.backends.tensorrt.library import Runtime  # noqa: TC001 - likewise
from htr_engines.documents import Positive, Sha256, convert, load_json, parse_json
from htr_engines.errors import EngineError
from htr_engines.files import is_file, sha256_of, write_text
from htr_engines.text import shown
from htr_engines.versions import release

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
KIND = "htr-export plan"
# What TensorRT-RTX supports when no target is named; "+" stands for "and later".
RTX_DEFAULT_TARGETS = ("sm80", "sm86", "sm89", "sm120+")
MAX_BYTES = 16 << 20  # of a sidecar; usually some kilobytes
CURE = "build the plan again"

Shape = tuple[Positive, Positive, Positive, Positive]
Version = Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){2,3}[!-~]*\Z")]
ComputeCapability = Annotated[str, Meta(pattern=r"^[0-9]{1,2}\.[0-9]\Z")]
Target = Annotated[str, Meta(pattern=r"^sm[0-9]{2,3}\+?\Z")]


@dataclass(frozen=True)
class Profile:
    """The shapes [N,1,H,W] of the input that a plan takes: from ``min`` to ``max``, tuned for ``opt``."""

    min: Shape
    opt: Shape
    max: Shape

    def __post_init__(self) -> None:
        if not all(low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"min {list(self.min)}, opt {list(self.opt)} and max {list(self.max)} are not in order")


@dataclass(frozen=True)
class PlanSidecar:
    """What ``MODEL.plan.json`` says of ``MODEL.plan``."""

    runtime: Runtime  # that built it, and that alone can run it
    runtime_version: Version  # such as "10.3.0"
    compute_capability: ComputeCapability | None  # of the GPU that it was built on; None where none was needed
    targets: tuple[Target, ...]  # GPUs that a TensorRT-RTX plan supports, such as "sm86"; "sm120+": and later ones
    hardware_compatible: bool  # runs on every GPU of compute capability 8.0 or more
    version_compatible: bool  # runs on later releases; its reader must set Runtime.engine_host_code_allowed
    precision: str  # "fp32", "fp16", "bf16", "int8" or "mixed"
    profiles: Annotated[tuple[Profile, ...], Meta(min_length=1)]
    input: TensorInfo  # an axis that the profiles leave open has its name in place of a number
    output: TensorInfo
    onnx_file: str  # name of the ONNX file it was built from
    onnx_sha256: Sha256
    plan_sha256: Sha256
    plan_bytes: int
    metadata: Mapping[str, str]  # of the ONNX file: characters, preprocessing and provenance
    flags: Mapping[str, Any]  # further settings of the build
    seconds: float  # that the build took
    log: tuple[str, ...]  # the builder's messages, the last ones if they were many
    environment: Mapping[str, Any]  # by htr_engines.host
    command: str  # that builds it again

    def __post_init__(self) -> None:
        if not (self.targets if self.runtime == "tensorrt-rtx" else self.compute_capability):
            raise ValueError("it does not say which GPUs the plan supports")


@dataclass(frozen=True)
class _Digest:
    """How a sidecar's document names a file."""

    sha256: Sha256
    file: str = ""
    bytes: int = 0


def sidecar_path(plan: Path) -> Path:
    """Return the path of a plan's sidecar."""
    return plan.with_name(f"{plan.name}.json")


def write_sidecar(plan: Path, sidecar: PlanSidecar) -> None:
    """Write the sidecar of a plan, atomically."""
    write_text(sidecar_path(plan), to_json(sidecar))


def to_json(sidecar: PlanSidecar) -> str:
    """Return a sidecar as the JSON document that its file holds."""
    fields = asdict(sidecar)
    onnx = {"file": fields.pop("onnx_file"), "sha256": fields.pop("onnx_sha256")}
    digest = {"sha256": fields.pop("plan_sha256"), "bytes": fields.pop("plan_bytes")}
    document = {"schema_version": SCHEMA_VERSION, "kind": KIND, "onnx": onnx, "plan": digest, **fields}
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def read_sidecar(plan: Path, content: bytes | None = None) -> PlanSidecar:
    """Read the sidecar of a plan, from ``content`` where its file has been read already.

    Raises:
        EngineError: if it is missing, damaged, or of a version that this release does not know.
    """
    path = sidecar_path(plan)
    if content is None and not is_file(path):
        raise EngineError(f"{plan} has no {path.name} beside it; copy it too, or build the plan with 'htr-export trt'")
    if content is None:
        document = load_json(path, dict[str, Any], CURE, EngineError, MAX_BYTES)
    else:
        document = parse_json(content, dict[str, Any], str(path), CURE, EngineError)
    if document.get("kind") != KIND:
        raise EngineError(f"{path} is not the sidecar of a plan; build the plan with 'htr-export trt'")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise EngineError(
            f"{path} has schema version {shown(document.get('schema_version'))}, this release reads {SCHEMA_VERSION}; "
            "build the plan again with this release"
        )
    onnx, digest = (
        convert(document.get(name), _Digest, f"{path}, {name}", CURE, EngineError) for name in ("onnx", "plan")
    )
    flat = {
        **document,
        "onnx_file": onnx.file,
        "onnx_sha256": onnx.sha256,
        "plan_sha256": digest.sha256,
        "plan_bytes": digest.bytes,
    }
    return convert(flat, PlanSidecar, str(path), CURE, EngineError)


def incompatibility(sidecar: PlanSidecar, *, runtime: str, version: str, compute_capability: str) -> str | None:
    """Return why a plan cannot run on a device, or None if it can.

    Versions are such as ``10.3.0``, compute capabilities such as ``8.6``.
    """
    if runtime != sidecar.runtime:
        return f"it was built with {sidecar.runtime}, not with {runtime}"
    if not _version_fits(sidecar, version):
        return f"it was built with {runtime} {sidecar.runtime_version}, here is {version}"
    if not _device_fits(sidecar, compute_capability):
        return f"it was built for {gpus_of(sidecar)}, this GPU has compute capability {compute_capability}"
    return None


def gpus_of(sidecar: PlanSidecar) -> str:
    """Describe the GPUs that a plan supports."""
    return gpus(sidecar.targets, sidecar.compute_capability, hardware_compatible=sidecar.hardware_compatible)


def gpus(targets: tuple[str, ...], compute_capability: str | None, *, hardware_compatible: bool) -> str:
    """Describe the GPUs in the fields of a sidecar."""
    if targets:
        return ", ".join(target.replace("+", " and later") for target in targets)
    return "compute capability 8.0 and later" if hardware_compatible else f"compute capability {compute_capability}"


def check_fits(
    sidecar: PlanSidecar,
    plan: Path,
    *,
    runtime: str,
    version: str,
    compute_capability: str,
    onnx: Path | None = None,
    content: bytes | None = None,
) -> None:
    """Refuse a plan that its sidecar does not describe, or that cannot run here.

    The arguments are those of :func:`incompatibility` and :func:`content_mismatch`.

    Raises:
        EngineError: naming both values and the command that builds the plan again.
    """
    reason = incompatibility(sidecar, runtime=runtime, version=version, compute_capability=compute_capability)
    reason = reason or content_mismatch(sidecar, plan, onnx, content)
    if reason:
        raise EngineError(f"{plan} cannot be used: {reason}; build it again on this machine: {sidecar.command}")


def content_mismatch(
    sidecar: PlanSidecar, plan: Path, onnx: Path | None = None, content: bytes | None = None
) -> str | None:
    """Return why a plan, or the ONNX file that it was built from, is not the sidecar's; None if both are."""
    size = plan.stat().st_size if content is None else len(content)
    if size != sidecar.plan_bytes:
        return f"it has {size} bytes, its sidecar says {sidecar.plan_bytes}"
    digest = sha256_of(plan) if content is None else hashlib.sha256(content).hexdigest()
    if digest != sidecar.plan_sha256:
        return f"its SHA-256 is {digest}, its sidecar says {sidecar.plan_sha256}"
    if onnx is not None and (digest := sha256_of(onnx)) != sidecar.onnx_sha256:
        return f"{onnx.name} has the SHA-256 {digest}, the plan was built from {sidecar.onnx_sha256}"
    return None


def _version_fits(sidecar: PlanSidecar, version: str) -> bool:
    built, here = release(sidecar.runtime_version)[:3], release(version)[:3]
    if sidecar.version_compatible:
        return built[:1] == here[:1] and built <= here
    return built == here


def _device_fits(sidecar: PlanSidecar, compute_capability: str) -> bool:
    here = _number(compute_capability)
    if sidecar.runtime == "tensorrt-rtx":
        return any(here == _sm(target) or (target.endswith("+") and here > _sm(target)) for target in sidecar.targets)
    if sidecar.hardware_compatible:
        return here >= (8, 0)
    return sidecar.compute_capability is not None and here == _number(sidecar.compute_capability)


def _number(compute_capability: str) -> tuple[int, int]:
    major, minor = compute_capability.split(".")
    return int(major), int(minor)


def _sm(target: str) -> tuple[int, int]:
    """Return the compute capability of a target: ``sm120+`` -> (12, 0)."""
    digits = target.removeprefix("sm").rstrip("+")
    return int(digits[:-1]), int(digits[-1])
