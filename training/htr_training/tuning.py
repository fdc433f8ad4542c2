"""Which environment variables make training faster on this machine: measured before a training on a CPU begins.

glibc's allocator returns large tensors to the system and asks for them again at every step; thresholds make it keep
them. OpenMP's threads spin while they wait, which helps on a quiet machine and hurts where others want the processor.
Neither changes what is computed.
"""

from __future__ import annotations

import itertools
import math
import os
import platform
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from htr_engines.console import show_progress
from htr_training.distributed import choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from htr_training.recipe import Recipe

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "16000000000"}
WAIT_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
CANDIDATES: tuple[Mapping[str, str], ...] = ({}, KEEP_MEMORY, WAIT_ASLEEP, {**KEEP_MEMORY, **WAIT_ASLEEP})
RESULT = "HTR_TRAIN_TUNING"  # the variable that tells the restarted process what was found
WORTHWHILE = 1000  # iterations from which the measurement pays
GAIN = 1.03  # times as fast, below which nothing is set
BUDGET_S = 15.0  # for the measured steps; starting the processes comes on top
MAX_ROUNDS = 7


@dataclass(frozen=True)
class Tuning:
    """What was measured."""

    variables: Mapping[str, str]  # to set; none if none helps
    ratio: float  # how many times as fast as without them

    @property
    def note(self) -> str:
        """One sentence for the log."""
        if not self.variables:
            return "neither malloc thresholds nor OMP_WAIT_POLICY make a step faster on this machine; none is set"
        names = " ".join(f"{name}={value}" for name, value in self.variables.items())
        return f"a step is {self.ratio:.2f} times as fast with {names}, so these are set (run.tune = false: never)"


def restart_if_faster(recipe: Recipe, path: Path, changes: Sequence[str]) -> str | None:
    """Measure, and start this command again with the variables that help.

    Does not return then. Otherwise returns what to log: what the process before this one found, or that nothing helps.
    """
    if found := os.environ.pop(RESULT, None):
        return found
    if not is_worthwhile(recipe, os.environ):
        return None
    with show_progress("measuring which environment variables help"):
        tuning = choose(measure(path, changes))
    if tuning is not None and tuning.variables:
        os.environ.update(tuning.variables, **{RESULT: tuning.note})
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    return tuning.note if tuning else None


def is_worthwhile(recipe: Recipe, environment: Mapping[str, str]) -> bool:
    """Say whether to measure: not on a GPU, for short trainings, several processes, or with variables of one's own."""
    chosen = {"GOMP_SPINCOUNT", "KMP_BLOCKTIME", "LD_PRELOAD", *KEEP_MEMORY, *WAIT_ASLEEP} & set(environment)
    suits = sys.platform == "linux" and platform.libc_ver()[0] == "glibc" and "RANK" not in environment
    worth = recipe.run.tune and recipe.schedule.iterations >= WORTHWHILE
    return worth and suits and not chosen and choose_device().type == "cpu"


def choose(times: Sequence[Sequence[float]]) -> Tuning | None:
    """Return the candidate with the least median time, if it gains enough."""
    if not times:
        return None
    medians = [median(steps) for steps in times]
    best = medians.index(min(medians))
    ratio = medians[0] / medians[best]
    return Tuning(CANDIDATES[best], ratio) if ratio >= GAIN else Tuning({}, 1.0)


def measure(path: Path, changes: Sequence[str]) -> list[list[float]]:
    """Return the seconds of training steps under each of CANDIDATES, taken in turn so that all meet the same noise.

    Returns:
        Nothing if a process fails: the training will say why.
    """
    command = [sys.executable, "-m", "htr_training.tuning_probe", str(path), *changes]
    times: list[list[float]] = [[] for _ in CANDIDATES]
    with ExitStack() as stack:
        probes = [stack.enter_context(_probe(command, variables)) for variables in CANDIDATES]
        if any(_line(probe) != "ready" for probe in probes):
            return []
        for _ in _rounds():
            for probe, seconds in zip(probes, times, strict=True):
                seconds.append(_step(probe))
    return times if all(map(math.isfinite, itertools.chain(*times))) else []


def _step(probe: subprocess.Popen[str]) -> float:
    """Return the seconds of a step, infinity from a process that has died."""
    try:
        if probe.stdin:
            print("step", file=probe.stdin, flush=True)
    except BrokenPipeError:
        return math.inf
    return float(_line(probe) or "inf")


def _rounds() -> Iterator[int]:
    started = time.monotonic()
    for number in itertools.count():
        if number and (number == MAX_ROUNDS or time.monotonic() - started > BUDGET_S):
            return
        yield number


def _probe(command: list[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        command,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _line(probe: subprocess.Popen[str]) -> str:
    return probe.stdout.readline().strip() if probe.stdout else ""
