"""The search for the mixture of precisions that saves most and still reads as well."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.progress import SILENT
from htr_export.search.assembly import Move, assemble, merged, ordered
from htr_export.search.groups import REST, Group, find_groups
from htr_export.search.inputs import choose_lines, prepare_source, search_key
from htr_export.search.journal import Journal
from htr_export.search.lowering import Lowering
from htr_export.search.trial import Bench, Reader, plan_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from htr_engines.progress import Progress
    from htr_export.precision.precision_map import Precision, PrecisionPlan
    from htr_export.search.inputs import SearchLines, SearchRequest
    from htr_export.search.journal import Outcome, Part, Trial

GENTLER = (0.5, 0.25)  # shares of the moves that are tried as well, to fall back on
LEAST_SAVING = 0.01  # two measurements of one plan differ by as much
LOOKS = 3  # plans tried on the held-back lines; each look makes these a little less held back


@dataclass(frozen=True)
class Yardstick:
    """What a search asks of a plan."""

    request: SearchRequest
    float32_bytes: int  # of the float32 graph

    def cost(self, outcome: Outcome) -> float:
        """Return what a plan takes of that which is to be saved, as a share of what float32 takes."""
        return outcome.latency.score if self.request.aim == "time" else outcome.bytes / self.float32_bytes

    def increase(self, outcome: Outcome) -> float:
        """Return the points of CER that have to stay within the bound."""
        interval = outcome.cer_increase
        return interval.high if self.request.judge == "interval" else interval.estimate

    def holds(self, trial: Trial) -> bool:
        """Tell whether a plan's readings stay within the bound."""
        outcome = trial.outcome
        return outcome is not None and outcome.sound and self.increase(outcome) <= self.request.max_cer_increase

    def is_good(self, trial: Trial) -> bool:
        """Tell whether a plan stays within the bound and saves enough to be told from chance."""
        return self.holds(trial) and trial.outcome is not None and self.cost(trial.outcome) <= 1.0 - LEAST_SAVING

    def move_of(self, trial: Trial) -> Move:
        """Return a trial of one group as a move."""
        assert trial.outcome is not None
        ((group, precision),) = trial.lowered.items()
        return Move(group, precision, 1.0 - self.cost(trial.outcome), max(0.0, 1.0 - trial.outcome.cosine))


@dataclass(frozen=True)
class SearchResult:
    """All that was tried, and the plan that was found."""

    yardstick: Yardstick
    lines: SearchLines
    key: str
    groups: tuple[Group, ...]
    singles: tuple[Trial, ...]  # one group lowered at a time
    joints: tuple[Trial, ...]  # those that were put together from them, in the order in which they were tried
    confirmations: tuple[Trial, ...]  # on the held-back lines; the last one is of the plan that was found
    remembered: int  # trials that the journal held already
    plan: PrecisionPlan | None  # None where there is none; then ``reason`` says why
    reason: str | None = None

    @property
    def request(self) -> SearchRequest:
        """What was searched for."""
        return self.yardstick.request


