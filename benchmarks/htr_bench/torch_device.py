"""PyTorch on a GPU, in half precision or compiled: what an engine has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from htr_engines.backends.base import Closeable, EngineInfo, TensorInfo
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from htr_export.model import Model

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def check_device(device: str) -> None:
    """Refuse ``cuda`` where PyTorch sees no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError("no GPU: PyTorch sees none; check its build and the driver, or give --device cpu")


class TorchDevice(Closeable):
    """The network as PyTorch runs it, weights and activations in one type; float32 without TF32."""

    def __init__(self, model: Model, device: str, precision: str, *, compiled: bool = False) -> None:
        check_device(device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._device, self._dtype = torch.device(device), DTYPES[precision]
        self._network = model.network().to(self._device, self._dtype)
        mode = "reduce-overhead" if device == "cuda" else "default"
        self._run = torch.compile(self._network, dynamic=False, mode=mode) if compiled else self._network
        self.info = EngineInfo(
            engine=f"torch-{precision}" + ("-compiled" if compiled else ""),
            device="cuda:0" if device == "cuda" else "cpu",
            version=torch.__version__,
            threads=torch.get_num_threads(),
            input=TensorInfo("image", "float32", ("batch", 1, model.preprocessing.height, "width")),
            output=TensorInfo("logits", "float32", ("batch", "frames", model.config.num_classes)),
            memory_bytes=0,
            metadata=model.metadata(),
        )

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        with torch.inference_mode():
            image = torch.from_numpy(image_N1HW).to(self._device, self._dtype)
            logits_NTC: NDArray[np.float32] = self._run(image).float().cpu().numpy()
        return logits_NTC

    def close(self) -> None:
        """Free the network."""
        del self._run, self._network
