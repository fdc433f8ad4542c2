"""Trains size base on three data sets and takes SAM and the TCM away in turn, all in equal time.

    python training/study.py --data DATA --budget 25 --output runs/study --results training/results/study.json

DATA holds the folders copiste, dhsd and htromance. Every run gets the same share of the budget: a short probe measures
its speed, and its schedule is cut to the time. What is finished is written at once, so a study that is cut off leaves
its figures and its best weights; started again, it goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from htr_engines.console import HtrCommand
from htr_engines.environment import command_line, describe_environment
from htr_engines.errors import DataError
from htr_engines.files import write_text
from htr_export.checkpoint import read_checkpoint

SCHEMA_VERSION = 1
RECIPES = Path(__file__).parent / "recipes"
NO_SAM = "optimizer.sam_rho=0.0"
NO_TCM = "loss.tcm_weight=0.0"
SPARE = 0.8  # share of a run's time that its schedule is planned for; the rest is start, validation and saving


@dataclass(frozen=True)
class Run:
    """One training of the study."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()


RUNS = (
    Run("copiste", "copiste"),
    Run("copiste, no SAM", "copiste", (NO_SAM,)),
    Run("copiste, no TCM", "copiste", (NO_TCM,)),
    Run("copiste, neither", "copiste", (NO_SAM, NO_TCM)),
    Run("dhsd", "dhsd"),
    Run("htromance", "htromance"),
)


@click.command(cls=HtrCommand)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the data sets.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), required=True, help="Minutes for it all.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and logs.")
@click.option("--results", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
@click.option("--probe", type=click.IntRange(min=1), default=30, show_default=True, help="Iterations of a probe.")
@click.option("--set", "changes", multiple=True, help="Change a setting of every recipe.")
def main(data: Path, budget: float, output: Path, results: Path, probe: int, changes: tuple[str, ...]) -> None:
    """Train every run in an equal share of the budget and write what it reads."""
    end = time.monotonic() + 60 * budget
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": command_line(),
        "environment": describe_environment(),
        "units": {"rates": "fraction", "seconds": "s"},
        "runs": [],
    }
    for number, run in enumerate(RUNS):
        share = (end - time.monotonic()) / (len(RUNS) - number)
        document["runs"].append(_train(run, data, output, share, probe, changes))
        write_text(results, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
        click.echo(f"{run.name}: {document['runs'][-1]['result']}")


def _train(run: Run, data: Path, output: Path, seconds: float, probe: int, changes: tuple[str, ...]) -> dict[str, Any]:
    """Train one run within its time and return its figures."""
    start = time.monotonic()
    folder = output / run.name.replace(",", "").replace(" ", "-")
    settings = [f"data.root={data / run.recipe}", *run.changes, *changes]
    plan = folder / "plan.json"
    if plan.is_file():
        iterations = json.loads(plan.read_text(encoding="utf-8"))
    else:
        iterations = _plan(run, folder / "probe", settings, seconds, probe)
        write_text(plan, json.dumps(iterations))
    timing = [
        f"schedule.iterations={iterations}",
        f"schedule.warm_up={min(1000, iterations // 20)}",
        f"run.validate_every={max(1, iterations // 5)}",
        f"run.save_every={max(1, iterations // 10)}",
    ]
    ended = _fit(run, folder / "fit", [*settings, *timing], seconds - (time.monotonic() - start))
    return {**asdict(run), "iterations_planned": iterations, "ended": ended, "result": _result(folder / "fit")}


def _plan(run: Run, folder: Path, settings: list[str], seconds: float, probe: int) -> int:
    """Return how many iterations fit into ``seconds``, by the speed of a few."""
    start = time.monotonic()
    few = [
        f"schedule.iterations={probe}",
        "schedule.warm_up=0",
        f"run.log_every={max(1, probe // 3)}",
        f"run.validate_every={10 * probe}",
    ]
    _fit(run, folder, [*settings, *few], seconds / 2)
    records = _records(folder)
    if not records:
        raise DataError(
            f"{run.name}: not even a probe of {probe} iterations fits into {seconds / 2:.0f} s; add --budget"
        )
    args = read_checkpoint(folder / "last.pth").content["args"]
    per_second = records[-1]["lines_per_s"] / args["optimizer"]["batch"]
    return max(probe, int(SPARE * (seconds - (time.monotonic() - start)) * per_second))


def _fit(run: Run, folder: Path, settings: list[str], seconds: float) -> bool:
    """Run ``htr-train fit`` for at most ``seconds``; return whether it came to its end."""
    changes = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "htr_training.cli", "fit", str(RECIPES / f"{run.recipe}.toml"), *changes]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as log:
        training = [*command, "--output", str(folder), "--resume", "auto"]
        try:
            ended = subprocess.run(training, stdout=log, stderr=log, timeout=max(1.0, seconds), check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return False
    if ended.returncode:
        raise DataError(f"{run.name} failed; its reason stands in {folder / 'output.txt'}")
    return True


def _records(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


def _result(folder: Path) -> dict[str, Any] | None:
    """Return the best validation, or None if there was none."""
    best, records = folder / "best_CER.pth", _records(folder)
    if not best.is_file() or not records:
        return None
    checkpoint = read_checkpoint(best)
    return {
        "best_cer": checkpoint.number("best_cer"),
        "best_wer": checkpoint.number("best_wer"),
        "at_iteration": checkpoint.number("nb_iter"),
        "iterations": records[-1]["iteration"],
        "lines_per_s": records[-1]["lines_per_s"],
        "data_wait": records[-1]["data_wait"],
    }


if __name__ == "__main__":
    main()
