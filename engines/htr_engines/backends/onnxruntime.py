"""ONNX Runtime, on the CPU or through one of its providers for NVIDIA GPUs."""

from __future__ import annotations

import contextlib
import functools
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from htr_engines.backends.base import Backend, Closeable, EngineInfo, TensorInfo
from htr_engines.errors import EngineError, MissingExtraError, one_line
from htr_engines.host import resident_bytes
from htr_engines.onnx_facts import read_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.backends.base import ModelFile


@dataclass(frozen=True)
class _Provider:
    name: str
    device: str
    cure: str  # if the library is there but the provider does not start
    ranks: Mapping[str, int] = field(default_factory=dict)


DISTRIBUTIONS = (  # each brings the same package, so only one of them may be installed
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-trt-rtx",
)
_CUDA_CURE = "check the driver with nvidia-smi, and the CUDA and cuDNN libraries with 'htr-export doctor'"
# On size base OpenVINO took 0.185 s a line where ONNX Runtime took 0.210 (benchmarks/results/exporters.json). CPUs gain
# most by INT8, and have no kernels for half precision, which is converted at every step. The CUDA provider has no
# kernels for INT8. The TensorRT providers build an engine at every start, so they are used only when named.
_PROVIDERS = {
    "onnxruntime": _Provider(
        "CPUExecutionProvider",
        "cpu",
        "install onnxruntime again",
        ranks={"int8": 50, "mixed": 51, "fp32": 70, "fp16": 90, "bf16": 91},
    ),
    "onnxruntime-cuda": _Provider(
        "CUDAExecutionProvider",
        "cuda:0",
        _CUDA_CURE,
        ranks={"fp16": 30, "mixed": 31, "bf16": 32, "fp32": 33, "int8": 34},
    ),
    "onnxruntime-tensorrt": _Provider(
        "TensorrtExecutionProvider",
        "cuda:0",
        "it needs TensorRT 10 (libnvinfer.so.10) in the library path, so install that, or use a plan",
    ),
    "onnxruntime-tensorrt-rtx": _Provider(
        "NvTensorRTRTXExecutionProvider",
        "cuda:0",
        "it needs the TensorRT-RTX libraries in the library path, so install those, or use a plan",
    ),
}


class OnnxRuntimeEngine(Closeable):
    """A session of ONNX Runtime on the CPU, or by the provider for NVIDIA GPUs in the engine's name.

    ``streams`` batches may run at the same time, each on its share of the threads.

    Raises:
        MissingExtraError: if ONNX Runtime is not installed.
        EngineError: if the provider is not there, or the model is not run by it. Another one never takes its place.
    """

    def __init__(self, model: ModelFile, threads: int, engine: str, streams: int = 1) -> None:
        provider = _PROVIDERS[engine]
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "cpu" if engine == "onnxruntime" else "gpu") from None
        content = model.content
        read_facts(content, str(model))
        before = resident_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, threads // streams)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised as well
        if provider.name not in onnxruntime.get_available_providers():
            raise EngineError(_not_built_in(engine, provider, onnxruntime.__version__))
        if engine != "onnxruntime":
            _load_cuda(onnxruntime)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=[provider.name])
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base but this
            cure = "" if engine == "onnxruntime" else f"; {provider.cure}"
            raise EngineError(f"ONNX Runtime cannot open {model}: {one_line(error)}{cure}") from None
        used = self._session.get_providers()[0]
        if used != provider.name:
            raise EngineError(f"ONNX Runtime fell back from {provider.name} to {used}; {provider.cure}")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(
                f"{model} has {len(inputs)} inputs and {len(outputs)} outputs; a line model has one of each"
            )
        self.info = EngineInfo(
            engine=engine,
            device=provider.device,
            version=onnxruntime.__version__,
            threads=threads,
            input=_tensor_info(inputs[0]),
            output=_tensor_info(outputs[0]),
            memory_bytes=max(0, resident_bytes() - before),
            metadata=dict(self._session.get_modelmeta().custom_metadata_map),
            streams=streams,
        )

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        try:
            logits_NTC: NDArray[np.float32] = self._session.run(None, {self.info.input.name: image_N1HW})[0]
        except Exception as error:  # noqa: BLE001 - as above
            raise EngineError(f"ONNX Runtime failed on an input {image_N1HW.shape}: {one_line(error)}") from None
        return logits_NTC

    def close(self) -> None:
        """Free the session."""
        del self._session


def _load_cuda(onnxruntime: Any) -> None:  # noqa: ANN401 - a module
    """Load the CUDA and cuDNN libraries of PyPI packages, which the providers do not find by themselves."""
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing; the session says it again
            onnxruntime.preload_dlls()


def _not_built_in(engine: str, provider: _Provider, version: str) -> str:
    reason = f"this onnxruntime {version} has no {provider.name}"
    if engine == "onnxruntime-tensorrt-rtx":
        return f"{reason}; install a build of ONNX Runtime that has it, or build a plan with 'htr-export trt'"
    return f"{reason}; install it with: pip uninstall onnxruntime && pip install 'htr-export[gpu]'"


def _tensor_info(value: Any) -> TensorInfo:  # noqa: ANN401
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)
    return TensorInfo(value.name, value.type.removeprefix("tensor(").rstrip(")"), shape)


BACKENDS = tuple(
    Backend(
        name=name,
        suffixes=(".onnx",),
        device=provider.device,
        package="onnxruntime",
        distributions=DISTRIBUTIONS,
        extra="cpu" if provider.device == "cpu" else "gpu",
        open=functools.partial(OnnxRuntimeEngine, engine=name),
        ranks=provider.ranks,
        streams=provider.device == "cpu",
    )
    for name, provider in _PROVIDERS.items()
)
