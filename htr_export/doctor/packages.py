"""The Python packages that export and that run on the CPU or through ONNX Runtime."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING

from htr_engines.backends import DEFAULT_ENGINE, backends
from htr_engines.versions import short
from htr_export.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from htr_engines.backends.base import Backend
    from htr_export.doctor.gpu import Surroundings
    from htr_export.doctor.machine import Machine

ONNXRUNTIMES = backends()[DEFAULT_ENGINE].distributions
LAST_FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'"
TENSORRT_OF_PROVIDER = "libnvinfer.so.10"  # that the TensorRT provider links, up to ONNX Runtime 1.31


def extra_findings(machine: Machine, extra: str) -> list[Finding]:
    """Judge what an extra of htr-export brings: whether it is installed, in versions that work."""
    versions = {requirement.name: machine.version(requirement.name) for requirement in _required(extra)}
    if missing := [name for name, version in versions.items() if version is None]:
        return [Finding(extra, "not there", f"not installed: {', '.join(sorted(missing))}", _install(extra))]
    installed = ", ".join(f"{name} {short(version)}" for name, version in versions.items() if version)
    return _out_of_range(machine, extra, extra) or [Finding(extra, "ok", installed)]


def extras_without_engine() -> list[str]:
    """Return the extras of htr-export that users install for other reasons than an engine."""
    declared = importlib.metadata.metadata("htr-export").get_all("Provides-Extra") or []
    others = {*(backend.extra for backend in backends().values()), "jetson", "dev"}
    return [extra for extra in declared if extra not in others]


def torch_findings(around: Surroundings) -> list[Finding]:
    """Judge whether PyTorch, where there is one, can train on the GPU, where there is one."""
    version = around.machine.version("torch")
    if version is None or not around.has_gpu:
        return []
    found = re.search(r"^cuda\b.*=\s*'(\d+)", around.machine.package_text("torch/version.py"), re.MULTILINE)
    cuda = int(found[1]) if found else None
    runs = around.nvidia.cuda
    if cuda is None:
        cure = f"install the build of PyTorch for CUDA {runs}" if runs else "install a build of PyTorch for CUDA"
        return [Finding("PyTorch", "warning", f"{version} is a build for the CPU, so it trains on the CPU", cure)]
    if runs is not None and cuda > runs:
        text = f"{version} is built for CUDA {cuda}, the driver runs CUDA {runs}, so it trains on the CPU"
        return [Finding("PyTorch", "warning", text, f"install the build of PyTorch for CUDA {runs}, or a newer driver")]
    return [Finding("PyTorch", "ok", f"{version}, built for CUDA {cuda}")]


def onnxruntime_findings(machine: Machine) -> list[Finding]:
    """Judge ONNX Runtime on the CPU."""
    present = _onnxruntimes(machine)
    if not present:
        return [Finding("onnxruntime", "not there", "ONNX Runtime is not installed", _install("cpu"))]
    if len(present) > 1:
        names = " and ".join(f"{name} {version}" for name, version in present.items())
        text = f"{names} are installed together and overwrite each other's files"
        extra = "gpu" if "onnxruntime-gpu" in present else "cpu"
        cure = f"pip uninstall -y {' '.join(present)} && {_install(extra)}"
        return [Finding("onnxruntime", "warning", text, cure)]
    wrong = _out_of_range(machine, "onnxruntime", "cpu") + _out_of_range(machine, "onnxruntime", "gpu")
    name, version = next(iter(present.items()))
    providers = ", ".join(["CPU", *_providers(machine)])
    return wrong or [Finding("onnxruntime", "ok", f"{name} {version} with the providers {providers}")]


def _onnxruntimes(machine: Machine) -> dict[str, str]:
    found = {name: machine.version(name) for name in ONNXRUNTIMES}
    return {name: version for name, version in found.items() if version is not None}


def _providers(machine: Machine) -> list[str]:
    files = machine.package_files("onnxruntime/capi/*onnxruntime_providers_*")
    names = [re.sub(r"^(lib)?onnxruntime_providers_|\.(so|dll|dylib)$", "", file.name) for file in files]
    return sorted({name for name in names if name != "shared"})


def provider_findings(around: Surroundings, provider: str, topic: str) -> list[Finding]:
    """Judge one of ONNX Runtime's providers for NVIDIA GPUs, named as its library is: ``cuda``, ``tensorrt``..."""
    machine = around.machine
    present = _onnxruntimes(machine)
    if provider not in _providers(machine):
        cure = None
        if around.has_gpu and around.board is None and provider == "cuda":
            cure = _install("gpu") if around.nvidia.cuda != 12 else LAST_FOR_CUDA_12  # noqa: PLR2004
            cure = f"pip uninstall -y {' '.join(present)} && {cure}" if present else cure
        return [Finding(topic, "not there", f"no ONNX Runtime with the provider {provider} is installed", cure)]
    if len(present) > 1:
        text = "another ONNX Runtime overwrote this provider's files"
        return [Finding(topic, "problem", text, onnxruntime_findings(machine)[0].cure)]
    if not around.has_gpu:
        return [Finding(topic, "not there", "there is no NVIDIA GPU to run on")]
    name, version = next(iter(present.items()), ("onnxruntime", ""))
    found = re.search(r"cuda_version = '(\d+)", machine.package_text("onnxruntime/capi/build_and_package_info.py"))
    cuda = int(found[1]) if found else None
    if wrong := around.too_new_for_driver(topic, f"{name} {version}", cuda, LAST_FOR_CUDA_12):
        return wrong
    return _libraries(machine, provider, topic, cuda) or [Finding(topic, "ok", f"{name} {version}")]


