"""A backend in one file: what :func:`helpers.bench_fakes.write_onnx` writes, computed with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import Backend, Closeable, EngineInfo, TensorInfo

if TYPE_CHECKING:
    from htr_engines.backends.base import ModelFile


class ToyEngine(Closeable):
    def __init__(self, model: ModelFile, threads: int) -> None:
        import onnx

        metadata = {entry.key: entry.value for entry in onnx.load_from_string(model.content).metadata_props}
        self.info = EngineInfo(
            engine="toy",
            device="cpu",
            version="1",
            threads=threads,
            input=TensorInfo("image", "float32", ("batch", 1, 64, "width")),
            output=TensorInfo("logits", "float32", ("batch", "frames", 8)),
            memory_bytes=0,
            metadata=metadata,
        )

    def infer(self, image_N1HW: np.ndarray) -> np.ndarray:
        lines, _, _, width = image_N1HW.shape
        mean_NT1 = image_N1HW.reshape(lines, 64, width // 4, 4).mean((1, 3))[:, :, None]
        return (mean_NT1 * np.arange(8)).astype(np.float32)


BACKENDS = (
    Backend(
        name="toy",
        suffixes=(".onnx",),
        device="cpu",
        package="numpy",
        distributions=("numpy",),
        extra="cpu",
        open=ToyEngine,
        ranks={"fp32": 0},
    ),
)
