"""Measures targets against each other, interleaved so that a noisy machine hits all alike."""

from __future__ import annotations

import gc
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from htr_bench.alone import Peak, Request, run_alone
from htr_bench.artefacts import Artefact, common_preprocessing, describe
from htr_bench.timing import MAX_VARIATION, Timing, is_stable, summarise, trimmed_variation
from htr_bench.workload import Workload, prepare_workload
from htr_engines.backends.base import infer_lines
from htr_engines.charset import Charset
from htr_engines.errors import HtrError
from htr_engines.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from htr_bench.targets import Target
    from htr_engines.backends.base import Engine, EngineInfo
    from htr_engines.progress import Progress

Scope = Literal["engine", "end to end"]

SCOPES: tuple[Scope, ...] = ("engine", "end to end")
Clock = Literal["wall", "cpu"]
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
TURN_S = 0.2  # of calls before the turn of the next target
MAX_EXTENSION = 2  # times the minimums, while a measurement is still unstable
PRIVATE_USE = 0xE000  # first of the code points used for unknown characters


@dataclass(frozen=True)
class LatencyOptions:
    """How long and on what to measure."""

    batches: tuple[int, ...] = (1, 8)
    scopes: tuple[Scope, ...] = SCOPES
    warmup: float = 0.5  # seconds per measurement, at least one call
    duration: float = 3.0  # seconds of measured calls per measurement, at least
    iterations: int = 10  # measured calls per measurement, at least
    threads: int | None = None
    lines_dir: Path | None = None  # None: a drawn line
    max_variation: float = MAX_VARIATION
    clock: Clock = "wall"  # "cpu": the processor's time for this process, which other programs do not touch
    seed: int = 2512  # of the order of turns


@dataclass(frozen=True)
class Measurement:
    """One target at one batch size, the engine alone or from image file to text."""

    batch: int
    scope: Scope
    seconds: tuple[float, ...]  # of each call
    timing: Timing
    stable: bool


@dataclass(frozen=True)
class TargetResult:
    """All that was measured of a target; a target that fails keeps what it had and the reason."""

    target: Target
    artefact: Artefact
    info: EngineInfo | None = None
    peaks: dict[int, Peak] = field(default_factory=dict)  # by batch size
    measurements: tuple[Measurement, ...] = ()
    failure: str | None = None


@dataclass
class _Cell:
    """What is measured in turns: a call of one target."""

    target: int
    batch: int
    scope: Scope
    call: Callable[[], object]
    seconds: list[float] = field(default_factory=list)

    def done(self, options: LatencyOptions, factor: int = 1) -> float:
        """Return how much of its minimums is reached, 1 for all."""
        calls = len(self.seconds) / (factor * options.iterations)
        return min(1.0, calls, sum(self.seconds) / (factor * options.duration) if options.duration else 1.0)


def measure(
    targets: Sequence[Target],
    options: LatencyOptions,
    progress: Progress = SILENT,
) -> list[TargetResult]:
    """Measure all targets; one that fails costs its own result only.

    Each is first run alone in a process of its own, which gives its peak memory and shields this one from
    those that crash. Then all are opened here and measured in turns.

    Raises:
        DataError: if ``lines_dir`` holds no line that can be read.
    """
    artefacts = {target.path: describe(target.path) for target in targets}
    results = [
        TargetResult(replace(target, sha256=target.sha256 or artefacts[target.path].sha256), artefacts[target.path])
        for target in targets
    ]
    preprocessing = common_preprocessing(result.artefact for result in results)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as engines:
        workload = prepare_workload(options.lines_dir, Path(scratch), max(options.batches), preprocessing)
        for number, result in enumerate(results):
            progress.step(f"{result.target.path.name} in a process of its own")
            results[number] = _try_alone(result, workload, options)
        cells: list[_Cell] = []
        for number, result in enumerate(results):
            if result.failure is None:
                progress.step(f"opening {result.target.path.name}")
                results[number], opened = _prepare(number, result, workload, options, engines)
                cells += opened
        failures = _measure_in_turns(cells, options, progress)
        for number, reason in failures.items():
            results[number] = replace(results[number], failure=reason)
    return [_collect(result, number, cells, options) for number, result in enumerate(results)]


