"""The search for the fastest mixture of precisions that still reads as well."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from htr_export.precision.search_assembly import Move, assemble, ordered
from htr_export.precision.search_groups import REST, Group, find_groups
from htr_export.precision.search_inputs import calibration_key, choose_lines, prepare_source, search_key
from htr_export.precision.search_journal import Journal
from htr_export.precision.sensitivity import Bench, Reader, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from htr_engines.lines import Line
    from htr_export.precision.plan import Precision, PrecisionPlan
    from htr_export.precision.search_inputs import SearchLines, SearchRequest, Source
    from htr_export.precision.search_journal import Outcome, Part, Trial

RANGE_LINES = 50
CALIBRATION_LINES = 500
LOOKS = 3  # plans tried on the held-back lines; each look makes these a little less held back


@dataclass(frozen=True)
class Progress:
    """Whom a search tells how far it is."""

    on_step: Callable[[str], None] = lambda _: None
    on_groups: Callable[[int], None] = lambda _: None  # how many trials of single groups there are
    on_trial: Callable[[], None] = lambda: None  # one of them is done


@dataclass(frozen=True)
class SearchResult:
    """All that was tried, and the plan that was found."""

    request: SearchRequest
    lines: SearchLines
    key: str
    groups: tuple[Group, ...]
    singles: tuple[Trial, ...]  # one group lowered at a time
    joints: tuple[Trial, ...]  # several, in the order in which they were tried
    confirmations: tuple[Trial, ...]  # on the held-back lines; the last one is of the plan that was found
    remembered: int  # trials that the journal held already
    plan: PrecisionPlan | None  # None where there is none; then ``reason`` says why
    reason: str | None = None


def search(request: SearchRequest, progress: Progress | None = None) -> SearchResult:
    """Find the fastest plan whose increase in CER stays within the bound on lines that had no say in it.

    Each group is lowered alone, and its effect on readings, logits and time is measured. Groups that save most time per
    damage to the logits are then lowered together, as many as stay within the bound. The fastest plans are tried on the
    held-back lines, at most :data:`LOOKS`, until one stays within the bound there as well.

    Every trial is written to the journal at once, and one that it holds is not repeated.

    Args:
        request: what to search for.
        progress: told how far the search is.

    Raises:
        HtrError: if an input cannot be used.
    """
    progress = progress or Progress()
    lines = choose_lines(request)
    with tempfile.TemporaryDirectory() as scratch:
        progress.on_step("Preparing the float32 graph")
        source = prepare_source(request.model, Path(scratch), request.tried)
        spec = source.preprocessing
        groups = find_groups(source.graph, spec.height, spec.width, request.groups)
        key = search_key(request, lines)
        journal = Journal(request.journal, key)
        reader = Reader(request.engine, request.threads, request.target != "tensorrt", source.charset, spec)
        lowering = Lowering(source, lines, request, journal, progress.on_step)
        with Bench(source.graph, reader, groups, lines.parts, lowering) as bench:
            trials = _Trials(bench, journal)
            singles = _try_alone(groups, request.tried, trials, progress)
            progress.on_step("Lowering groups together")
            joints = _try_together(singles, request, trials)
            progress.on_step("Proving on the held-back lines")
            confirmations = _confirm([*singles, *joints], request, trials)
    found = next((trial for trial in confirmations if is_good(trial, request)), None)
    return SearchResult(
        request,
        lines,
        key,
        tuple(groups),
        tuple(singles),
        tuple(joints),
        tuple(confirmations),
        trials.remembered,
        plan_of(found.lowered, groups) if found else None,
        None if found else _reason(confirmations, [*singles, *joints], request),
    )


def holds(trial: Trial, request: SearchRequest) -> bool:
    """Tell whether a plan's readings stay within the bound."""
    outcome = trial.outcome
    return outcome is not None and outcome.sound and _increase(outcome, request) <= request.max_cer_increase


def is_good(trial: Trial, request: SearchRequest) -> bool:
    """Tell whether a plan stays within the bound and saves time."""
    return holds(trial, request) and trial.outcome is not None and trial.outcome.latency.ratio < 1.0


@dataclass
class Lowering:
    """Writes the graphs of plans. Ranges and calibration are measured when the first plan needs them."""

    source: Source
    lines: SearchLines
    request: SearchRequest
    journal: Journal
    on_step: Callable[[str], None] = lambda _: None

    def __call__(self, plan: PrecisionPlan, target: Path) -> None:
        """Write the graph of a plan."""
        from htr_export.precision.lowering import lower

        lower(
            self.source.graph,
            target,
            plan,
            ranges=self._ranges if "fp16" in plan.precisions else None,
            calibration=self._calibration if "int8" in plan.precisions else None,
        )

    @cached_property
    def _ranges(self) -> Mapping[str, float]:
        from htr_export.precision.ranges import measure_ranges

        def measure() -> Mapping[str, float]:
            self.on_step(f"Measuring the range of every node on {RANGE_LINES} lines")
            return measure_ranges(source.graph, self._chosen(RANGE_LINES), source.preprocessing, source.batch)

        source = self.source
        return self.journal.recall(f"ranges {calibration_key(self.request, self.lines)}", measure)

    @cached_property
    def _calibration(self) -> Mapping[str, float]:
        from htr_export.precision.calibration import calibrate

        def measure() -> Mapping[str, float]:
            lines = self._chosen(CALIBRATION_LINES)
            self.on_step(f"Calibrating on {len(lines)} lines")
            return calibrate(source.graph, lines, source.preprocessing, self.request.calibration, batch=source.batch)

        source = self.source
        return self.journal.recall(f"calibration {calibration_key(self.request, self.lines)}", measure)

    def _chosen(self, count: int) -> list[Line]:
        """Draw lines by the seed, so that they are of all writers."""
        calibration = self.lines.calibration
        drawn = np.random.default_rng(self.request.seed).permutation(len(calibration))[:count]
        return [calibration[index] for index in sorted(drawn)]


