"""Means over a stretch of iterations, and where their time went."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from htr_training import distributed
from htr_training.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from htr_training.data import Batch


class Meter:
    """Collects losses and times since it was last read.

    Args:
        batch: lines of an iteration.

    Attributes:
        count: iterations since it was last read.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.count = 0
        self._losses: list[torch.Tensor] = []
        self._waited = 0.0
        self._started = time.perf_counter()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches and note how long each was waited for."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(iterator, None)
            self._waited += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    def add(self, losses: Losses) -> None:
        """Note the losses of an iteration; they stay on the device, so that it need not be waited for."""
        self._losses.append(torch.stack(losses))
        self.count += 1

    def read(self) -> dict[str, float]:
        """Return the means over all processes, lines a second and the share of time without data."""
        means = distributed.mean(torch.stack(self._losses).mean(0)).tolist()
        seconds = time.perf_counter() - self._started
        speed = {"lines_per_s": self.count * self.batch / seconds, "data_wait": self._waited / seconds}
        self.restart()
        return {**dict(zip(Losses._fields, means, strict=True)), **speed}

    def restart(self) -> None:
        """Start again, after something that was no training."""
        self.count = 0
        self._losses = []
        self._waited = 0.0
        self._started = time.perf_counter()