def _try_alone(result: TargetResult, workload: Workload, options: LatencyOptions) -> TargetResult:
    height, width = workload.images.shape[2:]
    target, peaks = result.target, {}
    try:
        for batch in options.batches:
            request = Request(str(target.path), target.engine, target.sha256, options.threads, batch, height, width)
            peaks[batch] = run_alone(request)
    except HtrError as error:
        return replace(result, failure=str(error), peaks=peaks)
    return replace(result, peaks=peaks)


def _prepare(
    number: int, result: TargetResult, workload: Workload, options: LatencyOptions, engines: ExitStack
) -> tuple[TargetResult, list[_Cell]]:
    try:
        engine = engines.enter_context(result.target.open(options.threads))
        classes = infer_lines(engine, workload.batch(1)).shape[2]
    except HtrError as error:
        return replace(result, failure=str(error)), []
    # Where the characters are not known, stand-ins take as long to decode.
    stand_ins = "".join(chr(PRIVATE_USE + index) for index in range(classes - 1))
    charset = result.artefact.charset or Charset(stand_ins)
    cells = [
        _Cell(number, batch, scope, _call(engine, workload, charset, batch, scope))
        for batch in options.batches
        for scope in options.scopes
    ]
    return replace(result, info=engine.info), cells


def _call(engine: Engine, workload: Workload, charset: Charset, batch: int, scope: Scope) -> Callable[[], object]:
    if scope == "end to end":
        return lambda: workload.read(engine, charset, batch)
    image_N1HW = workload.batch(batch)
    return lambda: infer_lines(engine, image_N1HW)


def _measure_in_turns(cells: list[_Cell], options: LatencyOptions, progress: Progress) -> dict[int, str]:
    """Fill the cells; return the reasons of the targets that failed on the way."""
    failures: dict[int, str] = {}
    random = np.random.default_rng(options.seed)
    gc.collect()
    gc.disable()  # as timeit does: a collection would hit whoever's turn it is
    try:
        progress.step("warming up")
        for cell in cells:
            _turn(cell, options.warmup, failures, CLOCKS[options.clock], record=False)
        progress.step("measuring in turns")
        progress.total(100)
        shown = 0
        while running := [cell for cell in cells if cell.target not in failures]:
            done = min(cell.done(options) for cell in running)
            progress.advance(round(100 * done) - shown)
            shown = round(100 * done)
            if done >= 1 and not _worth_more(running, options):
                break
            for index in random.permutation(len(running)):
                _turn(running[index], TURN_S, failures, CLOCKS[options.clock], record=True)
    finally:
        gc.enable()
    return failures


def _worth_more(cells: list[_Cell], options: LatencyOptions) -> bool:
    """Tell whether something scatters too much and still has patience left."""
    return any(
        cell.done(options, MAX_EXTENSION) < 1 and not is_stable(trimmed_variation(cell.seconds), options.max_variation)
        for cell in cells
    )


def _turn(cell: _Cell, seconds: float, failures: dict[int, str], clock: Callable[[], float], *, record: bool) -> None:
    """Call for a while, at least once.

    Another engine has just emptied the caches, and its threads may still spin. So a turn begins with a call
    that is not counted, unless calls are so long that this neither matters nor is cheap.
    """
    if cell.target in failures:
        return
    try:
        if record and cell.seconds and cell.seconds[-1] < seconds / 4:
            cell.call()
        end = clock() + seconds
        while True:
            began = clock()
            cell.call()
            ended = clock()
            if record:
                cell.seconds.append(ended - began)
            if ended >= end:
                return
    except HtrError as error:
        failures[cell.target] = str(error)


def _collect(result: TargetResult, number: int, cells: list[_Cell], options: LatencyOptions) -> TargetResult:
    measurements = []
    for cell in cells:
        if cell.target == number and cell.seconds:
            timing = summarise(cell.seconds, cell.batch)
            stable = is_stable(timing.variation, options.max_variation)
            measurements.append(Measurement(cell.batch, cell.scope, tuple(cell.seconds), timing, stable))
    return replace(result, measurements=tuple(measurements))
