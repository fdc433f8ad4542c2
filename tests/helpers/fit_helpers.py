"""A training so small that it takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
RECIPE = """
seed = 5

[network]
embed_dim = 32
depth = 3
num_heads = 2
mobilevit_head_dim = 8
image_width = 64

[data]
workers = 0

[augment]
per = "line"
elastic = 1.0

[optimizer]
batch = 4

[schedule]
iterations = 12
warm_up = 2
max_rate = 2e-3

[loss]
tcm_width = 16
guide = 4

[run]
validate_every = 5
save_every = 3
log_every = 2
threads = 1
tensorboard = false
"""


def write_data(folder: Path) -> Path:
    """Write eight lines, of which six are to learn from, and a recipe; return the recipe."""
    from helpers.drawn import draw_line

    (folder / "lines").mkdir(parents=True)
    names = []
    for number in range(8):
        text = ("ab cd", "bad", "cab")[number % 3] + "abcdef"[number % 6]
        draw_line(text, (80, 40)).save(folder / "lines" / f"{number}.png")
        (folder / "lines" / f"{number}.txt").write_text(text, encoding="utf-8")
        names.append(f"{number}.png\n")
    (folder / "train.ln").write_text("".join(names[:6]), encoding="utf-8")
    (folder / "val.ln").write_text("".join(names[6:]), encoding="utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("[data]", f"[data]\nroot = '{folder}'"), encoding="utf-8")
    return recipe


def command(recipe: Path, output: Path, *options: str) -> list[str]:
    return ["fit", str(recipe), "--output", str(output), *options]


def environment(**more: str) -> dict[str, str]:
    places = [ROOT / place for place in (".", "engines", "training", "benchmarks", "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "CUDA_VISIBLE_DEVICES": "", **more}


def start(arguments: Sequence[str], *, module: str = "htr_training.cli") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=environment(), stderr=subprocess.PIPE, text=True
    )


def read(path: Path) -> dict:
    from htr_export.checkpoint import read_checkpoint

    return dict(read_checkpoint(path).content)


def equal(one: object, other: object) -> bool:
    """Compare nested values, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other
