"""The training loop: from a recipe to ``last.pth``, ``best_CER.pth`` and ``best_WER.pth``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from htr_engines.errors import DataError, ImageError, StoppedError
from htr_engines.preprocess import Preprocessing
from htr_training import distributed
from htr_training.autocast import precision_note
from htr_training.check.check import ERRORS, check_lists
from htr_training.data import (
    FittedLines,
    Split,
    TrainingBatches,
    choose_charset,
    choose_order,
    load_batches,
    read_split,
    skip_unusable,
)
from htr_training.errors import RecipeError, TrainingError
from htr_training.evaluate import read_all
from htr_training.journal import Journal
from htr_training.meter import Meter
from htr_training.resume import LAST, find_checkpoint, initialise_from, restore
from htr_training.state import new_state, save
from htr_training.step import Stepper
from htr_training.stopping import StopSignals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_training.data import Batch
    from htr_training.recipe import Recipe
    from htr_training.state import TrainingState


@dataclass(frozen=True)
class FitOptions:
    """Where a training writes, and what it starts from."""

    output: Path
    resume: str | None = None  # "auto" or a checkpoint
    init_from: Path | None = None  # a checkpoint, for a training that starts at iteration 0
    init_charset: Charset | None = None  # its characters, if it does not say
    note: str | None = None  # something else for the log


def fit(recipe: Recipe, options: FitOptions) -> None:
    """Train a network, alone or as one process of ``torchrun``.

    Raises:
        DataError: if the lines cannot be trained on.
        TrainingError: if the training must not go on; its last checkpoint stands.
        StoppedError: after a signal, with all that was learnt in the last checkpoint.
    """
    device = distributed.choose_device()
    with distributed.processes(device):
        _prepare_torch(recipe, device)
        split, skipped = skip_unusable(read_split(recipe.data), recipe.network.image_width)
        charset = choose_charset(recipe.data, split)
        state = new_state(recipe, charset, device)
        notes = _start_from(state, options)
        notes += [note for note in (options.note, precision_note(recipe.run.precision, device)) if note]
        journal = Journal(options.output, recipe, state.iteration, writes=distributed.rank() == 0)
        try:
            for note in [*notes, *skipped, *_check(split, charset, recipe)]:
                journal.say(note)
            _train(recipe, state, split, options.output, journal)
        finally:
            journal.close()


def _prepare_torch(recipe: Recipe, device: torch.device) -> None:
    if recipe.optimizer.batch % (distributed.world_size() * recipe.optimizer.accumulate):
        raise RecipeError("optimizer.batch should be a multiple of optimizer.accumulate times the number of processes")
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(mode=True)
        # A safety net for code that reads what it never wrote, and slow.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _start_from(state: TrainingState, options: FitOptions) -> list[str]:
    """Load what the training starts from, and return what is to be said about it."""
    checkpoint = find_checkpoint(options.output, options.resume)
    if checkpoint is not None:
        notes = restore(state, checkpoint)
        return [f"continuing {checkpoint} at iteration {state.iteration}", *notes]
    if options.init_from is not None:
        return [
            f"starting from {options.init_from}",
            *initialise_from(state, options.init_from, options.init_charset),
        ]
    return []


def _check(split: Split, charset: Charset, recipe: Recipe) -> list[str]:
    """Refuse lines that cannot be learnt or read; return what else there is to say about the data.

    A validation line may hold what the network cannot write: it counts as an error, as it would in use.
    """
    report = check_lists(split._asdict(), charset, recipe.network.image_width)
    everywhere = {"image", "no transcript"}
    refused = [f for f in report.findings if f.kind in (ERRORS if f.list_name == "train" else everywhere)]
    if refused:
        sentences = replace(report, findings=tuple(refused)).errors
        raise DataError(f"{'; '.join(sentences)}; repair these lines or take them off the lists")
    tolerated = tuple(finding for finding in report.findings if finding not in refused)
    remaining = replace(report, findings=tolerated)
    sizes = f"{len(split.train)} lines to learn from, {len(split.val)} to validate on"
    counts = f"{sizes}, {charset.num_classes} classes"
    return [counts, *(f"note: {sentence}" for sentence in [*remaining.errors, *remaining.warnings])]


def _train(recipe: Recipe, state: TrainingState, split: Split, output: Path, journal: Journal) -> None:
    """Run the iterations that are left."""
    spec = Preprocessing(recipe.network.image_width, alpha=recipe.data.alpha)
    train, val = (FittedLines(lines, spec, cache=recipe.data.cache) for lines in split)
    batches = TrainingBatches(
        train,
        state.charset,
        recipe.augment,
        choose_order(recipe.data, split.train, recipe.seed),
        seed=recipe.seed,
        batch=recipe.optimizer.batch,
        share=(distributed.rank(), distributed.world_size()),
        width=recipe.data.width,
    )
    left = range(state.iteration, recipe.schedule.iterations)
    loaded = load_batches(batches, left, recipe.data.workers, pin=state.device.type == "cuda")
    with StopSignals() as stop:
        keeper = CheckpointKeeper(recipe, state, output, journal, stop)
        try:
            if journal.unvalidated and _is_due(recipe, state.iteration):
                keeper.validate(val)
            _iterate(recipe, state, loaded, val, keeper)
        except ImageError:
            # It stops the training between two iterations, so that what was learnt so far is whole.
            keeper.keep(LAST)
            raise
        except KeyboardInterrupt:  # likewise
            keeper.keep(LAST)
            keeper.finish()
            raise StoppedError(
                f"stopped at iteration {state.iteration}, which {output / LAST} holds; the same command with "
                "--resume auto goes on from there"
            ) from None
        except RuntimeError:
            if not stop.requested or distributed.rank() == 0:
                raise
            raise StoppedError("stopped with the first process") from None  # which has left
    keeper.finish()


def _is_due(recipe: Recipe, iteration: int) -> bool:
    """Say whether the validation lines are read after an iteration."""
    return iteration % recipe.run.validate_every == 0 or iteration == recipe.schedule.iterations


def _iterate(
    recipe: Recipe, state: TrainingState, batches: Iterator[Batch], val: FittedLines, keeper: CheckpointKeeper
) -> None:
    stepper = Stepper(recipe, state)
    meter = Meter(recipe.optimizer.batch)
    run = recipe.run
    for batch in meter.timed(batches):
        meter.add(stepper.step(batch))
        if distributed.agree_to_stop(keeper.stop.requested):
            raise KeyboardInterrupt
        done = state.iteration
        validating = _is_due(recipe, done)
        keeping = validating or done % run.save_every == 0
        if keeping or done % run.log_every == 0:
            # Before every checkpoint: one from after the losses diverged must not replace the good one.
            _log(state, meter, stepper.rate, val, keeper.journal)
        if validating:
            keeper.validate(val)
        if keeping:
            keeper.keep(LAST)
            meter.restart()


def _log(state: TrainingState, meter: Meter, rate: float, lines: FittedLines, journal: Journal) -> None:
    """Log what the meter holds.

    Raises:
        TrainingError: if the loss is not finite, or far above that of guessing.
    """
    count = meter.count
    numbers = {**meter.read(), "rate": rate}
    state.train_loss, state.train_loss_count = numbers["total"] * count, count
    guessing = lines.spec.width / 4 * math.log(state.charset.num_classes)
    if not math.isfinite(numbers["total"]) or numbers["ctc"] > 10 * guessing:
        raise TrainingError(
            f"the loss is {numbers['total']:g} at iteration {state.iteration}; lower schedule.max_rate, set "
            "optimizer.clip_norm = 1 or use run.precision = bf16, then continue with --resume auto: the last "
            "checkpoint is from before"
        )
    journal.training(state.iteration, numbers)


class CheckpointKeeper:
    """Validates, and keeps checkpoints. A full disk stops no training: the next checkpoint tries again."""

    def __init__(self, recipe: Recipe, state: TrainingState, output: Path, journal: Journal, stop: StopSignals) -> None:
        self.recipe = recipe
        self.state = state
        self.output = output
        self.journal = journal
        self.stop = stop
        self._failed: OSError | None = None

    def validate(self, val: FittedLines) -> None:
        """Read the validation lines with the averaged weights and keep the checkpoint if it is the best."""
        if not self.journal.writes:
            return
        state = self.state
        with self.stop.at_once():
            evaluation = read_all(
                state.average.network,
                val,
                state.charset,
                batch=self.recipe.run.validation_batch,
                device=state.device,
            )
        self.journal.validation(state.iteration, evaluation)
        best_cer, best_wer = state.best_cer, state.best_wer
        cer, wer = evaluation.counts.cer, evaluation.counts.wer
        state.best_cer, state.best_wer = min(cer, best_cer), min(wer, best_wer)
        if cer < best_cer and not self.keep("best_CER.pth"):
            state.best_cer = best_cer
        if wer < best_wer and not self.keep("best_WER.pth"):
            state.best_wer = best_wer

    def keep(self, name: str) -> bool:
        """Write a checkpoint; say so and return False if it cannot be written."""
        if not self.journal.writes:
            return True
        try:
            save(self.state, self.recipe, self.output / name)
        except OSError as error:
            self._failed = error
            self.journal.say(f"{name} could not be written ({error.strerror}); what stands there is from before")
            return False
        self._failed = None
        return True

    def finish(self) -> None:
        """Raise :class:`OSError` if the last checkpoint could not be written."""
        if self._failed is not None:
            raise self._failed
