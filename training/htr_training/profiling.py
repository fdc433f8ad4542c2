"""Where the time of a training step goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from htr_engines.preprocess import Preprocessing
from htr_export.reporting import document, write_document
from htr_training import distributed
from htr_training.data import FittedLines, TrainingBatches, choose_charset, choose_order, load_batches, read_split
from htr_training.state import new_state
from htr_training.step import Stepper

if TYPE_CHECKING:
    from pathlib import Path

    from htr_training.recipe import Recipe

SCHEMA_VERSION = 1
PARTS = ("forward", "backward", "optimizer", "data")
WARM_UP = 1  # steps before the measured ones


@dataclass(frozen=True)
class Profile:
    """The time of an average step."""

    steps: int
    lines: int  # of a step
    seconds: float  # of a step
    shares: dict[str, float]  # of a step's time: forward, backward, optimizer, data and the rest


def measure(recipe: Recipe, steps: int) -> Profile:
    """Take ``steps`` training steps and sort their time.

    The two passes of SAM count as forward and backward; the moving average counts with the optimiser. On a GPU the
    parts are the time that their launching takes, and the rest is the wait for it.
    """
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    device = distributed.choose_device()
    split = read_split(recipe.data)
    charset = choose_charset(recipe.data, split)
    stepper = Stepper(recipe, new_state(recipe, charset, device))
    spec = Preprocessing(recipe.network.image_width, alpha=recipe.data.alpha)
    lines = FittedLines(split.train, spec, cache=recipe.data.cache)
    order = choose_order(recipe.data, split.train, recipe.seed)
    batches = TrainingBatches(
        lines, charset, recipe.augment, order, seed=recipe.seed, batch=recipe.optimizer.batch, width=recipe.data.width
    )
    loaded = load_batches(batches, range(WARM_UP + steps), recipe.data.workers, pin=device.type == "cuda")
    for _ in range(WARM_UP):
        stepper.step(next(loaded))
    _wait_for(device)
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            with record_function("data"):
                batch = next(loaded)
            stepper.step(batch)
            _wait_for(device)
    seconds = (time.perf_counter() - started) / steps
    totals = {event.key: event.cpu_time_total / 1e6 for event in recorded.key_averages()}
    shares = {part: totals.get(part, 0.0) / steps / seconds for part in PARTS}
    shares["rest"] = 1 - sum(shares.values())
    return Profile(steps, recipe.optimizer.batch, seconds, shares)


def to_document(result: Profile, recipe: Recipe) -> dict[str, Any]:
    """Return the profile with all that it depends on."""
    content = {
        "recipe": recipe.to_dict(),
        "steps": result.steps,
        "lines_per_step": result.lines,
        "seconds_per_step": result.seconds,
        "lines_per_s": result.lines / result.seconds,
        "shares": result.shares,
    }
    units = {"seconds_per_step": "s", "lines_per_s": "1/s", "shares": "fraction of a step's time"}
    return document("htr-train profile", content, units=units, schema_version=SCHEMA_VERSION)


def write_profile(path: Path, result: Profile, recipe: Recipe) -> None:
    """Write the profile as JSON."""
    write_document(path, to_document(result, recipe))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
