"""An engine whose logits are kept, for several candidates that are judged against one reference."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from htr_engines.backends.base import Closeable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine, EngineInfo


class CachingEngine(Closeable):
    """An engine that runs each batch once and gives the logits again whenever the batch comes back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._logits: dict[bytes, NDArray[np.float32]] = {}

    @property
    def info(self) -> EngineInfo:
        """Facts of the engine."""
        return self._engine.info

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits [N,W/4,C] of a batch float32 [N,1,64,W] in [0,1]."""
        key = hashlib.sha256(image_N1HW.tobytes() + str(image_N1HW.shape).encode("ascii")).digest()
        if key not in self._logits:
            self._logits[key] = self._engine.infer(image_N1HW)
        return self._logits[key]
