"""Opening the first NVIDIA GPU with whichever library for its memory is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.backends.tensorrt.cuda_python_memory import CudaPythonMemory
from htr_engines.backends.tensorrt.pycuda_memory import PycudaMemory
from htr_engines.errors import MissingExtraError
from htr_engines.host import Host

if TYPE_CHECKING:
    from htr_engines.backends.tensorrt.cuda_memory import CudaMemory


def open_cuda(extra: str) -> CudaMemory:
    """Open the GPU, with ``cuda-python`` if it is installed, else with ``pycuda``.

    Args:
        extra: of ``htr-export`` that installs one; on a Jetson it is always ``jetson``.

    Raises:
        MissingExtraError: if neither is installed.
        EngineError: if there is no GPU, or its driver does not answer.
    """
    for memory in (CudaPythonMemory, PycudaMemory):
        try:
            return memory()
        except ImportError:
            continue
    raise MissingExtraError("cuda", "jetson" if Host().jetson_release() else extra)
