"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from htr_engines.preprocess import Preprocessing
from htr_export.network import HTRConvText, NetworkConfig
from htr_training import distributed
from htr_training.data import Batch, Lines, TrainingBatches, choose_charset, read_labelled, training_loader
from htr_training.errors import TrainingError
from htr_training.evaluate import read_all
from htr_training.journal import Journal
from htr_training.losses import Learner, Losses
from htr_training.optimizer import MovingAverage, SharpnessAware, ema_decay, learning_rate, make_adamw, set_rate
from htr_training.state import TrainingState, read, restore, save, to_checkpoint
from htr_training.tcm import TextualContext

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_training.recipe import Recipe


@dataclass(frozen=True)
class FitOptions:
    """Where a training writes and what it starts from."""

    output: Path
    resume: str | None = None  # "auto" or a checkpoint
    init_from: Path | None = None


def fit(recipe: Recipe, options: FitOptions) -> None:
    """Train a network and leave ``last.pth``, ``best_CER.pth`` and ``best_WER.pth`` in the output folder."""
    device = distributed.choose_device()
    distributed.start(device)
    try:
        _fit(recipe, options, device)
    finally:
        distributed.stop()


def _fit(recipe: Recipe, options: FitOptions, device: torch.device) -> None:
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(mode=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    torch.manual_seed(recipe.seed)
    train_lines = read_labelled(recipe.data.root, recipe.data.lines, recipe.data.train)
    val_lines = read_labelled(recipe.data.root, recipe.data.lines, recipe.data.val)
    charset = choose_charset(recipe.data, [line.text or "" for line in [*train_lines, *val_lines]])
    state = new_state(recipe, charset, device)
    checkpoint = find_checkpoint(options)
    if checkpoint is not None:
        restore(state, read(checkpoint))
    journal = Journal(options.output, recipe, state.iteration, writes=distributed.rank() == 0)
    spec = Preprocessing(recipe.network.image_width, alpha=recipe.data.alpha)
    train = Lines(train_lines, spec, cache=recipe.data.cache)
    val = Lines(val_lines, spec, cache=recipe.data.cache)
    journal.say(f"{len(train)} lines to learn from, {len(val)} to validate on, {charset.num_classes} classes, {device}")
    try:
        train_all(recipe, state, train, val, options.output, journal)
    finally:
        journal.close()


def new_state(recipe: Recipe, charset: Charset, device: torch.device) -> TrainingState:
    """Return an untrained network with everything that trains it."""
    config = NetworkConfig(charset.num_classes, **recipe.network.sizes())
    network = HTRConvText(config, dropout=recipe.network.dropout, drop_path=recipe.network.drop_path)
    tcm = TextualContext(config.num_classes, config.embed_dim, recipe.loss) if recipe.loss.tcm_weight else None
    learner = Learner(network, tcm, recipe.loss).to(device)
    if recipe.run.channels_last:
        learner = learner.to(memory_format=torch.channels_last)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.run.precision == "fp16" and device.type == "cuda")
    return TrainingState(
        learner, MovingAverage(network), make_adamw(learner.parameters(), recipe.optimizer), scaler, charset
    )


def find_checkpoint(options: FitOptions) -> Path | None:
    """Return the checkpoint to continue from, if any."""
    last = options.output / "last.pth"
    if options.resume == "auto":
        return last if last.exists() else None
    if options.resume is not None:
        from pathlib import Path

        return Path(options.resume)
    if last.exists():
        raise TrainingError(f"{options.output} already holds a training; give --resume auto or another --output")
    return None


def train_all(
    recipe: Recipe, state: TrainingState, train: Lines, val: Lines, output: Path, journal: Journal
) -> None:
    """Run the iterations that are left."""
    device = next(state.learner.parameters()).device
    share = (distributed.rank(), distributed.world_size())
    batches = TrainingBatches(
        train, state.charset, recipe.augment, seed=recipe.seed, batch=recipe.optimizer.batch, share=share
    )
    left = range(state.iteration, recipe.schedule.iterations)
    stepper = Stepper(recipe, state, device)
    meter = Meter(recipe.optimizer.batch)
    for batch in training_loader(batches, left, recipe.data.workers, pin=device.type == "cuda"):
        state.iteration += 1
        meter.data_arrived()
        losses = stepper.step(batch)
        meter.add(losses)
        if state.iteration % recipe.run.log_every == 0 or state.iteration == recipe.schedule.iterations:
            numbers = meter.read()
            check_loss(numbers["loss"], state, train)
            journal.training(state.iteration, {**numbers, "rate": stepper.rate})
        validating = state.iteration % recipe.run.validate_every == 0 or state.iteration == recipe.schedule.iterations
        if validating and journal.writes:
            validate(recipe, state, val, output, journal)
        if (validating or state.iteration % recipe.run.save_every == 0) and journal.writes:
            save(to_checkpoint(state, recipe), output / "last.pth")
        meter.resume()


