"""The search for the mix of precisions that saves most and still reads as well."""

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
from htr_export.search.lowering import SearchLowering
from htr_export.search.trial import Bench, Reader, map_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from htr_engines.progress import Progress
    from htr_export.precision.precision_map import Precision, PrecisionMap
    from htr_export.search.inputs import SearchLines, SearchRequest
    from htr_export.search.journal import Outcome, Part, Trial

FALLBACKS = (0.5, 0.25)  # shares of the moves that are tried as well
LEAST_SAVING = 0.01  # two measurements of one graph differ by as much
CONFIRMATIONS = 3  # maps tried on the held-back lines at most; each trial makes these a little less held back


@dataclass(frozen=True)
class Criteria:
    """What a search asks of a precision map."""

    request: SearchRequest
    float32_bytes: int  # of the float32 graph

    def cost(self, outcome: Outcome) -> float:
        """Return the time or size of a lowered graph, whichever is to be saved, as a share of float32's."""
        return outcome.latency.score if self.request.aim == "time" else outcome.bytes / self.float32_bytes

    def increase(self, outcome: Outcome) -> float:
        """Return the points of CER that have to stay within the bound."""
        interval = outcome.cer_increase
        return interval.high if self.request.judge == "interval" else interval.estimate

    def holds(self, trial: Trial) -> bool:
        """Return whether the readings stay within the bound."""
        outcome = trial.outcome
        return outcome is not None and outcome.sound and self.increase(outcome) <= self.request.max_cer_increase

    def is_good(self, trial: Trial) -> bool:
        """Return whether a trial stays within the bound and saves more than measurements scatter."""
        return self.holds(trial) and trial.outcome is not None and self.cost(trial.outcome) <= 1.0 - LEAST_SAVING

    def move_of(self, trial: Trial) -> Move:
        """Return a trial of one group as a move."""
        assert trial.outcome is not None
        ((group, precision),) = trial.lowered.items()
        return Move(group, precision, 1.0 - self.cost(trial.outcome), max(0.0, 1.0 - trial.outcome.cosine))


@dataclass(frozen=True)
class SearchResult:
    """All that was tried, and the precision map that was found."""

    criteria: Criteria
    lines: SearchLines
    key: str
    groups: tuple[Group, ...]
    single_trials: tuple[Trial, ...]  # one group lowered at a time
    combined_trials: tuple[Trial, ...]  # several groups lowered together, in the order in which they were tried
    confirmations: tuple[Trial, ...]  # on the held-back lines; the last one is of the map that was found
    reused: int  # trials that the journal held already
    precision_map: PrecisionMap | None  # None where there is none; then ``reason`` says why
    reason: str | None = None

    @property
    def request(self) -> SearchRequest:
        """What was searched for."""
        return self.criteria.request


def search(request: SearchRequest, progress: Progress = SILENT) -> SearchResult:
    """Find the precision map that saves most, and whose increase in CER stays within the bound on held-back lines.

    Each group is lowered alone, and its effect on readings, logits, time and size is measured. Groups that save most
    per damage to the logits are then lowered together, as many as stay within the bound. The best maps are tried on
    the held-back lines, at most :data:`CONFIRMATIONS`, until one stays within the bound there as well.

    Every trial is written to the journal at once, and one that it holds is not repeated.

    Raises:
        HtrError: if an input cannot be used.
    """
    lines = choose_lines(request)
    with tempfile.TemporaryDirectory() as scratch:
        progress.step("Preparing the float32 graph")
        source = prepare_source(request.model, Path(scratch), request.tried)
        spec = source.preprocessing
        groups = find_groups(source.float32, spec.height, spec.width, request.groups)
        key = search_key(request, lines)
        journal = Journal(request.journal, key)
        reader = Reader(request.engine, request.threads, request.target != "tensorrt", source.charset, spec)
        lowering = SearchLowering(source, lines, request, journal, progress)
        with Bench(source.float32, reader, groups, lines.parts, lowering, lines.calibration) as bench:
            trials = _Trials(bench, journal)
            single_trials = _try_single(groups, request.tried, trials, progress)
            progress.step("Lowering groups together")
            criteria = Criteria(request, source.float32.stat().st_size)
            combined_trials = _try_combined(single_trials, criteria, trials)
            progress.step("Proving on the held-back lines")
            confirmations = _confirm(combined_trials, criteria, trials)
    found = next((trial for trial in confirmations if criteria.is_good(trial)), None)
    return SearchResult(
        criteria,
        lines,
        key,
        tuple(groups),
        tuple(single_trials),
        tuple(combined_trials),
        tuple(confirmations),
        trials.reused,
        map_of(found.lowered, groups, lines.calibration) if found else None,
        None if found else _reason(confirmations, [*single_trials, *combined_trials], criteria),
    )


