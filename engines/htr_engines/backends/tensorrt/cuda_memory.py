"""The first NVIDIA GPU's memory and one stream on it, through ``cuda-python`` or, on older Jetsons, ``pycuda``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CudaDevice:
    """The GPU in use: the first one that ``CUDA_VISIBLE_DEVICES`` leaves."""

    name: str  # such as "NVIDIA H100 80GB HBM3"
    compute_capability: str  # such as "9.0"
    driver_cuda: str  # the latest CUDA that the driver supports, such as "13.0"
    devices: int  # in the machine


class CudaMemory(Protocol):
    """Memory of a GPU and one stream on it. Not thread-safe.

    Work on the stream runs in order and asynchronously: until :meth:`synchronize` returns, host arrays that are being
    copied may be neither read nor written. Every method raises EngineError with CUDA's own reason.
    """

    library: str  # "cuda-python" or "pycuda"
    device: CudaDevice
    stream: int  # the handle that TensorRT takes
    no_graphs: str | None  # why work cannot be captured as a CUDA graph; None if it can

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes on the GPU and return their address."""
        ...

    def free(self, address: int) -> None:
        """Free memory of the GPU."""
        ...

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of pinned host memory, which asynchronous copies need."""
        ...

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Free pinned memory, given the array that was returned and not a view of it."""
        ...

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Enqueue a copy to the GPU."""
        ...

    def download(self, host: NDArray[Any], address: int) -> None:
        """Enqueue a copy from the GPU."""
        ...

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        ...

    def capture(self, work: Callable[[], None]) -> object:
        """Capture what ``work`` enqueues as a CUDA graph, without running it."""
        ...

    def launch(self, graph: object) -> None:
        """Enqueue a graph."""
        ...

    def free_graph(self, graph: object) -> None:
        """Free a graph."""
        ...

    def close(self) -> None:
        """Destroy the stream; memory must have been freed before."""
        ...


def cuda_failure(call: str, reason: str) -> EngineError:
    """Return the error for a call that failed."""
    return EngineError(f"CUDA's {call} failed: {reason}; check the driver and the GPU's memory with nvidia-smi")


def cuda_version(number: int) -> str:
    """Return ``13.0`` for 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"
