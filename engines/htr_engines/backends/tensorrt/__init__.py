"""Plans of TensorRT and TensorRT-RTX on NVIDIA GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.backends.base import Backend

if TYPE_CHECKING:
    from htr_engines.backends.base import Engine, ModelFile


def _open_tensorrt(plan: ModelFile, threads: int) -> Engine:
    from htr_engines.backends.tensorrt.engine import TensorRtEngine

    return TensorRtEngine(plan, threads, "tensorrt")


def _open_rtx(plan: ModelFile, threads: int) -> Engine:
    from htr_engines.backends.tensorrt.engine import TensorRtEngine

    return TensorRtEngine(plan, threads, "tensorrt-rtx")


# Plans are faster than ONNX Runtime's kernels on the same GPU. TensorRT-RTX does not promise arithmetic in INT8.
BACKENDS = (
    Backend(
        name="tensorrt",
        suffixes=(".plan",),
        device="cuda:0",
        package="tensorrt",
        distributions=(
            "tensorrt-cu13-bindings",
            "tensorrt-cu12-bindings",
            "tensorrt-cu13",
            "tensorrt-cu12",
            "tensorrt",
        ),
        extra="trt",
        open=_open_tensorrt,
        ranks={"int8": 10, "mixed": 11, "fp16": 12, "bf16": 13, "fp32": 14},
    ),
    Backend(
        name="tensorrt-rtx",
        suffixes=(".plan",),
        device="cuda:0",
        package="tensorrt_rtx",
        distributions=(
            "tensorrt-rtx-cu13-bindings",
            "tensorrt-rtx-cu12-bindings",
            "tensorrt-rtx-cu13",
            "tensorrt-rtx-cu12",
            "tensorrt-rtx",
        ),
        extra="rtx",
        open=_open_rtx,
        ranks={"fp16": 20, "mixed": 21, "bf16": 22, "int8": 23, "fp32": 24},
    ),
)