def search(request: SearchRequest, progress: Progress = SILENT) -> SearchResult:
    """Find the plan that saves most, and whose increase in CER stays within the bound on lines that had no say in it.

    Each group is lowered alone, and its effect on readings, logits, time and size is measured. Groups that save most
    per damage to the logits are then lowered together, as many as stay within the bound. The best plans are tried on
    the held-back lines, at most :data:`LOOKS`, until one stays within the bound there as well.

    Every trial is written to the journal at once, and one that it holds is not repeated.

    Args:
        request: what to search for.
        progress: told the steps; counts the trials of single groups.

    Raises:
        HtrError: if an input cannot be used.
    """
    lines = choose_lines(request)
    with tempfile.TemporaryDirectory() as scratch:
        progress.step("Preparing the float32 graph")
        source = prepare_source(request.model, Path(scratch), request.tried)
        spec = source.preprocessing
        groups = find_groups(source.graph, spec.height, spec.width, request.groups)
        key = search_key(request, lines)
        journal = Journal(request.journal, key)
        reader = Reader(request.engine, request.threads, request.target != "tensorrt", source.charset, spec)
        lowering = Lowering(source, lines, request, journal, progress)
        with Bench(source.graph, reader, groups, lines.parts, lowering) as bench:
            trials = _Trials(bench, journal)
            singles = _try_alone(groups, request.tried, trials, progress)
            progress.step("Lowering groups together")
            yardstick = Yardstick(request, source.graph.stat().st_size)
            joints = _try_together(singles, yardstick, trials)
            progress.step("Proving on the held-back lines")
            confirmations = _confirm(joints, yardstick, trials)
    found = next((trial for trial in confirmations if yardstick.is_good(trial)), None)
    return SearchResult(
        yardstick,
        lines,
        key,
        tuple(groups),
        tuple(singles),
        tuple(joints),
        tuple(confirmations),
        trials.remembered,
        plan_of(found.lowered, groups) if found else None,
        None if found else _reason(confirmations, [*singles, *joints], yardstick),
    )


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
    progress.total(len(wanted))
    done = []
    for path, precision in wanted:
        progress.step(f"{path} in {precision}")
        done.append(trials.get({path: precision}, "measuring"))
        progress.advance()
    return done


def _try_together(singles: Sequence[Trial], yardstick: Yardstick, trials: _Trials) -> list[Trial]:
    """Assemble plans from the groups that hold the bound alone: first of those that save something, then of all."""
    tried: list[Trial] = []

    def ask(lowered: Mapping[str, Precision]) -> bool:
        trial = trials.get(lowered, "measuring")
        if trial not in tried:
            tried.append(trial)
        return yardstick.holds(trial)

    moves = ordered([yardstick.move_of(trial) for trial in singles if yardstick.holds(trial)])
    gaining = [move for move in moves if move.gain > 0]
    for chosen in (gaining, moves):
        taken = assemble(chosen, ask)
    for share in GENTLER:
        if gentler := taken[: int(share * len(taken))]:
            ask(merged(gentler))
    return tried


def _confirm(joints: Sequence[Trial], yardstick: Yardstick, trials: _Trials) -> list[Trial]:
    """Try the plans that save most on the held-back lines until one is good there."""

    def rank(trial: Trial) -> tuple[float, int]:
        assert trial.outcome is not None
        return yardstick.cost(trial.outcome), -len(trial.lowered)  # of two equals the one that lowers more

    good = sorted((trial for trial in joints if yardstick.is_good(trial)), key=rank)
    confirmations = []
    for trial in good[:LOOKS]:
        confirmations.append(trials.get(trial.lowered, "held back"))
        if yardstick.is_good(confirmations[-1]):
            break
    return confirmations


def _reason(confirmations: Sequence[Trial], tried: Sequence[Trial], yardstick: Yardstick) -> str:
    """Say in a sentence why there is no plan."""
    request = yardstick.request
    bound = f"the bound of {request.max_cer_increase:+g} points of CER"
    for trial in confirmations:
        if trial.outcome is not None and not yardstick.holds(trial):
            told = describe_increase(trial.outcome)
            return f"the best plan breaks {bound} on the held-back lines ({told}); give more lines or a wider bound"
    if confirmations:
        return f"no plan saves {request.aim} on the held-back lines; nothing can be lowered with gain"
    outcomes = [trial.outcome for trial in tried if trial.outcome is not None]
    if not outcomes:
        return f"nothing can be lowered: no lowered graph runs, the first because {tried[0].failure}"
    if any(yardstick.holds(trial) for trial in tried):
        sizes = "; --aim size looks for a smaller file instead" if request.aim == "time" else ""
        return (
            f"nothing can be lowered with gain: no plan within {bound} saves {request.aim} on {request.target}{sizes}"
        )
    least = min(outcomes, key=yardstick.increase)
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
