"""What every engine is to the rest of the code, and how one is opened.

Tensor names end in their axes: N batch, 1 grey channel, H height, W width, T frames, C classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self

ONNX_ENGINES = ("onnxruntime", "openvino", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
PLAN_ENGINES = ("tensorrt", "tensorrt-rtx")
ENGINES = (*ONNX_ENGINES, *PLAN_ENGINES)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output. A name in place of a number is an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class EngineInfo:
    """Facts of an open engine."""

    engine: str  # one of ENGINES, or "torch"
    device: str  # "cpu" or "cuda:0"
    version: str  # of the library that runs it
    threads: int  # on the CPU
    input: TensorInfo
    output: TensorInfo
    memory_bytes: int  # by which the process grew when the engine was opened
    metadata: Mapping[str, str] = field(default_factory=dict)  # that the model file carries


class Engine(Protocol):
    """A network that is ready to run. Opened by its constructor, closed by leaving its ``with`` block."""

    @property
    def info(self) -> EngineInfo:
        """Facts of the engine."""
        ...

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it may not be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosesOnExit:
    """The ``with`` protocol for classes that have ``close``."""

    def close(self) -> None:
        """Give back what the object holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_engine(model: Path, engine: str = "onnxruntime", threads: int | None = None) -> Engine:
    """Open a model file with the engine asked for, and with no other.

    Args:
        model: an ONNX file, or for TensorRT a plan.
        engine: one of :data:`ENGINES`.
        threads: CPU threads; by default all physical cores.

    Raises:
        MissingExtraError: if the engine is not installed.
        EngineError: if the file or the device does not serve it.
    """
    if not model.is_file():
        raise EngineError(f"{model} does not exist; give a model file")
    if threads is not None and threads < 1:
        raise EngineError(f"threads should be at least 1, not {threads}")
    if engine not in ENGINES:
        raise EngineError(f"no engine is called {engine!r}; choose one of {', '.join(ENGINES)}")
    threads = threads or physical_cores()
    if engine in PLAN_ENGINES:
        from htr_engines.backends.tensorrt.engine import TensorRtEngine

        return TensorRtEngine(model, engine, threads)
    if engine == "openvino":
        from htr_engines.backends.openvino import OpenVinoEngine

        return OpenVinoEngine(model, threads)
    from htr_engines.backends.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, engine, threads)


def infer_lines(engine: Engine, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run any number of lines: a model of fixed batch gets them in its portions, the last one filled up with white."""
    batch, width = engine.info.input.shape[0], engine.info.input.shape[3]
    if isinstance(width, int) and width != image_N1HW.shape[3]:
        raise EngineError(
            f"the model takes lines of {width} pixels, these have {image_N1HW.shape[3]}; export it with that width"
        )
    lines = len(image_N1HW)
    if not isinstance(batch, int) or batch == lines:
        return engine.infer(image_N1HW)
    missing = -lines % batch
    filler = np.ones((missing, *image_N1HW.shape[1:]), np.float32)
    portions = np.split(np.concatenate([image_N1HW, filler]), (lines + missing) // batch)
    return np.concatenate([engine.infer(portion) for portion in portions])[:lines]


def physical_cores() -> int:
    """Return how many physical cores this process may use."""
    logical = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in logical:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text(encoding="ascii") if siblings.exists() else str(cpu))
    return max(1, len(cores))


def resident_bytes() -> int:
    """Return the memory that this process holds now, 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0
