"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.engine import ClosesOnExit, EngineInfo, TensorInfo, resident_bytes
from htr_engines.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeEngine(ClosesOnExit):
    """A session of ONNX Runtime.

    Args:
        model: an ONNX file.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads within one operator.
    """

    def __init__(self, model: Path, device: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "gpu" if device == "cuda" else "cpu") from None
        before = resident_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised as well
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise EngineError(
                f"this onnxruntime {onnxruntime.__version__} has no {provider}; install it with: "
                "pip uninstall onnxruntime && pip install 'htr-export[gpu]'"
            )
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
        except Exception as error:  # noqa: BLE001 - its exceptions have no common base but this
            raise EngineError(f"ONNX Runtime cannot open {model}: {_first_line(error)}") from None
        used = self._session.get_providers()[0]
        if used != provider:
            raise EngineError(
                f"ONNX Runtime fell back from {provider} to {used}; check the CUDA and cuDNN libraries with nvidia-smi"
            )
        given, made = self._session.get_inputs(), self._session.get_outputs()
        if len(given) != 1 or len(made) != 1:
            raise EngineError(f"{model} has {len(given)} inputs and {len(made)} outputs; a line model has one of each")
        self.info = EngineInfo(
            engine="onnxruntime" if device == "cpu" else "onnxruntime-cuda",
            device="cpu" if device == "cpu" else "cuda:0",
            version=onnxruntime.__version__,
            threads=threads,
            input=_tensor_info(given[0]),
            output=_tensor_info(made[0]),
            memory_bytes=max(0, resident_bytes() - before),
            metadata=dict(self._session.get_modelmeta().custom_metadata_map),
        )

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        try:
            logits_NTC: NDArray[np.float32] = self._session.run(None, {self.info.input.name: image_N1HW})[0]
        except Exception as error:  # noqa: BLE001 - as above
            raise EngineError(f"ONNX Runtime failed on an input {image_N1HW.shape}: {_first_line(error)}") from None
        return logits_NTC

    def close(self) -> None:
        """Free the session."""
        del self._session


def _tensor_info(value: object) -> TensorInfo:
    shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape)  # type: ignore[attr-defined]
    return TensorInfo(value.name, value.type.removeprefix("tensor(").rstrip(")"), shape)  # type: ignore[attr-defined]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