def validate(recipe: Recipe, state: TrainingState, val: Lines, output: Path, journal: Journal) -> None:
    """Read the validation lines with the averaged weights and keep the checkpoint if it is the best."""
    device = next(state.learner.parameters()).device
    network = state.average.network
    evaluation = read_all(network, val, state.charset, batch=recipe.run.validation_batch, device=device)
    journal.validation(state.iteration, evaluation)
    cer, wer = evaluation.counts.cer, evaluation.counts.wer
    better_cer, better_wer = cer < state.best_cer, wer < state.best_wer
    state.best_cer, state.best_wer = min(cer, state.best_cer), min(wer, state.best_wer)
    if better_cer:
        save(to_checkpoint(state, recipe), output / "best_CER.pth")
    if better_wer:
        save(to_checkpoint(state, recipe), output / "best_WER.pth")


def check_loss(loss: float, state: TrainingState, train: Lines) -> None:
    """Raise :class:`TrainingError` for a loss that is not a number or far above that of a guess."""
    frames = train.spec.width // 4
    guess = 10 * frames * math.log(state.charset.num_classes)
    if not math.isfinite(loss) or loss > guess:
        raise TrainingError(
            f"the loss is {loss:g} at iteration {state.iteration}; lower schedule.max_rate, set optimizer.clip_norm = 1 "
            "or use run.precision = bf16; the last checkpoint is from before and stands"
        )


class Stepper:
    """One iteration: losses, gradients, optimiser, moving average."""

    def __init__(self, recipe: Recipe, state: TrainingState, device: torch.device) -> None:
        self.recipe = recipe
        self.state = state
        self.device = device
        self.rate = 0.0
        rho = recipe.optimizer.sam_rho
        self.sam = SharpnessAware(state.learner.parameters(), rho) if rho else None
        self.learner = state.learner
        state.learner.train()

    def step(self, batch: Batch) -> Losses:
        """Learn from a batch; return its losses, detached."""
        state, recipe = self.state, self.recipe
        # Dropout, too, depends on the iteration alone: a resumed training draws what an uninterrupted one draws.
        torch.manual_seed((recipe.seed << 32) + state.iteration * distributed.world_size() + distributed.rank())
        self.rate = learning_rate(state.iteration, recipe.schedule)
        set_rate(state.optimizer, self.rate)
        batch = batch.to(self.device)
        losses = self._backward(batch)
        if self.sam is not None and self.sam.climb().isfinite():
            self._backward(batch)
        if self.sam is not None:
            self.sam.return_back()
        state.scaler.unscale_(state.optimizer)
        if recipe.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(state.learner.parameters(), recipe.optimizer.clip_norm)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        state.average.update(state.learner.network, ema_decay(state.iteration, recipe.ema.decay))
        return losses

    def _backward(self, batch: Batch) -> Losses:
        """Add the gradients of a batch, computed in parts; return the mean of its losses."""
        parts = self.recipe.optimizer.accumulate
        summed: list[torch.Tensor] = []
        for images, targets, lengths in zip(*(part.chunk(parts) for part in batch), strict=True):
            image_N1HW = images.float() * (1 / 255)
            if self.recipe.run.channels_last:
                image_N1HW = image_N1HW.contiguous(memory_format=torch.channels_last)
            with self._autocast():
                losses = self.learner(image_N1HW, targets, lengths)
            self.state.scaler.scale(losses.total / parts).backward()
            summed.append(torch.stack(losses).detach() / parts)
        return Losses(*torch.stack(summed).sum(0))

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        precision = self.recipe.run.precision
        if precision == "fp32" or self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.autocast("cuda", torch.bfloat16 if precision == "bf16" else torch.float16)


class Meter:
    """Means of the losses, lines a second, and the share of the time that the device waited for data."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._sums: torch.Tensor | None = None
        self._count = 0
        self._busy = self._waited = 0.0
        self._mark = time.perf_counter()

    def data_arrived(self) -> None:
        """Note that the wait for a batch is over."""
        self._waited += self._lap()

    def add(self, losses: Losses) -> None:
        """Note the losses of an iteration."""
        values = torch.stack(losses)
        self._sums = values if self._sums is None else self._sums + values
        self._count += 1

    def resume(self) -> None:
        """Begin to wait for the next batch; what has passed since the data arrived was work."""
        self._busy += self._lap()

    def read(self) -> dict[str, float]:
        """Return the means since the last reading and begin anew."""
        assert self._sums is not None
        total, ctc, tcm = (self._sums / self._count).tolist()
        self._busy += self._lap()
        seconds = self._busy + self._waited
        numbers = {
            "loss": total,
            "ctc": ctc,
            "tcm": tcm,
            "lines_per_s": self._count * self.batch / seconds,
            "data_wait": self._waited / seconds,
        }
        self._sums, self._count, self._busy, self._waited = None, 0, 0.0, 0.0
        return numbers

    def _lap(self) -> float:
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        return seconds
