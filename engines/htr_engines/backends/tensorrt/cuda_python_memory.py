"""CUDA memory through ``cuda-python``."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.tensorrt.cuda_memory import CudaDevice, cuda_failure, cuda_version
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class CudaPythonMemory:
    """Memory through ``cuda.bindings.runtime``."""

    library = "cuda-python"
    no_graphs: str | None = None

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._runtime: Any = runtime
        driver = self._call(runtime.cudaDriverGetVersion)
        if driver == 0:
            raise EngineError("there is no NVIDIA driver here; install it, or choose another engine")
        devices = self._call(runtime.cudaGetDeviceCount)
        if devices == 0:
            raise EngineError("there is no NVIDIA GPU here; check it with nvidia-smi, or choose another engine")
        attribute = runtime.cudaDeviceAttr
        major = self._call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self._call(runtime.cudaDeviceGetAttribute, attribute.cudaDevAttrComputeCapabilityMinor, 0)
        name = self._call(runtime.cudaGetDeviceProperties, 0).name
        self.device = CudaDevice(name.decode(), f"{major}.{minor}", cuda_version(driver), devices)
        self._stream = self._call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        self.stream = int(self._stream)

    def _call(self, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        error, *values = function(*arguments)
        if error != self._runtime.cudaError_t.cudaSuccess:
            _, text = self._runtime.cudaGetErrorString(error)
            self._runtime.cudaGetLastError()  # else the next call reports it again
            raise cuda_failure(function.__name__, text.decode())
        return values[0] if values else None

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes on the GPU and return their address."""
        return int(self._call(self._runtime.cudaMalloc, size))

    def free(self, address: int) -> None:
        """Free memory of the GPU."""
        self._call(self._runtime.cudaFree, address)

    def allocate_host(self, size: int) -> NDArray[np.uint8]:
        """Return ``size`` bytes of pinned host memory."""
        address = self._call(self._runtime.cudaMallocHost, size)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def free_host(self, array: NDArray[np.uint8]) -> None:
        """Free pinned memory."""
        self._call(self._runtime.cudaFreeHost, array.ctypes.data)

    def upload(self, address: int, host: NDArray[Any]) -> None:
        """Enqueue a copy to the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync, address, host.ctypes.data, host.nbytes, kind, self._stream)

    def download(self, host: NDArray[Any], address: int) -> None:
        """Enqueue a copy from the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._runtime.cudaMemcpyAsync, host.ctypes.data, address, host.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        self._call(self._runtime.cudaStreamSynchronize, self._stream)

    def capture(self, work: Callable[[], None]) -> object:
        """Capture what ``work`` enqueues as a CUDA graph, without running it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._runtime.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        except BaseException:
            with contextlib.suppress(EngineError):  # end the capture; the first error is raised
                self._call(self._runtime.cudaGraphDestroy, self._call(self._runtime.cudaStreamEndCapture, self._stream))
            raise
        graph = self._call(self._runtime.cudaStreamEndCapture, self._stream)
        try:
            return self._call(self._runtime.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(self._runtime.cudaGraphDestroy, graph)

    def launch(self, graph: object) -> None:
        """Enqueue a graph."""
        self._call(self._runtime.cudaGraphLaunch, graph, self._stream)

    def free_graph(self, graph: object) -> None:
        """Free a graph."""
        self._call(self._runtime.cudaGraphExecDestroy, graph)

    def close(self) -> None:
        """Destroy the stream."""
        self._call(self._runtime.cudaStreamDestroy, self._stream)