@dataclass
class _Trials:
    """Trials, from the journal where it holds them."""

    bench: Bench
    journal: Journal
    used: list[Trial] = field(default_factory=list)
    reused: int = 0  # of those, from an earlier run

    def get(self, lowered: Mapping[str, Precision], part: Part) -> Trial:
        trial = self.journal.find(lowered, part)
        if trial is None:
            trial = self.bench.try_lowered(lowered, part)
            self.journal.add(trial)
        elif trial not in self.used:
            self.reused += 1
        self.used.append(trial)
        return trial


def _try_single(
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


def _try_combined(single_trials: Sequence[Trial], criteria: Criteria, trials: _Trials) -> list[Trial]:
    """Combine the groups that hold the bound alone: first those that save something, then all."""
    tried: list[Trial] = []

    def ask(lowered: Mapping[str, Precision]) -> bool:
        trial = trials.get(lowered, "measuring")
        if trial not in tried:
            tried.append(trial)
        return criteria.holds(trial)

    moves = ordered([criteria.move_of(trial) for trial in single_trials if criteria.holds(trial)])
    gaining = [move for move in moves if move.gain > 0]
    for chosen in (gaining, moves):
        taken = assemble(chosen, ask)
    for share in FALLBACKS:
        if fewer := taken[: int(share * len(taken))]:
            ask(merged(fewer))
    return tried


def _confirm(combined_trials: Sequence[Trial], criteria: Criteria, trials: _Trials) -> list[Trial]:
    """Try the maps that save most on the held-back lines until one is good there."""

    def rank(trial: Trial) -> tuple[float, int]:
        assert trial.outcome is not None
        return criteria.cost(trial.outcome), -len(trial.lowered)  # of two equals the one that lowers more

    good = sorted((trial for trial in combined_trials if criteria.is_good(trial)), key=rank)
    confirmations = []
    for trial in good[:CONFIRMATIONS]:
        confirmations.append(trials.get(trial.lowered, "held back"))
        if criteria.is_good(confirmations[-1]):
            break
    return confirmations


def _reason(confirmations: Sequence[Trial], tried: Sequence[Trial], criteria: Criteria) -> str:
    """Say in a sentence why no precision map was found."""
    request = criteria.request
    bound = f"the bound of {request.max_cer_increase:+g} points of CER"
    for trial in confirmations:
        if trial.outcome is not None and not criteria.holds(trial):
            increase = describe_increase(trial.outcome)
            return f"the best map breaks {bound} on the held-back lines ({increase}); give more lines or a wider bound"
    if confirmations:
        return f"no map saves {request.aim} on the held-back lines; nothing can be lowered with gain"
    outcomes = [trial.outcome for trial in tried if trial.outcome is not None]
    if not outcomes:
        return f"nothing can be lowered: no lowered graph runs, the first because {tried[0].failure}"
    if any(criteria.holds(trial) for trial in tried):
        sizes = "; --aim size looks for a smaller file instead" if request.aim == "time" else ""
        return f"nothing can be lowered with gain: no map within {bound} saves {request.aim} on {request.target}{sizes}"
    least = min(outcomes, key=criteria.increase)
    advice = "give more lines or a wider bound"
    if request.judge == "interval":
        advice += ", or judge by the estimate"
    return f"nothing can be lowered: every group alone breaks {bound} (the least: {describe_increase(least)}); {advice}"


def describe_increase(outcome: Outcome) -> str:
    """Return the increase in CER with its interval, in words."""
    interval = outcome.cer_increase
    return f"{interval.estimate:+.3f} points, 95 % interval [{interval.low:+.3f}, {interval.high:+.3f}]"
