"""TensorRT, TensorRT-RTX and the access to CUDA memory that both need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.backends import backends
from htr_engines.backends.tensorrt.library import OLDEST, RUNTIMES
from htr_engines.versions import release, short
from htr_export.doctor.finding import Finding
from htr_export.doctor.gpu import dotted

if TYPE_CHECKING:
    from htr_export.doctor.gpu import Surroundings

OLDEST_TEXT = ".".join(map(str, OLDEST["tensorrt"]))
JETPACK_OF_EXTRA = 6  # whose CUDA the extra ``jetson`` is meant for
LAST_WITH_VOLTA = (10, 4)
TURING = 75
OPSET_OF_OLDEST = 20  # the newest that the parser of 10.3 reads
RTX_CAPABILITIES = {75, 80, 86, 89}  # and BLACKWELL or later
BLACKWELL = 120
BINDINGS, RTX_BINDINGS = (backends()[runtime].distributions for runtime in RUNTIMES)


@dataclass(frozen=True)
class Installed:
    """A distribution that is installed."""

    name: str
    version: str

    @property
    def cuda(self) -> int | None:
        """The major version of CUDA in its name."""
        return next((major for major in (13, 12) if f"-cu{major}" in self.name), None)


def installed(around: Surroundings, names: tuple[str, ...]) -> Installed | None:
    """Return the first of these distributions that is installed."""
    for name in names:
        if version := around.machine.version(name):
            return Installed(name, version)
    return None


def tensorrt_findings(around: Surroundings) -> list[Finding]:
    """Judge whether TensorRT is complete: bindings and libraries of a version that htr-export works with."""
    found = installed(around, BINDINGS)
    if found is None:
        return [_no_tensorrt(around)]
    name = f"TensorRT {short(found.version)}"
    if release(found.version) < OLDEST["tensorrt"]:
        text = f"{name} is older than {OLDEST_TEXT}, the oldest that htr-export works with"
        return [Finding("TensorRT", "problem", text, _install(around, "trt"))]
    library = f"libnvinfer.so.{release(found.version)[0]}"
    if not around.machine.has_library(library):
        kind = f"tensorrt-cu{found.cuda or 13}-libs"
        text = f"{name} is installed without {library}, which {kind} fetches from NVIDIA's own package index"
        cure = f"pip install --force-reinstall --no-cache-dir {kind}, where that index can be reached"
        return [Finding("TensorRT", "problem", text, cure)]
    opset = f"; it reads ONNX up to opset {OPSET_OF_OLDEST}" if release(found.version)[:2] == OLDEST["tensorrt"] else ""
    return [Finding("TensorRT", "ok", f"{name}{opset}")]


def _no_tensorrt(around: Surroundings) -> Finding:
    machine = around.machine
    if machine.has_library("libnvinfer.so.10") and machine.in_environment:
        text = "the system has TensorRT, but this Python environment does not see it"
        cure = "python3 -m venv --system-site-packages ENVIRONMENT"
        return Finding("TensorRT", "not there", text, cure)
    return Finding("TensorRT", "not there", "TensorRT is not installed", _install(around, "trt"))


def _install(around: Surroundings, extra: str) -> str | None:
    """Return the command that installs TensorRT or TensorRT-RTX where it would be of use."""
    if around.board is not None:
        return "sudo apt install python3-libnvinfer" if extra == "trt" else None
    if not around.has_gpu:
        return None
    return _for_cuda_12(extra) if around.nvidia.cuda == 12 else f"pip install 'htr-export[{extra}]'"  # noqa: PLR2004


def _for_cuda_12(extra: str) -> str:
    kind = "tensorrt-rtx" if extra == "rtx" else "tensorrt"
    return f"pip install {kind}-cu12 'cuda-python<13'"


def tensorrt_device_findings(around: Surroundings) -> list[Finding]:
    """Judge whether the TensorRT that is installed works with the GPU and the driver."""
    found = installed(around, BINDINGS)
    if found is None:
        return []
    name = f"TensorRT {short(found.version)}"
    if not around.has_gpu:
        return [Finding("TensorRT", "not there", f"{name} has no NVIDIA GPU to build for and to run on")]
    board = around.board
    if board is not None and release(found.version) >= (11,) and board.older_than(7, 2):
        text = f"{name} needs JetPack 7.2 or later, this is JetPack {board.jetpack}"
        return [Finding("TensorRT", "problem", text, f"pip uninstall -y {found.name}, and use the TensorRT of JetPack")]
    old = [capability for capability in around.capabilities if capability < TURING]
    if old and release(found.version)[:2] > LAST_WITH_VOLTA:
        text = f"{name} needs compute capability {dotted(TURING)} or more, this GPU has {dotted(min(old))}"
        return [Finding("TensorRT", "problem", text, f"pip install 'tensorrt-cu12=={OLDEST_TEXT}.*'")]
    older = f"pip uninstall -y {found.name} && {_for_cuda_12('trt')}"
    return around.too_new_for_driver("TensorRT", name, found.cuda, older)


def rtx_findings(around: Surroundings) -> list[Finding]:
    """Judge whether TensorRT-RTX is complete; it builds plans without a GPU."""
    found = installed(around, RTX_BINDINGS)
    if found is None:
        cure = _install(around, "rtx") if _rtx_supports(around) else None
        return [Finding("TensorRT-RTX", "not there", "TensorRT-RTX is not installed", cure)]
    library = f"libtensorrt_rtx.so.{release(found.version)[0]}"
    if not around.machine.has_library(library):
        text = f"TensorRT-RTX {short(found.version)} is installed without {library}"
        cure = f"pip install --force-reinstall tensorrt-rtx-cu{found.cuda or 13}"
        return [Finding("TensorRT-RTX", "problem", text, cure)]
    return [Finding("TensorRT-RTX", "ok", f"TensorRT-RTX {short(found.version)}, which builds plans without a GPU")]


def rtx_device_findings(around: Surroundings) -> list[Finding]:
    """Judge whether the TensorRT-RTX that is installed runs on the GPU and the driver."""
    found = installed(around, RTX_BINDINGS)
    if found is None:
        return []
    name = f"TensorRT-RTX {short(found.version)}"
    if not around.has_gpu:
        return [Finding("TensorRT-RTX", "not there", f"{name} has no NVIDIA GPU to run on")]
    if not _rtx_supports(around):
        here = ", ".join(dotted(capability) for capability in sorted(around.capabilities))
        text = f"{name} has no code for compute capability {here}; TensorRT has"
        return [Finding("TensorRT-RTX", "not there", text, _install(around, "trt"))]
    older = f"pip uninstall -y {found.name} && {_for_cuda_12('rtx')}"
    return around.too_new_for_driver("TensorRT-RTX", name, found.cuda, older)


def _rtx_supports(around: Surroundings) -> bool:
    """Return whether TensorRT-RTX supports a GPU of this machine; unknown GPUs are taken as supported."""
    known = around.capabilities
    return not known or any(found in RTX_CAPABILITIES or found >= BLACKWELL for found in known)


def memory_access_findings(around: Surroundings) -> list[Finding]:
    """Judge the access to CUDA memory, of use only beside TensorRT and a GPU."""
    if not around.has_gpu or not (installed(around, BINDINGS) or installed(around, RTX_BINDINGS)):
        return []
    cuda = around.machine.version("cuda-bindings", "cuda-python")
    pycuda = around.machine.version("pycuda")
    if cuda is None and pycuda is None:
        text = "neither cuda-python nor pycuda is installed, and plans need one of them"
        runs = around.nvidia.cuda
        wanted = f"'cuda-python>={runs},<{runs + 1}'" if runs else "cuda-python"
        if around.board is not None and around.board.generation == JETPACK_OF_EXTRA:
            wanted = "'htr-export[jetson]'"
        return [Finding("CUDA memory", "problem", text, f"pip install {wanted}")]
    if cuda is None:
        return [Finding("CUDA memory", "ok", f"pycuda {pycuda}")]
    older = f"pip install 'cuda-python<{release(cuda)[0]}'"
    wrong = around.too_new_for_driver("CUDA memory", f"cuda-python {short(cuda)}", release(cuda)[0], older)
    return wrong or [Finding("CUDA memory", "ok", f"cuda-python {short(cuda)}")]
