"""A training at one moment, and how it is saved: in the published layout, whole or not at all."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from htr_engines.errors import one_line
from htr_engines.files import atomic_path
from htr_export.network.config import NetworkConfig
from htr_export.network.model import HTRConvText
from htr_training.errors import TrainingError
from htr_training.losses import Learner
from htr_training.optimizer import MovingAverage, make_adamw
from htr_training.tcm import TextualContext

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_training.recipe import Recipe

NEVER = 1e9  # an error rate that any validation beats


@dataclass
class TrainingState:
    """A training at one moment."""

    learner: Learner
    average: MovingAverage[HTRConvText]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    charset: Charset
    iteration: int = 0  # done
    best_cer: float = NEVER  # fractions, of the averaged weights on the validation lines
    best_wer: float = NEVER
    train_loss: float = 0.0  # of the iterations before the last log line, summed
    train_loss_count: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.learner.network.head.weight.device


def new_state(recipe: Recipe, charset: Charset, device: torch.device) -> TrainingState:
    """Return an untrained network with everything that trains it."""
    torch.manual_seed(recipe.seed)
    config = NetworkConfig(charset.num_classes, **recipe.network.sizes())
    network = HTRConvText(config, dropout=recipe.network.dropout, drop_path=recipe.network.drop_path)
    tcm = TextualContext(config.num_classes, config.embed_dim, recipe.loss) if recipe.loss.tcm_weight else None
    learner = Learner(network, tcm, recipe.loss).to(device)
    if recipe.run.channels_last:
        learner = learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.run.precision == "fp16" and device.type == "cuda")
    optimizer = make_adamw(learner.parameters(), recipe.optimizer)
    return TrainingState(learner, MovingAverage(network), optimizer, scaler, charset)


def to_checkpoint(state: TrainingState, recipe: Recipe) -> dict[str, Any]:
    """Return the published layout, and with it the character set and the network's numbers."""
    network = state.learner.network
    checkpoint = {
        "model": network.state_dict(),
        "state_dict_ema": state.average.network.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "nb_iter": state.iteration,
        "best_cer": state.best_cer,
        "best_wer": state.best_wer,
        "args": recipe.to_dict(),
        "random_state": random.getstate(),
        "numpy_state": np.random.get_state(),  # noqa: NPY002 - the layout has the old generator's state
        "torch_state": torch.get_rng_state(),
        "torch_cuda_state": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "train_loss": state.train_loss,
        "train_loss_count": state.train_loss_count,
        "charset": state.charset.characters,
        "network": network.config.to_dict(),
    }
    if state.learner.tcm is not None:
        checkpoint["tcm_head"] = state.learner.tcm.state_dict()
    return checkpoint


def save(state: TrainingState, recipe: Recipe, path: Path) -> None:
    """Write a checkpoint.

    Raises:
        TrainingError: if the weights are not finite; what stood at ``path`` still does.
        OSError: if it cannot be written; likewise.
    """
    norms = torch._foreach_norm(list(state.learner.parameters()))  # noqa: SLF001 - what clip_grad_norm_ uses
    if not torch.stack(norms).isfinite().all():
        raise TrainingError(
            f"the weights are no longer finite at iteration {state.iteration}; lower schedule.max_rate, set "
            f"optimizer.clip_norm = 1 or use run.precision = bf16; {path} was left as it was before"
        )
    write(to_checkpoint(state, recipe), path)


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a dictionary of tensors and plain values, whole or not at all."""
    try:
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)
    except RuntimeError as error:  # how PyTorch's writer reports other failures than a full disk
        raise OSError(errno.EIO, one_line(error), str(path)) from None


FOR_RESUMING = ("optimizer", "scaler", "random_state", "numpy_state", "torch_state", "torch_cuda_state")


def slim(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without what only resuming needs: it can be evaluated, exported and fine-tuned."""
    return {name: value for name, value in checkpoint.items() if name not in FOR_RESUMING}
