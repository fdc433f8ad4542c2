"""The examination of a machine: findings, what can be built, what can run, and the engine that htr-read uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.backends import backends
from htr_export.doctor.finding import usable
from htr_export.doctor.gpu import nvidia_findings, probe_host
from htr_export.doctor.jetson import jetson_findings
from htr_export.doctor.packages import (
    backend_findings,
    extra_findings,
    extras_without_engine,
    onnxruntime_findings,
    provider_findings,
    torch_findings,
)
from htr_export.doctor.system import system_findings
from htr_export.doctor.tensorrt import (
    memory_access_findings,
    rtx_device_findings,
    rtx_findings,
    tensorrt_device_findings,
    tensorrt_findings,
)

if TYPE_CHECKING:
    from htr_export.doctor.finding import Finding
    from htr_export.doctor.gpu import Surroundings
    from htr_export.doctor.machine import Machine

# The libraries of ONNX Runtime's providers, by engine.
PROVIDERS = {
    "onnxruntime-tensorrt": "tensorrt",
    "onnxruntime-tensorrt-rtx": "nv_tensorrt_rtx",
    "onnxruntime-cuda": "cuda",
}


@dataclass(frozen=True)
class Ability:
    """Something that can, or cannot, be built or run."""

    name: str  # "onnx", "tensorrt plan"; or an engine of htr_engines
    possible: bool
    reason: str | None = None  # why not
    cure: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All findings on a machine and what follows from them."""

    findings: tuple[Finding, ...]
    builds: tuple[Ability, ...]
    engines: tuple[Ability, ...]  # as htr-read prefers them; the last ones it uses only when they are named

    @property
    def choice(self) -> str | None:
        """The engine that htr-read uses for a bundle that has a model for each, None if nothing can run."""
        return next((engine.name for engine in self.engines if engine.possible), None)


def examine(machine: Machine) -> Diagnosis:
    """Examine a machine. Nothing is imported, built or sent; other programs have a time limit."""
    around = probe_host(machine)
    export = extra_findings(machine, "export")
    tensorrt, tensorrt_device = tensorrt_findings(around), tensorrt_device_findings(around)
    rtx, rtx_device = rtx_findings(around), rtx_device_findings(around)
    access = memory_access_findings(around)
    engines = {
        "tensorrt": _shown(tensorrt, tensorrt_device) + access,
        "tensorrt-rtx": _shown(rtx, rtx_device) + access,
        **{engine: provider_findings(around, provider, engine) for engine, provider in PROVIDERS.items()},
        "onnxruntime": onnxruntime_findings(machine),
    }
    others = {name: backend_findings(around, backend) for name, backend in backends().items() if name not in engines}
    packages = [
        *(finding for extra in extras_without_engine() for finding in extra_findings(machine, extra)),
        *torch_findings(around),
        *engines["onnxruntime"],
        *(finding for engine in PROVIDERS for finding in engines[engine]),
        *(finding for findings in others.values() for finding in findings),
        *_shown(tensorrt, tensorrt_device),
        *_shown(rtx, rtx_device),
        *access,
    ]
    return Diagnosis(
        findings=(*_machine_findings(around), *packages),
        builds=(
            _ability("onnx", export),
            _ability("tensorrt plan", [*export, *tensorrt, *tensorrt_device, *access]),
            _ability("tensorrt-rtx plan", [*export, *rtx]),
        ),
        engines=tuple(_ability(name, {**engines, **others}[name]) for name in _preference()),
    )


def _preference() -> list[str]:
    return sorted(known := backends(), key=lambda name: min(known[name].ranks.values(), default=math.inf))


def _machine_findings(around: Surroundings) -> list[Finding]:
    machine = around.machine
    return [
        *system_findings(machine),
        *nvidia_findings(around.nvidia),
        *(jetson_findings(around.board) if around.board else []),
    ]


def _shown(package: list[Finding], device: list[Finding]) -> list[Finding]:
    """Join findings on a package with those on its device, which matter only if the package is complete."""
    return package + device if usable(package) else package


def _ability(name: str, findings: list[Finding]) -> Ability:
    for finding in findings:
        if not usable([finding]):
            return Ability(name, possible=False, reason=finding.text, cure=finding.cure)
    return Ability(name, possible=True)
