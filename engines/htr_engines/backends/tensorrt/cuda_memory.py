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
    """Memory of a GPU, and the stream in which all its work is queued. For one thread.

    What is queued runs in order, and is done only after :meth:`synchronize`: until then host arrays that take part
    in a copy may neither be read nor changed. Every method raises EngineError with CUDA's own reason.
    """

    library: str  # that gives access
    device: CudaDevice
    stream: int  # the handle that TensorRT takes
    no_graphs: str | None  # why work cannot be captured; None if it can

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes on the GPU."""
        ...

    def free(self, address: int) -> None:
        """Give memory of the GPU back."""
        ...

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of pinned host memory, which copies need to run on their own."""
        ...

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Give pinned memory back: the array that was returned, no view of it."""
        ...

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Queue a copy to the GPU."""
        ...

    def download(self, host: NDArray[Any], address: int) -> None:
        """Queue a copy from the GPU."""
        ...

    def synchronize(self) -> None:
        """Wait until all that is queued is done."""
        ...

    def capture(self, work: Callable[[], None]) -> object:
        """Return what ``work`` queues as a graph, without running it."""
        ...

    def launch(self, graph: object) -> None:
        """Queue all that a graph holds."""
        ...

    def free_graph(self, graph: object) -> None:
        """Give a graph back."""
        ...

    def close(self) -> None:
        """Give the stream back; what was allocated must have been freed before."""
        ...


def cuda_failure(call: str, reason: str) -> EngineError:
    """Return the error for a call that failed."""
    return EngineError(f"CUDA's {call} failed: {reason}; look at the driver and the GPU's memory with nvidia-smi")


def cuda_version(number: int) -> str:
    """Return ``13.0`` for 13000."""
    return f"{number // 1000}.{number % 1000 // 10}"
