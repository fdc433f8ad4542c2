"""Trains size base on three data sets and takes SAM and the TCM away in turn, all in equal time.

    python training/study.py --data DATA --budget 25 --output runs/study --results training/results/study.json

DATA holds the folders copiste, dhsd and htromance. Every run gets the same share of the budget: a short probe measures
its speed, and its schedule is cut to the time. What is finished is written at once, so a study that is cut off leaves
its figures and its best weights; started again, it goes on where it was.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from htr_engines.console import HtrCommand, echo
from htr_engines.errors import DataError
from htr_engines.files import write_text
from htr_engines.options import ANY_PATH
from htr_export.reporting import document, write_document

SCHEMA_VERSION = 1
RECIPES = Path(__file__).parent / "recipes"
TRAINER = (sys.executable, "-m", "htr_training.cli", "fit")
NO_SAM = "optimizer.sam_rho=0.0"
NO_TCM = "loss.tcm_weight=0.0"
NOT_TUNED = "run.tune=false"  # the time of a run is planned for its steps
PLANNED_SHARE = 0.8  # of the time left for iterations; the rest allows for variation
PROBE = 30  # iterations that measure the speed of a run
VALIDATIONS = 5
CHECKPOINTS = 10
STOP_TIMEOUT_S = 10.0  # seconds that a training gets to stop by itself


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
@click.option("--data", type=ANY_PATH, required=True, help="Folder of the data sets.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), required=True, help="Minutes for it all.")
@click.option("--output", type=ANY_PATH, required=True, help="Folder for checkpoints and logs.")
@click.option("--results", type=ANY_PATH, required=True, help="JSON file to write.")
@click.option("--set", "changes", multiple=True, help="Change a setting of every recipe.")
def main(data: Path, budget: float, output: Path, results: Path, changes: tuple[str, ...]) -> None:
    """Train every run in an equal share of the budget and write what it reads.

    A run that fails is recorded with its reason, and the next one begins.
    """
    end = time.monotonic() + 60 * budget
    figures = _figures_so_far(results)
    failed = []
    for number, run in enumerate(RUNS):
        share = (end - time.monotonic()) / (len(RUNS) - number)
        folder = output / run.name.replace(",", "").replace(" ", "-")
        settings = [f"data.root={data / run.recipe}", NOT_TUNED, *run.changes, *changes]
        ended, error = False, None
        try:
            ended = _train(run, folder, settings, share)
        except DataError as reason:
            error = str(reason)
            failed.append(run.name)
        finally:
            figures[run.name] = {**asdict(run), "ended": ended, "error": error, **_result(folder)}
            _write(results, figures)
        echo(f"{run.name}: {error or figures[run.name]['best_cer']}")
    if failed:
        raise DataError(f"failed: {'; '.join(failed)}; the reasons are in {results}")


def _figures_so_far(results: Path) -> dict[str, dict[str, Any]]:
    """Return the runs of an earlier study by name, so that one that is cut off early loses none of them."""
    if not results.is_file():
        return {}
    earlier = json.loads(results.read_text(encoding="utf-8"))
    return {run["name"]: run for run in earlier["runs"]}


def _write(results: Path, figures: dict[str, dict[str, Any]]) -> None:
    units = {"best_cer": "fraction", "best_wer": "fraction", "lines_per_s": "1/s", "data_wait": "fraction"}
    runs = [figures[run.name] for run in RUNS if run.name in figures]
    write_document(results, document("htr-train study", {"runs": runs}, units=units, schema_version=SCHEMA_VERSION))


def _train(run: Run, folder: Path, settings: list[str], seconds: float) -> bool:
    """Train one run within its time; return whether it came to the end of its schedule."""
    start = time.monotonic()
    plan = folder / "plan.json"
    if plan.is_file():
        iterations = json.loads(plan.read_text(encoding="utf-8"))
    else:
        iterations = _plan(run, folder / "probe", settings, seconds)
        write_text(plan, json.dumps(iterations))
    timing = [
        f"schedule.iterations={iterations}",
        f"schedule.warm_up={min(1000, iterations // 20)}",
        f"run.validate_every={max(1, iterations // VALIDATIONS)}",
        f"run.save_every={max(1, iterations // CHECKPOINTS)}",
    ]
    return _fit(run, folder / "fit", [*settings, *timing], seconds - (time.monotonic() - start))


def _plan(run: Run, folder: Path, settings: list[str], seconds: float) -> int:
    """Return how many iterations fit into ``seconds``, by the speed of a few and what comes on top of them."""
    from htr_training.recipe_file import read_recipe  # PyTorch comes with it

    start = time.monotonic()
    few = [
        f"schedule.iterations={PROBE}",
        "schedule.warm_up=0",
        f"run.log_every={max(1, PROBE // 3)}",
        f"run.validate_every={10 * PROBE}",
    ]
    _fit(run, folder, [*settings, *few], seconds / 2)
    speeds = [record["lines_per_s"] for record in _records(folder) if record["kind"] == "train"]
    if not speeds:
        raise DataError(
            f"{run.name}: not even a probe of {PROBE} iterations fits into {seconds / 2:.0f} s; add --budget"
        )
    per_second = speeds[-1] / read_recipe(_recipe(run), settings).optimizer.batch
    spent = time.monotonic() - start
    on_top = max(0.0, spent - PROBE / per_second)  # start, one validation and its checkpoints
    return max(PROBE, int(PLANNED_SHARE * (seconds - spent - on_top) * per_second))


def _recipe(run: Run) -> Path:
    return RECIPES / f"{run.recipe}.toml"


def _fit(run: Run, folder: Path, settings: list[str], seconds: float) -> bool:
    """Run ``htr-train fit`` for at most ``seconds``; return whether it came to its end."""
    changes = [part for setting in settings for part in ("--set", setting)]
    training = [*TRAINER, str(_recipe(run)), *changes, "--output", str(folder), "--resume", "auto"]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603
            training,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt of the terminal is for this process, which passes it on
        )
        try:
            process.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        finally:
            _stop(process)
    if process.returncode:
        raise DataError(f"{run.name} failed; its reason stands in {folder / 'output.txt'}")
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a training that still runs, so that it removes a checkpoint that is half written if it can."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _records(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a training's log; the last one may have been cut off."""
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _result(folder: Path) -> dict[str, Any]:
    """Return the figures of a run by its log, None for what it did not come to."""
    plan = folder / "plan.json"
    records = _records(folder / "fit")
    trained = [record for record in records if record["kind"] == "train"]
    read = [record for record in records if record["kind"] == "val"]
    best = min(read, key=lambda record: record["cer"], default=None)
    last = trained[-1] if trained else None
    return {
        "iterations_planned": json.loads(plan.read_text(encoding="utf-8")) if plan.is_file() else None,
        "iterations": last and last["iteration"],
        "best_cer": best and best["cer"],
        "best_wer": min((record["wer"] for record in read), default=None),
        "at_iteration": best and best["iteration"],
        "lines_per_s": last and last["lines_per_s"],
        "data_wait": last and last["data_wait"],
    }


if __name__ == "__main__":
    main()
