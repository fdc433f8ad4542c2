"""OpenVINO on the CPU."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import Backend, Closeable, EngineInfo, TensorInfo
from htr_engines.errors import EngineError, MissingExtraError, one_line
from htr_engines.host import Host, resident_bytes
from htr_engines.onnx_facts import read_facts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_engines.backends.base import ModelFile

PRECISION_KEYS = ("precision", "precision_map")  # of the metadata


class OpenVinoEngine(Closeable):
    """A compiled OpenVINO model.

    ``streams`` batches may run at the same time, each on its share of the threads.

    Raises:
        MissingExtraError: if OpenVINO is not installed.
        EngineError: if it does not take the model.
    """

    def __init__(self, model: ModelFile, threads: int, streams: int = 1) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("openvino", "openvino") from None
        content = model.content
        facts = read_facts(content, str(model))
        if Host().saturates_int8() and any("int8" in facts.metadata.get(key, "") for key in PRECISION_KEYS):
            raise EngineError(
                f"{model} is INT8, and OpenVINO's sums saturate on this processor, which lacks VNNI and AMX; give "
                "an FP32 file, or try it with --engine onnxruntime and validate it here"
            )
        before = resident_bytes()
        core = openvino.Core()
        self._idle: SimpleQueue[Any] = SimpleQueue()  # requests, each of which runs one batch at a time
        # Without the hint OpenVINO may compute in bfloat16 where the CPU has it, which is not what was validated.
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": streams,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            network = core.read_model(content, b"")
            self._compiled = core.compile_model(network, "CPU", settings)
            for _ in range(streams):
                self._idle.put(self._compiled.create_infer_request())
        except (RuntimeError, ValueError) as error:  # such as names that are not UTF-8
            raise EngineError(f"OpenVINO cannot open {model}: {one_line(error, last=True)}") from None
        if len(self._compiled.inputs) != 1 or len(self._compiled.outputs) != 1:
            raise EngineError(f"{model} should have one input and one output")
        self.info = EngineInfo(
            engine="openvino",
            device="cpu",
            version=openvino.__version__.split("-", 1)[0],
            threads=threads,
            input=_tensor_info(self._compiled.inputs[0]),
            output=_tensor_info(self._compiled.outputs[0]),
            memory_bytes=max(0, resident_bytes() - before),
            metadata=facts.metadata,
            streams=streams,
        )

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        request = self._idle.get()
        try:
            request.infer([image_N1HW], share_inputs=True)
            logits_NTC: NDArray[np.float32] = np.array(request.get_output_tensor(0).data)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on an input {image_N1HW.shape}: {one_line(error, last=True)}") from None
        finally:
            self._idle.put(request)
        return logits_NTC

    def close(self) -> None:
        """Free the compiled model."""
        del self._idle, self._compiled


def _tensor_info(port: object) -> TensorInfo:
    axes = port.partial_shape  # type: ignore[attr-defined]
    shape = tuple(axis.get_length() if axis.is_static else "any" for axis in axes)
    return TensorInfo(port.any_name, port.element_type.to_dtype().name, shape)  # type: ignore[attr-defined]


BACKENDS = (
    Backend(
        name="openvino",
        suffixes=(".onnx",),
        device="cpu",
        package="openvino",
        distributions=("openvino",),
        extra="openvino",
        open=OpenVinoEngine,
        streams=True,
        ranks={"int8": 40, "mixed": 41, "fp32": 60, "fp16": 80, "bf16": 81},
    ),
)
