"""PyTorch behind the engine protocol: what every artefact is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from htr_engines.backends.base import Closeable, EngineInfo, TensorInfo
from htr_engines.host import physical_cores, resident_bytes
from htr_export.model import Model, load_any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


class TorchEngine(Closeable):
    """The network in PyTorch, float32, on the CPU, whose threads are set for the whole process."""

    def __init__(self, model: Model | Path, threads: int | None = None) -> None:
        before = resident_bytes()
        loaded = model if isinstance(model, Model) else load_any(model)
        threads = threads or physical_cores()
        torch.set_num_threads(threads)
        self._network = loaded.network()
        self.info = EngineInfo(
            engine="torch",
            device="cpu",
            version=torch.__version__,
            threads=threads,
            input=TensorInfo("image", "float32", ("batch", 1, loaded.preprocessing.height, "width")),
            output=TensorInfo("logits", "float32", ("batch", "frames", loaded.config.num_classes)),
            memory_bytes=max(0, resident_bytes() - before),
            metadata=loaded.metadata(),
        )

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        with torch.inference_mode():
            logits_NTC: NDArray[np.float32] = self._network(torch.from_numpy(image_N1HW)).numpy()
        return logits_NTC

    def close(self) -> None:
        """Free the network."""
        del self._network


def infer_float64(model: Model, image_N1HW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute what rounding is measured against: float32 [N,1,64,W] in [0,1] -> float64 logits [N,W/4,C].

    Line by line, and the network is freed again: it takes 8 bytes a parameter, attention the square of the width.
    """
    network = model.network().double()
    with torch.inference_mode():
        logits_NTC: NDArray[np.float64] = torch.cat(
            [network(line[None].double()) for line in torch.from_numpy(image_N1HW)]
        ).numpy()
    return logits_NTC
