"""CUDA memory through ``pycuda``, the fallback where ``cuda-python`` is missing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.tensorrt.cuda_memory import CudaDevice, cuda_failure, cuda_version
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


class PycudaMemory:
    """Memory through ``pycuda.driver``, which JetPack 6 users have."""

    library = "pycuda"
    no_graphs: str | None = "pycuda has no CUDA graphs; install cuda-python for them"

    def __init__(self) -> None:
        from pycuda import driver

        self._driver: Any = driver
        with self._named("cuInit"):
            driver.init()
            devices = driver.Device.count()
        if devices == 0:
            raise EngineError("there is no NVIDIA GPU here; check it with nvidia-smi, or choose another engine")
        with self._named("cuDevicePrimaryCtxRetain"):
            first = driver.Device(0)
            major, minor = first.compute_capability()
            version = cuda_version(driver.get_driver_version())
            self.device = CudaDevice(first.name(), f"{major}.{minor}", version, devices)
            self._context = first.retain_primary_context()  # TensorRT works in this one
            self._context.push()
            self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self._allocations: dict[int, Any] = {}

    @contextlib.contextmanager
    def _named(self, call: str) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            raise cuda_failure(call, str(error)) from None

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes on the GPU and return their address."""
        with self._named("cuMemAlloc"):
            allocation = self._driver.mem_alloc(size)
        self._allocations[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """Free memory of the GPU."""
        with self._named("cuMemFree"):
            self._allocations.pop(address).free()

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of pinned host memory."""
        with self._named("cuMemHostAlloc"):
            array: NDArray[np.uint8] = self._driver.pagelocked_empty(size, np.uint8)
        return array

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Free pinned memory."""
        with self._named("cuMemFreeHost"):
            array.base.free()  # type: ignore[union-attr]

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Enqueue a copy to the GPU."""
        with self._named("cuMemcpyHtoDAsync"):
            self._driver.memcpy_htod_async(address, host, self._stream)

    def download(self, host: NDArray[Any], address: int) -> None:
        """Enqueue a copy from the GPU."""
        with self._named("cuMemcpyDtoHAsync"):
            self._driver.memcpy_dtoh_async(host, address, self._stream)

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        with self._named("cuStreamSynchronize"):
            self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> object:  # noqa: ARG002
        """Raise: pycuda has no CUDA graphs."""
        raise EngineError(str(self.no_graphs))

    def launch(self, graph: object) -> None:  # noqa: ARG002
        """Raise: pycuda has no CUDA graphs."""
        raise EngineError(str(self.no_graphs))

    def free_graph(self, graph: object) -> None:  # noqa: ARG002
        """Raise: pycuda has no CUDA graphs."""
        raise EngineError(str(self.no_graphs))

    def close(self) -> None:
        """Destroy the stream."""
        with self._named("cuCtxPopCurrent"):
            del self._stream
            self._context.pop()
