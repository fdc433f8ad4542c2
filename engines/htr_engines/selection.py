"""Which model of a bundle reads on this machine, by which engine, and why.

Every pair of a model and an engine that can run it is a candidate. They are ordered, and the first that opens is used:

1. pairs that a validation passed come first, then models that passed on another engine, then all others;
2. then the faster comes first, by the ranks that the backends state;
3. pairs whose latency the bundle carries for the same hardware are ordered by it.

So the fastest proven engine is used, and an unproven one only where no proven one runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.backends import backends, open_engine
from htr_engines.bundle import NOT_VALIDATED
from htr_engines.errors import BundleError, EngineError, HtrError, MissingExtraError
from htr_engines.host import describe_environment, hardware_of, physical_cores

if TYPE_CHECKING:
    from collections.abc import Iterable

    from htr_engines.backends.base import Engine
    from htr_engines.bundle import Bundle, BundledModel


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a key
class Candidate:
    """A model and an engine that could run it."""

    model: BundledModel
    engine: str
    bundle: Bundle

    def __str__(self) -> str:
        return f"{self.engine} with {self.model.file.name}"

    @property
    def doubt(self) -> int:
        """0 if the pair is proven, 1 if the model is with another engine, 2 if it is not."""
        return 0 if self.engine in self.model.verdicts else 1 if self.model.verdicts else 2

    @property
    def verdict(self) -> str:
        """The verdict on the pair, or that there is none."""
        if self.doubt == 1:
            return f"{NOT_VALIDATED} with {self.engine}, but with {', '.join(self.model.verdicts)}"
        return f"{self.model.verdicts[self.engine]} with {self.engine}" if self.doubt == 0 else NOT_VALIDATED

    def open(self, threads: int | None = None, streams: int | None = 1) -> Engine:
        """Open the model, or raise the error that says why it does not fit."""
        if streams is None:
            streams = self._most_lines(threads or physical_cores())
        return open_engine(self.bundle.read_model(self.model), self.engine, threads, streams=streams)

    def _most_lines(self, threads: int) -> int:
        """Return the streams that read most lines a second: as measured on such hardware, else one for each thread."""
        measured = self.model.throughput.get(self.engine)
        here = measured and measured.hardware == hardware_of(describe_environment())
        return min(measured.streams, threads) if measured and here else threads

    def brief(self, error: HtrError) -> str:
        """Return what was wrong in a few words, without the cure and the folder."""
        if isinstance(error, MissingExtraError):
            return "not installed"
        text = str(error).split("; ", 1)[0].removeprefix(f"{self.model.file} cannot be used: ")
        return text.replace(str(self.model.file), "it")


@dataclass(frozen=True)
class Rejected:
    """A candidate that ranks before the one in use, and why it is not used."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Selection:
    """An open engine, and how it was found."""

    candidate: Candidate
    engine: Engine
    rejected: tuple[Rejected, ...]

    @property
    def brief(self) -> str:
        """What reads, without what was rejected."""
        model = self.candidate.model
        return f"{self.candidate.engine} reads {model.file.name} ({model.precision}; {self.candidate.verdict})"

    def __str__(self) -> str:
        return f"{self.brief}; rejected: {_list(self.rejected)}" if self.rejected else self.brief


def candidates(bundle: Bundle, engine: str | None = None) -> list[Candidate]:
    """Return the candidates of a bundle, the fastest first: those of one engine, or of all that are quick to start."""
    ranks = {name: backend.ranks for name, backend in backends().items()}
    wanted = {engine} if engine else {name for name in ranks if ranks[name]}
    found = [Candidate(model, name, bundle) for model in bundle.models for name in model.engines if name in wanted]
    return _by_latency(sorted(found, key=lambda one: ranks.get(one.engine, {}).get(one.model.precision, math.inf)))


def _by_latency(ranked: list[Candidate]) -> list[Candidate]:
    """Order the candidates that were measured on such hardware by their latency, among their own places."""
    latencies = {index: candidate.model.latency.get(candidate.engine) for index, candidate in enumerate(ranked)}
    if not any(latencies.values()):
        return ranked
    here = hardware_of(describe_environment())
    seconds = {index: found.seconds for index, found in latencies.items() if found and found.hardware == here}
    result = list(ranked)
    for place, index in zip(sorted(seconds), sorted(seconds, key=lambda index: seconds[index]), strict=True):
        result[place] = ranked[index]
    return result


def select(bundle: Bundle, engine: str | None = None, threads: int | None = None, streams: int | None = 1) -> Selection:
    """Open the engine that reads a bundle's lines on this machine, or only the engine asked for.

    As many batches run at the same time as ``streams`` says; with None, as many as read most lines a second.

    Raises:
        EngineError: if nothing opens, with the reasons.
        BundleError: if a model was changed.
    """
    fastest_first = candidates(bundle, engine)
    if not fastest_first:
        names = ", ".join(dict.fromkeys(name for model in bundle.models for name in model.engines))
        raise EngineError(f"{bundle.folder} has no model for {engine}; it has models for: {names}")
    failures: dict[Candidate, HtrError] = {}
    for candidate in sorted(fastest_first, key=lambda candidate: candidate.doubt):
        try:
            opened = candidate.open(threads, streams)
        except BundleError:
            raise
        except HtrError as error:
            failures[candidate] = error
            continue
        faster = fastest_first[: fastest_first.index(candidate)]
        reasons = [Rejected(other, _reason(other, failures.get(other))) for other in faster]
        return Selection(candidate, opened, tuple(reasons))
    if engine is not None:
        raise next(iter(failures.values()))
    reasons = [Rejected(candidate, _reason(candidate, error)) for candidate, error in failures.items()]
    cure = "install an engine with: pip install 'htr-export[cpu]'"
    raise EngineError(f"nothing on this machine runs a model of {bundle.folder}: {_list(reasons)}; {cure}")


def _reason(candidate: Candidate, error: HtrError | None) -> str:
    return NOT_VALIDATED if error is None else candidate.brief(error)


def _list(rejected: Iterable[Rejected]) -> str:
    models: dict[tuple[str, str], list[str]] = {}
    for item in rejected:
        models.setdefault((item.candidate.engine, item.reason), []).append(item.candidate.model.file.name)
    return ", ".join(f"{engine} with {', '.join(names)} ({why})" for (engine, why), names in models.items())