def _libraries(machine: Machine, provider: str, topic: str, cuda: int | None) -> list[Finding]:
    """Return a problem if a library that the provider links is nowhere to be found."""
    wanted = [f"libcudart.so.{cuda}", f"libcublasLt.so.{cuda}", "libcudnn.so.9"] if cuda else []
    if lacking := [name for name in wanted if not machine.has_library(name)]:
        text = f"the provider needs {', '.join(lacking)}, not found here"
        return [Finding(topic, "problem", text, "pip install 'onnxruntime-gpu[cuda,cudnn]'")]
    if provider == "tensorrt" and not machine.has_library(TENSORRT_OF_PROVIDER):
        text = f"the provider needs TensorRT 10 ({TENSORRT_OF_PROVIDER}), not found here"
        kind = f"tensorrt-cu{cuda}" if cuda else "tensorrt"
        return [Finding(topic, "not there", text, f"pip install '{kind}<11', in an environment without TensorRT 11")]
    return []


def backend_findings(around: Surroundings, backend: Backend) -> list[Finding]:
    """Judge a backend by what it states of itself: its package, the versions that its extra asks for, its device."""
    machine, name = around.machine, backend.name
    version = machine.version(*backend.distributions)
    if version is None:
        return [Finding(name, "not there", f"{backend.package} is not installed", _install(backend.extra))]
    if backend.device != "cpu" and not around.has_gpu:
        return [Finding(name, "not there", f"{backend.package} {short(version)} has no NVIDIA GPU to run on")]
    return _out_of_range(machine, name, backend.extra) or [Finding(name, "ok", f"{backend.package} {short(version)}")]


def _required(extra: str) -> list[Requirement]:
    """Return what an extra of htr-export brings for this Python."""
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in importlib.metadata.requires("htr-export") or []]
    return [
        requirement
        for requirement in found
        if requirement.name != "htr-export"  # one extra that includes another
        and requirement.marker is not None
        and requirement.marker.evaluate({"extra": extra})
        and not requirement.marker.evaluate({"extra": ""})
    ]


def _install(extra: str) -> str:
    return f"pip install 'htr-export[{extra}]'"


def _out_of_range(machine: Machine, topic: str, extra: str) -> list[Finding]:
    """Return a problem for each package of an extra whose version htr-export does not work with."""
    found = []
    for requirement in _required(extra):
        version = machine.version(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            text = f"{requirement.name} {version} is installed, but htr-export works with {requirement.specifier}"
            found.append(Finding(topic, "problem", text, f"pip install --upgrade 'htr-export[{extra}]'"))
    return found
