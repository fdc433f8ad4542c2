"""Checkpoints in the published layout: what a training is at one moment, saved whole and read back safely."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from htr_engines.files import atomic_path

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_training.losses import Learner
    from htr_training.optimizer import MovingAverage
    from htr_training.recipe import Recipe


@dataclass
class TrainingState:
    """A training at one moment."""

    learner: Learner
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    charset: Charset
    iteration: int = 0  # done
    best_cer: float = 1e9  # fractions of the validation text, as published checkpoints have them
    best_wer: float = 1e9
    loss_sum: float = 0.0  # since the last log line
    loss_count: int = 0


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
        "numpy_state": np.random.get_state(),  # noqa: NPY002 - the layout's
        "torch_state": torch.get_rng_state(),
        "torch_cuda_state": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "train_loss": state.loss_sum,
        "train_loss_count": state.loss_count,
        "charset": state.charset.characters,
        "network": network.config.to_dict(),
    }
    if state.learner.tcm is not None:
        checkpoint["tcm_head"] = state.learner.tcm.state_dict()
    return checkpoint


def save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save(checkpoint, temporary)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it might hold."""
    numpy_globals = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, np.dtypes.UInt32DType]
    with torch.serialization.safe_globals(numpy_globals):
        return dict(torch.load(path, map_location="cpu", weights_only=True))


def restore(state: TrainingState, checkpoint: dict[str, Any]) -> None:
    """Continue from a checkpoint of the same network and character set."""
    state.learner.network.load_state_dict(checkpoint["model"])
    state.average.network.load_state_dict(checkpoint["state_dict_ema"])
    if state.learner.tcm is not None and "tcm_head" in checkpoint:
        state.learner.tcm.load_state_dict(checkpoint["tcm_head"])
    state.optimizer.load_state_dict(checkpoint["optimizer"])
    if checkpoint.get("scaler"):
        state.scaler.load_state_dict(checkpoint["scaler"])
    state.iteration = int(checkpoint["nb_iter"])
    state.best_cer = float(checkpoint["best_cer"])
    state.best_wer = float(checkpoint["best_wer"])
    state.loss_sum = float(checkpoint["train_loss"])
    state.loss_count = int(checkpoint["train_loss_count"])
