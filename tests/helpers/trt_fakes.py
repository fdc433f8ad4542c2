"""TensorRT and TensorRT-RTX on the GPU of :mod:`cuda_fakes`, computing with ONNX Runtime on the CPU.

They are as strict as the real ones are forgiving: shapes outside the profile, addresses that are missing and a context
that is changed while a captured graph holds it fail an assertion.
"""

from __future__ import annotations

import enum
import json
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from helpers.cuda_fakes import STREAM, CudaRuntime, Gpu, PycudaDriver
from htr_engines.backends.base import TensorInfo
from htr_engines.backends.tensorrt.sidecar import PlanSidecar, Profile, write_sidecar
from htr_engines.files import sha256_of

if TYPE_CHECKING:
    from pathlib import Path


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class Strategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 2


class GraphStrategy(enum.Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class Logger:
    """``ILogger``: its subclasses have to call its constructor."""

    Severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    ERROR = Severity.ERROR

    def __init__(self) -> None:
        self.ready = True


class Context:
    """``IExecutionContext``."""

    def __init__(self, engine: Engine, strategy: Strategy) -> None:
        self._engine, self._gpu, self._strategy = engine, engine.gpu, strategy
        self._gpu.contexts += 1
        self._profile: int | None = 0  # as TensorRT: the first one is chosen
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._ran = False  # since the shape was set: only then it can be captured
        self.frozen = False

    def __del__(self) -> None:
        self._gpu.contexts -= 1

    def _change(self) -> None:
        assert not self.frozen, "the context of a captured graph was changed"

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._strategy is Strategy.USER_MANAGED
        assert size >= self._engine.device_memory_size_v2
        self._memory = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        self._change()
        self._profile, self._shape = profile_index, None
        return profile_index < len(self._engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self._change()
        low, _, high = self._engine.profiles[self._profile]
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self._engine.complain("the shape lies outside the profile")
            return False
        if shape != self._shape:
            self._shape, self._ran = tuple(shape), False
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is None:
            return (-1, 1, 64, -1) if name == "image" else (-1, -1, self._engine.classes)
        return self._shape if name == "image" else (self._shape[0], self._shape[3] // 4, self._engine.classes)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name in {"image", "logits"}
        self._change()
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle == STREAM
        assert self._shape is not None, "no input shape"
        if self._strategy is Strategy.USER_MANAGED:
            self._gpu.at(*self._memory)
        given, made = self._addresses["image"], self._addresses["logits"]
        if self._gpu.capturing is not None:
            if self._engine.uncapturable or not self._ran:
                self._engine.complain("the work cannot be captured")
                return False
            self._gpu.capturing.contexts.append(self)
            self.frozen = True
        shape, output = self._shape, self.get_tensor_shape("logits")
        self._gpu.enqueue(lambda: self._engine.compute(given, shape, made, output))
        self._ran = True
        return True


class Engine:
    """``ICudaEngine``. A plan is JSON that names an ONNX file."""

    num_io_tensors = 2
    device_memory_size_v2 = 4096

    def __init__(self, gpu: Gpu, plan: dict[str, Any], logger: Logger) -> None:
        self.gpu, self._logger = gpu, logger
        self.profiles = plan["profiles"]
        self.uncapturable = plan.get("uncapturable", False)
        self._dtype = DataType[plan.get("dtype", "FLOAT")]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(plan["onnx"], options, providers=["CPUExecutionProvider"])
        self.classes = self._session.get_outputs()[0].shape[2]

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def complain(self, message: str) -> None:
        self._logger.log(Logger.ERROR, message)

    def get_tensor_name(self, index: int) -> str:
        return ["image", "logits"][index]

    def get_tensor_dtype(self, name: str) -> DataType:
        assert name in {"image", "logits"}
        return self._dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "image"
        axes = zip(*(shape for profile in self.profiles for shape in (profile[0], profile[2])), strict=True)
        return tuple(lengths[0] if len(set(lengths)) == 1 else -1 for lengths in axes)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert name == "image"
        assert -1 in self.get_tensor_shape(name), "a fixed shape has no profile"
        return self.profiles[profile_index]

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, how: Strategy | RuntimeConfig = Strategy.STATIC) -> Context:
        if isinstance(how, RuntimeConfig):
            assert how.cuda_graph_strategy is GraphStrategy.WHOLE_GRAPH_CAPTURE
            how.cache.kernels += b"k"
            return Context(self, Strategy.STATIC)
        return Context(self, how)

    def compute(self, given: int, shape: tuple[int, ...], made: int, output: tuple[int, ...]) -> None:
        image = self.gpu.at(given, 4 * int(np.prod(shape))).view(np.float32).reshape(shape)
        self.gpu.last_input = image.copy()
        logits = self._session.run(None, {"image": image})[0]
        assert logits.shape == output
        self.gpu.at(made, logits.nbytes)[:] = logits.reshape(-1).view(np.uint8)


class RuntimeCache:
    """``IRuntimeCache``: a letter for each kernel that had to be compiled."""

    HEADER = b"RTX:"

    def __init__(self) -> None:
        self.kernels = b""

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(self.HEADER):
            return False
        self.kernels = blob.removeprefix(self.HEADER)
        return True

    def serialize(self) -> memoryview:
        return memoryview(self.HEADER + self.kernels)


class RuntimeConfig:
    """``IRuntimeConfig``."""

    cuda_graph_strategy = GraphStrategy.DISABLED

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


def tensorrt(gpu: Gpu, version: str, *, rtx: bool = False) -> types.ModuleType:
    """Return the part of ``tensorrt`` or ``tensorrt_rtx`` that is used."""
    trt = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt")

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: Logger) -> None:
            assert logger.ready
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            try:
                plan = json.loads(serialized_engine)
            except ValueError:
                self._logger.log(Logger.ERROR, "the magic tag does not match\nmore")
                return None
            assert self.engine_host_code_allowed == plan.get("version_compatible", False)
            return Engine(gpu, plan, self._logger)

    trt.__version__, trt.Runtime, trt.ILogger, trt.DataType = version, Runtime, Logger, DataType
    trt.ExecutionContextAllocationStrategy = Strategy
    if rtx:
        trt.CudaGraphStrategy = GraphStrategy
    return trt


def install(monkeypatch, gpu: Gpu, *, pycuda: bool = False) -> None:
    """Put the fakes in the place of the libraries."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(gpu, "10.16.1.11"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", tensorrt(gpu, "1.7.1.116", rtx=True))
    if pycuda:
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
        monkeypatch.setitem(sys.modules, "pycuda", types.SimpleNamespace(driver=PycudaDriver(gpu)))
    else:
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.bindings", types.SimpleNamespace(runtime=CudaRuntime(gpu)))


def profile(least: int, best: int, most: int, width: int = 64, widest: int | None = None) -> Profile:
    return Profile((least, 1, 64, width), (best, 1, 64, width), (most, 1, 64, widest or width))


def write_plan(plan: Path, onnx: Path, profiles: list[Profile], *, runtime: str = "tensorrt", **changes: Any) -> Path:
    """Write a plan that the fakes run, with its sidecar.

    Args:
        changes: fields of the sidecar, or of the plan itself: ``uncapturable``, ``dtype``.
    """
    content: dict[str, Any] = {
        "name": plan.name,
        "onnx": str(onnx),
        "profiles": [[shape.min, shape.opt, shape.max] for shape in profiles],
    }
    content |= {name: changes.pop(name) for name in ("uncapturable", "dtype") if name in changes}
    content["version_compatible"] = changes.get("version_compatible", False)
    plan.write_text(json.dumps(content), encoding="utf-8")
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    facts: dict[str, Any] = {
        "runtime": runtime,
        "runtime_version": "10.16.1.11" if runtime == "tensorrt" else "1.7.1.116",
        "compute_capability": "8.6" if runtime == "tensorrt" else None,
        "targets": () if runtime == "tensorrt" else ("sm80", "sm86", "sm89", "sm120+"),
        "hardware_compatible": False,
        "version_compatible": False,
        "precision": "fp16",
        "profiles": tuple(profiles),
        "input": TensorInfo("image", "float32", ("batch", 1, 64, profiles[0].max[3])),
        "output": TensorInfo("logits", "float32", ("batch", "frames", session.get_outputs()[0].shape[2])),
        "onnx_file": onnx.name,
        "onnx_sha256": sha256_of(onnx),
        "plan_sha256": sha256_of(plan),
        "plan_bytes": plan.stat().st_size,
        "metadata": dict(session.get_modelmeta().custom_metadata_map),
        "flags": {},
        "seconds": 1.0,
        "log": (),
        "environment": {},
        "command": f"htr-export trt {onnx.name} -o {plan.name}",
    }
    write_sidecar(plan, PlanSidecar(**{**facts, **changes}))
    return plan
