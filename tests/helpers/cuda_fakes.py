"""An NVIDIA GPU that is not there, with the two libraries through which its memory is reached.

Its memory is host memory that only copies reach. Nothing that is queued happens before the stream is synchronised, so
that a result read too early is wrong. What would corrupt memory on a GPU fails an assertion here: addresses that were
freed or are too small, copies from memory that is not pinned, memory freed while work is queued.
"""
# ruff: noqa: N802 - functions are called as CUDA's are

from __future__ import annotations

import ctypes
import enum
import functools
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_ADDRESS = 0x7F00_0000_0000
STREAM = 0xABC0


@dataclass(eq=False)
class Graph:
    """Captured work, and the contexts that must not change while it lives."""

    work: list[Callable[[], None]]
    contexts: list[Any] = field(default_factory=list)


class Gpu:
    """The device and its one stream."""

    def __init__(self) -> None:
        self.name = "Fake GPU"
        self.capability = (8, 6)
        self.devices = 1
        self.driver = 13000
        self.failing: dict[str, int] = {}  # function -> after how many more calls it fails once
        self.memory: dict[int, np.ndarray] = {}
        self.pinned: dict[int, Any] = {}
        self.graphs: list[Graph] = []
        self.streams = self.contexts = 0  # alive
        self.captures = self.launches = self.allocations = 0  # so far
        self.capturing: Graph | None = None
        self.last_input: np.ndarray | None = None  # of an engine
        self._next = FIRST_ADDRESS
        self._queue: list[Callable[[], None]] = []

    def leaks(self) -> dict[str, int]:
        held = {
            "device": len(self.memory),
            "pinned": len(self.pinned),
            "streams": self.streams,
            "graphs": len(self.graphs),
            "contexts": self.contexts,
        }
        return {name: count for name, count in held.items() if count}

    def fails(self, function: str) -> bool:
        """Tell whether a call is the one that was asked to fail."""
        if function not in self.failing:
            return False
        self.failing[function] -= 1
        if self.failing[function] >= 0:
            return False
        del self.failing[function]
        return True

    def allocate(self, size: int) -> int:
        assert size > 0
        assert self.capturing is None, "memory allocated while a graph is captured"
        address, self._next = self._next, self._next + (size + 511) // 256 * 256
        self.memory[address] = np.full(size, 0xAA, np.uint8)
        self.allocations += 1
        return address

    def free(self, address: int) -> None:
        self.synchronize()  # as cudaFree does
        assert address in self.memory, "freed twice, or never allocated"
        del self.memory[address]

    def allocate_host(self, size: int) -> int:
        block = (ctypes.c_uint8 * size)()
        self.pinned[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free_host(self, address: int) -> None:
        assert not self._queue, "pinned memory freed while work is queued"
        del self.pinned[address]

    def at(self, address: int, size: int) -> np.ndarray:
        assert address in self.memory, "use of device memory that is not allocated"
        assert size <= self.memory[address].nbytes, "beyond the end of device memory"
        return self.memory[address][:size]

    def host(self, address: int, size: int) -> np.ndarray:
        fits = [base for base, block in self.pinned.items() if base <= address and address + size <= base + len(block)]
        assert fits, "a copy from or to memory that is not pinned"
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def enqueue(self, work: Callable[[], None]) -> None:
        (self._queue if self.capturing is None else self.capturing.work).append(work)

    def copy_in(self, address: int, host: int, size: int) -> None:
        self.enqueue(lambda: np.copyto(self.at(address, size), self.host(host, size)))

    def copy_out(self, host: int, address: int, size: int) -> None:
        self.enqueue(lambda: np.copyto(self.host(host, size), self.at(address, size)))

    def synchronize(self) -> None:
        assert self.capturing is None, "synchronised while a graph is captured"
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def end_capture(self) -> Graph:
        assert self.capturing is not None
        graph, self.capturing = self.capturing, None
        self.captures += 1
        return graph

    def launch(self, graph: Graph) -> None:
        assert graph in self.graphs, "a graph launched after it was destroyed"
        self.launches += 1
        self._queue.extend(graph.work)

    def destroy_graph(self, graph: Graph) -> None:
        self.graphs.remove(graph)
        for context in graph.contexts:
            context.frozen = False


class CudaError(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


def answers(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give an error and the values, as every function of ``cuda.bindings.runtime`` does."""

    @functools.wraps(function)
    def called(self: CudaRuntime, *arguments: object) -> tuple[Any, ...]:
        if self.gpu.fails(function.__name__):
            return (CudaError.cudaErrorMemoryAllocation, None)
        result = function(self, *arguments)
        return (CudaError.cudaSuccess,) if result is None else (CudaError.cudaSuccess, result)

    return called


class CudaRuntime:
    """The part of ``cuda.bindings.runtime`` that is used."""

    cudaError_t = CudaError
    cudaStreamNonBlocking = 1
    cudaDeviceAttr = types.SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )
    cudaMemcpyKind = types.SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def cudaGetLastError(self) -> tuple[CudaError]:
        return (CudaError.cudaSuccess,)

    def cudaGetErrorString(self, error: CudaError) -> tuple[CudaError, bytes]:
        return CudaError.cudaSuccess, {CudaError.cudaErrorMemoryAllocation: b"out of memory"}[error]

    @answers
    def cudaGetDeviceCount(self) -> int:
        return self.gpu.devices

    @answers
    def cudaDeviceGetAttribute(self, attr: str, device: int) -> int:
        assert device == 0
        return self.gpu.capability[attr == "minor"]

    @answers
    def cudaGetDeviceProperties(self, device: int) -> types.SimpleNamespace:
        assert device == 0
        return types.SimpleNamespace(name=self.gpu.name.encode())

    @answers
    def cudaDriverGetVersion(self) -> int:
        return self.gpu.driver

    @answers
    def cudaStreamCreateWithFlags(self, flags: int) -> int:
        assert flags == 1
        self.gpu.streams += 1
        return STREAM

    @answers
    def cudaStreamDestroy(self, stream: int) -> None:
        assert stream == STREAM
        self.gpu.streams -= 1

    @answers
    def cudaStreamSynchronize(self, stream: int) -> None:
        assert stream == STREAM
        self.gpu.synchronize()

    @answers
    def cudaMalloc(self, size: int) -> int:
        return self.gpu.allocate(size)

    @answers
    def cudaFree(self, address: int) -> None:
        self.gpu.free(address)

    @answers
    def cudaMallocHost(self, size: int) -> int:
        return self.gpu.allocate_host(size)

    @answers
    def cudaFreeHost(self, address: int) -> None:
        self.gpu.free_host(address)

    @answers
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: str, stream: int) -> None:
        assert stream == STREAM
        {"in": self.gpu.copy_in, "out": self.gpu.copy_out}[kind](dst, src, count)

    @answers
    def cudaStreamBeginCapture(self, stream: int, mode: str) -> None:
        assert (stream, mode) == (STREAM, "thread")
        self.gpu.capturing = Graph([])

    @answers
    def cudaStreamEndCapture(self, stream: int) -> Graph:
        assert stream == STREAM
        return self.gpu.end_capture()

    @answers
    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> Graph:
        assert flags == 0
        self.gpu.graphs.append(graph)
        return graph

    @answers
    def cudaGraphDestroy(self, graph: Graph) -> None:
        assert isinstance(graph, Graph)

    @answers
    def cudaGraphExecDestroy(self, graph_exec: Graph) -> None:
        self.gpu.destroy_graph(graph_exec)

    @answers
    def cudaGraphLaunch(self, graph_exec: Graph, stream: int) -> None:
        assert stream == STREAM
        self.gpu.launch(graph_exec)


class PycudaError(Exception):
    """``pycuda.driver.Error``."""


class Allocation:
    """``pycuda.driver.DeviceAllocation``."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        if gpu.fails("mem_alloc"):
            raise PycudaError("cuMemAlloc failed: out of memory")
        self._gpu, self._address = gpu, gpu.allocate(size)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._gpu.free(self._address)


class Pinned:
    """``pycuda.driver.PagelockedHostAllocation``, the base of a pinned array."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self._gpu, self._address = gpu, gpu.allocate_host(size)
        self.__array_interface__ = {"data": (self._address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def free(self) -> None:
        self._gpu.free_host(self._address)


class PycudaDriver:
    """The part of ``pycuda.driver`` that is used."""

    Error = PycudaError

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.current = 0  # contexts pushed

    def init(self) -> None:
        pass

    def get_driver_version(self) -> int:
        return 12060

    @property
    def Device(self) -> Any:
        device = types.SimpleNamespace(
            name=lambda: self.gpu.name,
            compute_capability=lambda: self.gpu.capability,
            retain_primary_context=lambda: types.SimpleNamespace(push=self._push, pop=self._pop),
        )
        found = functools.partial({0: device}.__getitem__)
        found.count = lambda: self.gpu.devices
        return found

    def _push(self) -> None:
        self.current += 1

    def _pop(self) -> None:
        self.current -= 1

    def Stream(self) -> types.SimpleNamespace:
        assert self.current == 1, "a stream needs a context"
        return types.SimpleNamespace(handle=STREAM, synchronize=self.gpu.synchronize)

    def mem_alloc(self, bytes: int) -> Allocation:  # noqa: A002
        return Allocation(self.gpu, bytes)

    def pagelocked_empty(self, shape: int, dtype: type) -> np.ndarray:
        assert dtype is np.uint8
        return np.asarray(Pinned(self.gpu, shape))

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: types.SimpleNamespace) -> None:
        assert stream.handle == STREAM
        self.gpu.copy_in(dest, src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: types.SimpleNamespace) -> None:
        assert stream.handle == STREAM
        self.gpu.copy_out(dest.ctypes.data, src, dest.nbytes)
