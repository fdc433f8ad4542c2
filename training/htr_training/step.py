"""One iteration: the losses of a batch, their gradients, the optimiser and the moving average."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.profiler import record_function

from htr_training import distributed
from htr_training.autocast import autocast, autocast_dtype
from htr_training.guide import guide_share
from htr_training.losses import Losses
from htr_training.optimizer import SharpnessAware, ema_decay, learning_rate, set_rate

if TYPE_CHECKING:
    from htr_training.data import Batch
    from htr_training.recipe import Recipe
    from htr_training.state import TrainingState


class Stepper:
    """Takes a training forward, one batch at a time.

    Attributes:
        rate: the learning rate of the last iteration.
    """

    def __init__(self, recipe: Recipe, state: TrainingState) -> None:
        self.recipe = recipe
        self.state = state
        self.rate = 0.0
        self._device = state.device
        self._dtype = autocast_dtype(recipe.run.precision, self._device)
        state.learner.train()
        self._parameters = [parameter for parameter in state.learner.parameters() if parameter.requires_grad]
        rho = recipe.optimizer.sam_rho
        self._sam = SharpnessAware(self._parameters, rho) if rho else None
        self._learner: nn.Module = distributed.share(state.learner)
        if recipe.run.compile:
            self._learner.compile()

    def step(self, batch: Batch) -> Losses:
        """Learn from a batch; return the means of its losses, detached and still on the device."""
        state, recipe = self.state, self.recipe
        state.iteration += 1
        # Dropout, too, depends on the iteration alone, so that a resumed training draws the same.
        torch.manual_seed((recipe.seed << 24) + state.iteration * distributed.world_size() + distributed.rank())
        batch = batch.to(self._device)
        losses = self._backward(batch)
        if self._sam is not None:
            norm = self._sam.ascend()
            # Half precision overflows now and then; a second pass from there would ruin the batch statistics.
            if not state.scaler.is_enabled() or norm.isfinite():
                self._backward(batch)
            self._sam.restore()
        with record_function("optimizer"):
            self._update()
        return losses

    def _backward(self, batch: Batch) -> Losses:
        """Add up the gradients of a batch, in the recipe's number of parts."""
        parts = self.recipe.optimizer.accumulate
        guide = guide_share(self.state.iteration, self.recipe.loss.guide)
        means = torch.zeros(len(Losses._fields), device=self._device)
        pieces = list(zip(*(part.chunk(parts) for part in batch), strict=True))
        for number, (image_N1HW, target_NS, length_N) in enumerate(pieces, 1):
            # The processes exchange gradients once, with the last part.
            together = contextlib.nullcontext() if number == len(pieces) else distributed.apart(self._learner)
            with together:
                with record_function("forward"), autocast(self._dtype, self._device):
                    losses = self._learner(self._to_float(image_N1HW), target_NS, length_N, guide)
                with record_function("backward"):
                    self.state.scaler.scale(losses.total / parts).backward()
            means += torch.stack(losses).detach() / parts
        return Losses(*means)

    def _update(self) -> None:
        state, recipe = self.state, self.recipe
        self.rate = learning_rate(state.iteration, recipe.schedule)
        set_rate(state.optimizer, self.rate)
        state.scaler.unscale_(state.optimizer)
        if recipe.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters, recipe.optimizer.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.average.update(state.learner.network, ema_decay(state.iteration, recipe.ema.decay))

    def _to_float(self, image_N1HW: torch.Tensor) -> torch.Tensor:
        image_N1HW = image_N1HW.float() * (1 / 255)
        if self.recipe.run.channels_last:
            return image_N1HW.contiguous(memory_format=torch.channels_last)
        return image_N1HW
