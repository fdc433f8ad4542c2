"""The rows of the latency table: measurements ranked, related to the reference, joined with validations."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_bench.latency import Measurement, Scope, TargetResult


@dataclass(frozen=True)
class Quality:
    """What a validation report says of a target."""

    cer: float | None  # per cent; None where the lines had no transcripts
    cer_increase: float | None  # percentage points
    passed: bool


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    result: TargetResult
    measurement: Measurement | None  # None for a target that failed
    rank: int | None  # 1 for the fastest of its batch and scope; None for what is unstable
    ratio: float | None  # how many times as fast as the reference, by the medians
    quality: Quality | None

    @property
    def status(self) -> str:
        """The outcome, the worst first."""
        if self.result.failure is not None:
            return "failed"
        if self.quality and not self.quality.passed:
            return "exported but failed"
        if self.measurement and not self.measurement.stable:
            return "unstable"
        return "pass" if self.quality else "not validated"


def make_rows(results: Sequence[TargetResult], scope: Scope, reports: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the rows of a table: by batch size the fastest first, then the unstable, then the failed."""
    rows: list[Row] = []
    for batch in sorted({item.batch for result in results for item in result.measurements}):
        found = [(result, _measurement(result, scope, batch)) for result in results if result.failure is None]
        measured = [(result, item) for result, item in found if item is not None]
        base = next((item for result, item in measured if result.target.is_reference), None)
        measured.sort(key=lambda pair: (not pair[1].stable, median(pair[1])))
        for place, (result, item) in enumerate(measured, 1):
            ratio = median(base) / median(item) if base else None
            rows.append(Row(result, item, place if item.stable else None, ratio, _quality(result, reports)))
    rows += [Row(result, None, None, None, _quality(result, reports)) for result in results if result.failure]
    return rows


def median(measurement: Measurement) -> float:
    """Return the median in seconds, by which all is ranked."""
    return statistics.median(measurement.seconds)


def _measurement(result: TargetResult, scope: Scope, batch: int) -> Measurement | None:
    return next((item for item in result.measurements if (item.scope, item.batch) == (scope, batch)), None)


def _quality(result: TargetResult, reports: Sequence[dict[str, Any]]) -> Quality | None:
    """Find the file, run by the same engine, in the validation reports."""
    for report in reports:
        sides, found = report["inputs"], report["result"]
        rates, increase = found["candidate_rates"], found["cer_increase"]["estimate"]
        truth = found["mode"] == "transcripts"
        if _is_side(result, sides["candidate"]):
            return Quality(rates["cer"] if truth else None, increase if truth else None, found["passed"])
        if _is_side(result, sides["reference"]) and truth:
            return Quality(found["reference_rates"]["cer"], 0.0, passed=True)
    return None


def _is_side(result: TargetResult, side: dict[str, Any]) -> bool:
    engine = result.info.engine if result.info else result.target.engine
    return bool(side["sha256"] == result.artefact.sha256 and side["engine"] == engine)
