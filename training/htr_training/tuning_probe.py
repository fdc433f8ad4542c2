"""Takes a training step whenever it is asked to and prints its seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from htr_engines.charset import Charset
from htr_training.data import Batch
from htr_training.recipe_file import read_recipe
from htr_training.state import new_state
from htr_training.step import Stepper

if TYPE_CHECKING:
    from htr_training.recipe import Recipe

CHARACTERS = Charset("".join(map(chr, range(256, 356))))
PIXELS_PER_CHARACTER = 16
WARM_UP = 1  # steps


def main(path: str, *changes: str) -> None:
    """Say ``ready``; then answer each line of standard input with a step's seconds."""
    recipe = read_recipe(Path(path), changes)
    if recipe.run.threads:
        torch.set_num_threads(recipe.run.threads)
    stepper = Stepper(recipe, new_state(recipe, CHARACTERS, torch.device("cpu")))
    batch = random_batch(recipe)
    for _ in range(WARM_UP):
        stepper.step(batch)
    click.echo("ready")
    for _ in sys.stdin:
        started = time.perf_counter()
        stepper.step(batch)
        click.echo(time.perf_counter() - started)


def random_batch(recipe: Recipe) -> Batch:
    """Return noise of the recipe's size, with as much text as lines of that width hold."""
    lines, width = recipe.optimizer.batch, recipe.network.image_width
    length = max(1, width // PIXELS_PER_CHARACTER)
    images_N1HW = torch.randint(0, 256, (lines, 1, 64, width), dtype=torch.uint8)
    target_NS = torch.randint(1, CHARACTERS.num_classes, (lines, length))
    return Batch(images_N1HW, target_NS, torch.full((lines,), length))


if __name__ == "__main__":
    main(*sys.argv[1:])
