"""A tensor's memory on the GPU and its pinned counterpart on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_engines.backends.tensorrt.cuda_memory import CudaMemory

ITEM = np.dtype(np.float32).itemsize


class CudaBuffer:
    """Float32 memory that grows to the largest shape requested and never shrinks."""

    def __init__(self, cuda: CudaMemory) -> None:
        self._cuda = cuda
        self._host: NDArray[np.uint8] | None = None
        self.address = 0  # on the GPU

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Return whether it is large enough for a tensor."""
        return self._host is not None and self._host.nbytes >= math.prod(shape) * ITEM

    def grow(self, shape: tuple[int, ...]) -> None:
        """Make it large enough for a tensor; both addresses change."""
        if self.holds(shape):
            return
        self.close()
        size = math.prod(shape) * ITEM
        self._host = self._cuda.allocate_host(size)
        try:
            self.address = self._cuda.allocate(size)
        except EngineError:
            self.close()
            raise

    def view(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the beginning of the host's side as a tensor."""
        assert self._host is not None
        return self._host[: math.prod(shape) * ITEM].view(np.float32).reshape(shape)

    def close(self) -> None:
        """Free both sides."""
        host, self._host = self._host, None
        address, self.address = self.address, 0
        if address:
            self._cuda.free(address)
        if host is not None:
            self._cuda.free_host(host)
