"""Execution contexts of TensorRT and TensorRT-RTX, which differ in how they are made and in who captures graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from htr_engines.backends.tensorrt.rtx_cache import cache_path, load_cache, save_cache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from htr_engines.backends.tensorrt.cuda_memory import CudaMemory
    from htr_engines.backends.tensorrt.profiles import Portion


class Contexts(Protocol):
    """Makes the contexts of one engine."""

    no_graphs: str | None  # why its work is not to be captured; None if it is

    def key(self, portion: Portion) -> Hashable:
        """Return what a portion shares its context with: portions of equal keys run in the same one."""
        ...

    def create(self) -> Any:  # noqa: ANN401 - an IExecutionContext
        """Return a new context."""
        ...

    def close(self) -> None:
        """Give back what the contexts share; they must be gone."""
        ...


class TensorRtContexts:
    """One context for each shape, as NVIDIA asks for where graphs are captured; all work in the same memory.

    A captured graph holds the state of its context, which must then not be changed. Only one context runs at a time,
    so they can share the memory of their activations.
    """

    def __init__(self, trt: Any, engine: Any, cuda: CudaMemory) -> None:  # noqa: ANN401
        self.no_graphs = cuda.no_graphs
        self._trt, self._engine, self._cuda = trt, engine, cuda
        self._size = max(1, int(engine.device_memory_size_v2))
        self._address = cuda.allocate(self._size)

    def key(self, portion: Portion) -> Hashable:
        """Return what a portion shares its context with."""
        return portion.profile, portion.shape

    def create(self) -> Any:  # noqa: ANN401
        """Return a new context, or None if there is no memory for it."""
        context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None:
            context.set_device_memory(self._address, self._size)
        return context

    def close(self) -> None:
        """Give back what the contexts share."""
        self._cuda.free(self._address)


class RtxContexts:
    """One context for each profile. TensorRT-RTX captures graphs on its own.

    For a new shape it first runs general kernels while it compiles special ones, so only it knows when capturing is
    worth while: a graph captured from outside would hold the general kernels for good. What it compiles is kept on
    disk.
    """

    no_graphs: str | None = "TensorRT-RTX captures its own"

    def __init__(self, rtx: Any, engine: Any, cuda: CudaMemory, plan_sha256: str) -> None:  # noqa: ANN401
        self._engine = engine
        self._config = engine.create_runtime_config()
        self._config.cuda_graph_strategy = rtx.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self._config.create_runtime_cache()
        self._path = cache_path(plan_sha256, rtx.__version__, cuda.device)
        self._loaded = load_cache(self._cache, self._path)
        self._config.set_runtime_cache(self._cache)

    def key(self, portion: Portion) -> Hashable:
        """Return what a portion shares its context with."""
        return portion.profile

    def create(self) -> Any:  # noqa: ANN401
        """Return a new context, or None if there is no memory for it."""
        return self._engine.create_execution_context(self._config)

    def close(self) -> None:
        """Give back what the contexts share."""
        save_cache(self._cache, self._path, self._loaded)
        del self._config, self._cache
