"""Execution contexts of TensorRT and TensorRT-RTX, which differ in how they are created and in who captures graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from htr_engines.backends.tensorrt.rtx_cache import cache_path, load_cache, save_cache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from htr_engines.backends.tensorrt.cuda_memory import CudaMemory
    from htr_engines.backends.tensorrt.profiles import SubBatch


class Contexts(Protocol):
    """Makes the contexts of one engine."""

    no_graphs: str | None  # why its work is not captured as CUDA graphs; None if it is

    def key(self, sub_batch: SubBatch) -> Hashable:
        """Return the key of a sub-batch's context: sub-batches of equal keys run in the same one."""
        ...

    def create(self) -> Any:  # noqa: ANN401 - an IExecutionContext
        """Return a new context."""
        ...

    def close(self) -> None:
        """Free what the contexts share; they must have been deleted before."""
        ...


class TensorRtContexts:
    """One context for each shape, as NVIDIA requires for captured graphs; all use the same activation memory.

    A captured graph holds the state of its context, which must not change afterwards. Only one context runs at a time,
    so they can share the memory of their activations.
    """

    def __init__(self, trt: Any, engine: Any, cuda: CudaMemory) -> None:  # noqa: ANN401
        self.no_graphs = cuda.no_graphs
        self._trt, self._engine, self._cuda = trt, engine, cuda
        self._size = max(1, int(engine.device_memory_size_v2))
        self._address = cuda.allocate(self._size)

    def key(self, sub_batch: SubBatch) -> Hashable:
        """Return the key of a sub-batch's context."""
        return sub_batch.profile, sub_batch.shape

    def create(self) -> Any:  # noqa: ANN401
        """Return a new context, or None if there is no memory for it."""
        context = self._engine.create_execution_context(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is not None:
            context.set_device_memory(self._address, self._size)
        return context

    def close(self) -> None:
        """Free what the contexts share."""
        self._cuda.free(self._address)


class RtxContexts:
    """One context for each profile. TensorRT-RTX captures graphs on its own.

    For a new shape it runs generic kernels until specialised ones are compiled, so only it knows when to capture: a
    graph captured from outside would keep the generic kernels. Compiled kernels are cached on disk.
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

    def key(self, sub_batch: SubBatch) -> Hashable:
        """Return the key of a sub-batch's context."""
        return sub_batch.profile

    def create(self) -> Any:  # noqa: ANN401
        """Return a new context, or None if there is no memory for it."""
        return self._engine.create_execution_context(self._config)

    def close(self) -> None:
        """Free what the contexts share."""
        save_cache(self._cache, self._path, self._loaded)
        del self._config, self._cache
