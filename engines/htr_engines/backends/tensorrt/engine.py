"""TensorRT and TensorRT-RTX on an NVIDIA GPU: plans that ``htr-export trt`` built."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import Closeable, EngineInfo
from htr_engines.backends.tensorrt.contexts import Contexts, RtxContexts, TensorRtContexts
from htr_engines.backends.tensorrt.cuda import open_cuda
from htr_engines.backends.tensorrt.cuda_buffer import CudaBuffer
from htr_engines.backends.tensorrt.library import EXTRAS, last_error, load_tensorrt, logger_of
from htr_engines.backends.tensorrt.profiles import SubBatch, split_batch
from htr_engines.backends.tensorrt.sidecar import Profile, check_fits, read_sidecar
from htr_engines.errors import EngineError
from htr_engines.host import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from htr_engines.backends.base import ModelFile
    from htr_engines.backends.tensorrt.library import Runtime
    from htr_engines.backends.tensorrt.sidecar import PlanSidecar

MAX_CONTEXTS = 8  # kept at a time, each with its graph; the one not used for longest goes first
OPEN_AXIS = -1
_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    """A context with its graph once there is one."""

    context: Any
    runs: int = 0  # since its shape and its buffers were set
    graph: object | None = None


class TensorRtEngine(Closeable):
    """A deserialised plan with its buffers. Not thread-safe.

    Host and device buffers are allocated once, grow with the largest batch and never shrink. From the second run of
    a shape on, the copies and kernels are launched together as a CUDA graph. How batches outside the
    plan's profiles are split or padded is described in :mod:`htr_engines.backends.tensorrt.profiles`.

    Raises:
        MissingExtraError: if the runtime or the access to CUDA memory is not installed.
        EngineError: if the plan does not fit the runtime, the GPU or its sidecar.
    """

    no_graphs: str | None  # why no CUDA graphs are captured here; None if they are

    def __init__(self, plan: ModelFile, threads: int, runtime: Runtime) -> None:
        sidecar = read_sidecar(plan.path, plan.sidecar)
        trt = load_tensorrt(runtime)
        before = resident_bytes()
        with ExitStack() as stack:
            self._open(stack, trt, plan, sidecar, runtime)
            self._resources = stack.pop_all()
        self.info = EngineInfo(
            engine=runtime,
            device="cuda:0",
            version=trt.__version__,
            threads=threads,
            input=sidecar.input,
            output=sidecar.output,
            memory_bytes=max(0, resident_bytes() - before),
            metadata={**sidecar.metadata, "precision": sidecar.precision},
        )

    def _open(self, stack: ExitStack, trt: Any, plan: ModelFile, sidecar: PlanSidecar, runtime: Runtime) -> None:  # noqa: ANN401
        """Open all that the engine needs; the stack closes it in reverse order."""
        self._cuda = open_cuda(EXTRAS[runtime])
        stack.callback(self._cuda.close)
        capability = self._cuda.device.compute_capability
        content = plan.content
        check_fits(
            sidecar,
            plan.path,
            content=content,
            runtime=runtime,
            version=trt.__version__,
            compute_capability=capability,
        )
        self._trt = trt
        self._runtime = trt.Runtime(logger_of(trt))  # has to outlive the engine
        self._engine = _deserialize(trt, self._runtime, content, sidecar, plan)
        stack.callback(self._drop_engine)
        _check_tensors(trt, self._engine, sidecar, plan)
        self._names = sidecar.input.name, sidecar.output.name
        self._profiles = _profiles(self._engine, sidecar.input.name)
        self._contexts: Contexts = (
            RtxContexts(trt, self._engine, self._cuda, sidecar.plan_sha256)
            if runtime == "tensorrt-rtx"
            else TensorRtContexts(trt, self._engine, self._cuda)
        )
        stack.callback(self._contexts.close)
        self.no_graphs = self._contexts.no_graphs
        self._input, self._output = CudaBuffer(self._cuda), CudaBuffer(self._cuda)
        stack.callback(self._input.close)
        stack.callback(self._output.close)
        self._slots: OrderedDict[Hashable, _Slot] = OrderedDict()
        stack.callback(self._drop_slots)

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C].

        Batches of any size are taken; widths only as the plan's profiles allow.
        """
        if image_N1HW.dtype != np.float32:
            raise EngineError(f"the engine takes float32, not {image_N1HW.dtype}; divide grey values by 255")
        done, results = 0, []
        for sub_batch in split_batch(self._profiles, image_N1HW.shape):
            results.append(self._run(sub_batch, image_N1HW[done : done + sub_batch.lines]))
            done += sub_batch.lines
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _run(self, sub_batch: SubBatch, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        slot = self._slot(sub_batch)
        if slot.graph is None:  # the context of a captured graph must stay as it is
            self._bind(slot, sub_batch)
        input_N1HW = self._input.view(sub_batch.shape)
        output_NTC = self._output.view(self._output_shape(slot.context))
        input_N1HW[: sub_batch.lines] = image_N1HW
        input_N1HW[sub_batch.lines :] = 1.0
        if slot.graph is None and slot.runs and self.no_graphs is None:
            self._capture(slot, input_N1HW, output_NTC)
        if slot.graph is not None:
            self._cuda.launch(slot.graph)
        else:
            self._enqueue(slot, input_N1HW, output_NTC)
        self._cuda.synchronize()
        slot.runs += 1
        return output_NTC[: sub_batch.lines].copy()

    def _slot(self, sub_batch: SubBatch) -> _Slot:
        """Return the context for a sub-batch, a new one if it has none."""
        key = self._contexts.key(sub_batch)
        if key not in self._slots:
            if len(self._slots) == MAX_CONTEXTS:
                self._drop(self._slots.popitem(last=False)[1])
            self._slots[key] = _Slot(self._new_context(sub_batch.profile))
        self._slots.move_to_end(key)
        return self._slots[key]

    def _new_context(self, profile: int) -> Any:  # noqa: ANN401
        context = self._contexts.create()
        if context is None:
            raise EngineError(f"TensorRT cannot prepare another shape ({last_error(self._trt)}); give smaller batches")
        self._must(context.set_optimization_profile_async(profile, self._cuda.stream), f"profile {profile}")
        self._cuda.synchronize()
        return context

    def _bind(self, slot: _Slot, sub_batch: SubBatch) -> None:
        """Set a context's shape and buffers, growing them if needed."""
        input_name, output_name = self._names
        self._must(slot.context.set_input_shape(input_name, sub_batch.shape), f"the shape {list(sub_batch.shape)}")
        output_shape = self._output_shape(slot.context)
        if not (self._input.holds(sub_batch.shape) and self._output.holds(output_shape)):
            self._drop_graphs()  # they hold the addresses
            self._input.grow(sub_batch.shape)
            self._output.grow(output_shape)
        self._must(slot.context.set_tensor_address(input_name, self._input.address), f"the buffer of {input_name}")
        self._must(slot.context.set_tensor_address(output_name, self._output.address), f"the buffer of {output_name}")

    def _output_shape(self, context: Any) -> tuple[int, ...]:  # noqa: ANN401
        return tuple(context.get_tensor_shape(self._names[1]))

    def _enqueue(self, slot: _Slot, input_N1HW: NDArray[np.float32], output_NTC: NDArray[np.float32]) -> None:
        self._cuda.upload(self._input.address, input_N1HW)
        self._must(slot.context.execute_async_v3(self._cuda.stream), f"to run {list(input_N1HW.shape)}")
        self._cuda.download(output_NTC, self._output.address)

    def _must(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise EngineError(f"TensorRT refused {what}: {last_error(self._trt)}; build the plan again on this machine")

    def _capture(self, slot: _Slot, input_N1HW: NDArray[np.float32], output_NTC: NDArray[np.float32]) -> None:
        """Capture a graph, on the second run of a shape as TensorRT requires; if that fails, go on without graphs."""
        try:
            slot.graph = self._cuda.capture(lambda: self._enqueue(slot, input_N1HW, output_NTC))
        except EngineError as error:
            self.no_graphs = str(error)
            _log.warning("CUDA graphs are off: %s", error)

    def _drop(self, slot: _Slot) -> None:
        if slot.graph is not None:
            self._cuda.free_graph(slot.graph)
        slot.graph = slot.context = None

    def _drop_graphs(self) -> None:
        for slot in self._slots.values():
            if slot.graph is not None:
                self._cuda.free_graph(slot.graph)
            slot.graph, slot.runs = None, 0

    def _drop_slots(self) -> None:
        while self._slots:
            self._drop(self._slots.popitem()[1])

    def _drop_engine(self) -> None:
        self._engine = self._runtime = None

    def close(self) -> None:
        """Free everything on the GPU; a second call does nothing."""
        self._resources.close()


def _deserialize(trt: Any, runtime: Any, content: bytes, sidecar: PlanSidecar, plan: ModelFile) -> Any:  # noqa: ANN401
    if sidecar.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan brings the code of its own runtime
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(f"TensorRT cannot read {plan}: {last_error(trt)}; build it again: {sidecar.command}")
    return engine


def _check_tensors(trt: Any, engine: Any, sidecar: PlanSidecar, plan: ModelFile) -> None:  # noqa: ANN401
    """Refuse an engine whose tensors are not what its sidecar says, or not float32."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    if sorted(names) != sorted([sidecar.input.name, sidecar.output.name]):
        raise EngineError(f"{plan} has the tensors {', '.join(names)}; a line model has one input and one output")
    if wrong := [name for name in names if engine.get_tensor_dtype(name) != trt.DataType.FLOAT]:
        raise EngineError(f"{plan} does not take and give float32 ({wrong[0]}); build it with 'htr-export trt'")


def _profiles(engine: Any, name: str) -> list[Profile]:  # noqa: ANN401
    shape = tuple(engine.get_tensor_shape(name))
    if OPEN_AXIS not in shape:  # then profiles add nothing
        return [Profile(shape, shape, shape)]
    indices = range(engine.num_optimization_profiles)
    return [Profile(*(tuple(shape) for shape in engine.get_tensor_profile_shape(name, index))) for index in indices]