@dataclass
class _Trials:
    """Trials, from the journal where it holds them."""

    bench: Bench
    journal: Journal
    used: list[Trial] = field(default_factory=list)
    remembered: int = 0  # of those, from an earlier run

    def get(self, lowered: Mapping[str, Precision], part: Part) -> Trial:
        trial = self.journal.find(lowered, part)
        if trial is None:
            trial = self.bench.try_plan(lowered, part)
            self.journal.add(trial)
        elif trial not in self.used:
            self.remembered += 1
        self.used.append(trial)
        return trial


def _try_alone(
    groups: Sequence[Group], precisions: Sequence[Precision], trials: _Trials, progress: Progress
) -> list[Trial]:
    wanted = [
        (group.path, precision)
        for group in groups
        for precision in precisions
        if group.path != REST or precision != "int8"  # it has neither convolutions nor linear layers
    ]
    progress.on_groups(len(wanted))
    done = []
    for path, precision in wanted:
        progress.on_step(f"{path} in {precision}")
        done.append(trials.get({path: precision}, "measuring"))
        progress.on_trial()
    return done


def _try_together(singles: Sequence[Trial], request: SearchRequest, trials: _Trials) -> list[Trial]:
    """Assemble plans from the groups that hold the bound alone: first of those that save time, then of all."""
    tried: list[Trial] = []

    def ask(lowered: Mapping[str, Precision]) -> bool:
        trial = trials.get(lowered, "measuring")
        if trial not in tried and len(lowered) > 1:
            tried.append(trial)
        return holds(trial, request)

    moves = ordered([move_of(trial) for trial in singles if holds(trial, request)])
    gaining = [move for move in moves if move.gain > 0]
    for chosen in (gaining, moves):
        assemble(chosen, ask)
    return tried


def move_of(trial: Trial) -> Move:
    """Return a trial of one group as a move."""
    assert trial.outcome is not None
    ((group, precision),) = trial.lowered.items()
    return Move(group, precision, 1.0 - trial.outcome.latency.ratio, max(0.0, 1.0 - trial.outcome.cosine))


def _confirm(tried: Sequence[Trial], request: SearchRequest, trials: _Trials) -> list[Trial]:
    """Try the fastest plans on the held-back lines until one is good there."""
    good = [(trial.outcome.latency.ratio, trial) for trial in tried if trial.outcome and is_good(trial, request)]
    confirmations = []
    for _, trial in sorted(good, key=lambda pair: pair[0])[:LOOKS]:
        confirmations.append(trials.get(trial.lowered, "held back"))
        if is_good(confirmations[-1], request):
            break
    return confirmations


def _increase(outcome: Outcome, request: SearchRequest) -> float:
    interval = outcome.cer_increase
    return interval.high if request.judge == "interval" else interval.estimate


def _reason(confirmations: Sequence[Trial], tried: Sequence[Trial], request: SearchRequest) -> str:
    """Say in a sentence why there is no plan."""
    bound = f"the bound of {request.max_cer_increase:+g} points of CER"
    for trial in confirmations:
        if trial.outcome is not None and not holds(trial, request):
            told = describe_increase(trial.outcome)
            return f"the best plan breaks {bound} on the held-back lines ({told}); give more lines or a wider bound"
    if confirmations:
        return "no plan saves time on the held-back lines; nothing can be lowered with gain"
    outcomes = [trial.outcome for trial in tried if trial.outcome is not None]
    if not outcomes:
        return f"nothing can be lowered: no graph runs on {request.engine}, the first because {tried[0].failure}"
    if any(holds(trial, request) for trial in tried):
        return f"nothing can be lowered with gain: no plan within {bound} is faster than float32 on {request.target}"
    least = min(outcomes, key=lambda outcome: _increase(outcome, request))
    advice = "give more lines or a wider bound"
    if request.judge == "interval":
        advice += ", or judge by the estimate"
    return (
        f"nothing can be lowered: every group alone breaks {bound} (the gentlest: {describe_increase(least)}); {advice}"
    )


def describe_increase(outcome: Outcome) -> str:
    """Return the increase in CER with its interval, in words."""
    interval = outcome.cer_increase
    return f"{interval.estimate:+.3f} points, 95 % interval [{interval.low:+.3f}, {interval.high:+.3f}]"
