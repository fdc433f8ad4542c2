"""Reads every line with the reference and with the candidate, and judges the candidate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from htr_engines.ctc import decode_greedy
from htr_engines.engine import infer_lines
from htr_engines.errors import DataError, ImageError
from htr_engines.files import sha256_of
from htr_engines.metrics import ErrorCounts, count_errors
from htr_engines.preprocess import fit_line, load_pages
from htr_export.validation.batching import BatchConsistency, check_batching, tolerance_of
from htr_export.validation.statistics import RESAMPLES, SEED, Interval, paired_bootstrap
from htr_export.validation.tensors import TensorDifference, TensorTally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from htr_engines.charset import Charset
    from htr_engines.engine import Engine
    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing

CONSISTENCY_LINES = 8  # enough to fill a batch, few enough to cost nothing
FEW_LINES = 100  # below this the bootstrap's interval is rough, and says so

Mode = Literal["transcripts", "agreement"]


@dataclass(frozen=True)
class ValidationOptions:
    """What a candidate has to hold, and how it is tried."""

    max_cer_increase: float = 0.1  # percentage points that the interval's upper end may reach
    batch_size: int = 8
    precision: str = "fp32"  # of the candidate; sets the tolerance of the batch checks
    resamples: int = RESAMPLES  # of the bootstrap
    seed: int = SEED  # of the bootstrap


@dataclass(frozen=True)
class LineRecord:
    """One line, read twice."""

    name: str
    sha256: str  # of the image file
    truth: str | None
    reference: str
    candidate: str
    max_abs: float  # largest difference of its logits
    reference_errors: ErrorCounts | None  # None where the line has no transcript
    candidate_errors: ErrorCounts | None

    @property
    def changed(self) -> bool:
        """Whether the candidate reads something else than the reference."""
        return self.reference != self.candidate


@dataclass(frozen=True)
class SkippedLine:
    """A line whose image cannot be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Rates:
    """Error rates in per cent."""

    cer: float
    wer: float


@dataclass(frozen=True)
class Check:
    """One thing that the candidate had to hold."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Seconds:
    """Where the time went."""

    reference: float  # in the reference's engine
    candidate: float  # in the candidate's engine, the batch checks not included
    total: float


@dataclass(frozen=True)
class ValidationResult:
    """All that was found out about a candidate."""

    mode: Mode  # "agreement" where no line has a transcript
    passed: bool
    checks: tuple[Check, ...]
    lines: int  # that were read
    lines_with_transcript: int
    changed: int  # lines that the two read differently
    reference_rates: Rates | None  # None in agreement mode
    candidate_rates: Rates  # in agreement mode against the reference's readings
    cer_increase: Interval
    wer_increase: Interval
    tensors: TensorDifference
    batching: BatchConsistency
    options: ValidationOptions
    seconds: Seconds
    records: tuple[LineRecord, ...]
    skipped: tuple[SkippedLine, ...]


@dataclass(frozen=True)
class _Findings:
    records: list[LineRecord]
    skipped: list[SkippedLine]
    tensors: TensorDifference
    batching: BatchConsistency
    seconds: Seconds


@dataclass(frozen=True)
class _Batch:
    lines: list[Line]
    sha256: list[str]
    images: NDArray[np.float32]  # [N,1,H,W] in [0,1]


def validate(
    reference: Engine,
    candidate: Engine,
    lines: Sequence[Line],
    *,
    charset: Charset,
    preprocessing: Preprocessing,
    options: ValidationOptions,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ValidationResult:
    """Try a candidate against its reference.

    Args:
        reference: what the candidate was made from.
        candidate: the artefact to judge.
        lines: images, with transcripts or without. Those that cannot be read are left out and named.
        charset: of both networks.
        preprocessing: of both networks.
        options: the bound and the settings of the trial.
        on_progress: called with the number of lines done since the last call.

    Raises:
        DataError: if no line can be read.
        ParityError: if the two give logits of different shapes.
        CharsetError: if the character set does not fit the logits.
    """
    began = time.perf_counter()
    tally, reference_clock, candidate_clock = TensorTally(), _Clock(reference), _Clock(candidate)
    records: list[LineRecord] = []
    skipped: list[SkippedLine] = []
    first_N1HW = None
    for batch in _batches(lines, preprocessing, options.batch_size, skipped, on_progress):
        reference_NTC = reference_clock.infer(batch.images)
        candidate_NTC = candidate_clock.infer(batch.images)
        max_N = tally.add(reference_NTC, candidate_NTC)
        texts = zip(decode_greedy(reference_NTC, charset), decode_greedy(candidate_NTC, charset), strict=True)
        records += [
            _record(line, sha256, was.text, now.text, float(max_abs))
            for line, sha256, (was, now), max_abs in zip(batch.lines, batch.sha256, texts, max_N, strict=True)
        ]
        if first_N1HW is None:
            first_N1HW = batch.images[:CONSISTENCY_LINES]
        on_progress(len(batch.lines))
    if first_N1HW is None:
        raise DataError(_nothing_readable(skipped))
    batching = check_batching(candidate, first_N1HW, tolerance_of(options.precision, candidate.info.device))
    seconds = Seconds(reference_clock.seconds, candidate_clock.seconds, time.perf_counter() - began)
    return _judge(_Findings(records, skipped, tally.result(), batching, seconds), options)


class _Clock:
    """An engine with a stopwatch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        began = time.perf_counter()
        logits_NTC = infer_lines(self._engine, image_N1HW)
        self.seconds += time.perf_counter() - began
        return logits_NTC


def _batches(
    lines: Sequence[Line],
    preprocessing: Preprocessing,
    size: int,
    skipped: list[SkippedLine],
    on_progress: Callable[[int], None],
) -> Iterator[_Batch]:
    """Load the lines that can be read, ``size`` at a time; the others are added to ``skipped``."""
    loaded: list[Line] = []
    images = []
    for number, line in enumerate(lines, 1):
        try:
            images.append(fit_line(load_pages(line.image, preprocessing.alpha)[0], preprocessing))
            loaded.append(line)
        except ImageError as error:
            skipped.append(SkippedLine(line.name, str(error)))
            on_progress(1)
        if loaded and (len(loaded) == size or number == len(lines)):
            yield _Batch(loaded, [sha256_of(line.image) for line in loaded], np.stack(images))
            loaded, images = [], []


def _record(line: Line, sha256: str, reference: str, candidate: str, max_abs: float) -> LineRecord:
    truth = line.text
    return LineRecord(
        name=line.name,
        sha256=sha256,
        truth=truth,
        reference=reference,
        candidate=candidate,
        max_abs=max_abs,
        reference_errors=None if truth is None else count_errors(reference, truth),
        candidate_errors=None if truth is None else count_errors(candidate, truth),
    )


def _nothing_readable(skipped: list[SkippedLine]) -> str:
    if not skipped:
        return "there is no line to validate on; give a folder with line images"
    return f"none of the {len(skipped)} line images can be read, the first because {skipped[0].reason}"


def _judge(findings: _Findings, options: ValidationOptions) -> ValidationResult:
    records = findings.records
    with_transcript = sum(record.truth is not None for record in records)
    mode: Mode = "transcripts" if with_transcript else "agreement"
    was, now = _errors(records, mode)
    cer_increase = _interval(
        [errors.char_edits for errors in was],
        [errors.char_edits for errors in now],
        [errors.chars for errors in now],
        options,
    )
    wer_increase = _interval(
        [errors.word_edits for errors in was],
        [errors.word_edits for errors in now],
        [errors.words for errors in now],
        options,
    )
    checks = _checks(findings.tensors, findings.batching, cer_increase, mode, options.max_cer_increase)
    return ValidationResult(
        mode=mode,
        passed=all(check.passed for check in checks),
        checks=checks,
        lines=len(records),
        lines_with_transcript=with_transcript,
        changed=sum(record.changed for record in records),
        reference_rates=_rates(was) if mode == "transcripts" else None,
        candidate_rates=_rates(now),
        cer_increase=cer_increase,
        wer_increase=wer_increase,
        tensors=findings.tensors,
        batching=findings.batching,
        options=options,
        seconds=findings.seconds,
        records=tuple(records),
        skipped=tuple(findings.skipped),
    )


def _errors(records: list[LineRecord], mode: Mode) -> tuple[list[ErrorCounts], list[ErrorCounts]]:
    """Return the errors of the reference and of the candidate, line by line, over the lines that count."""
    if mode == "transcripts":
        return (
            [record.reference_errors for record in records if record.reference_errors is not None],
            [record.candidate_errors for record in records if record.candidate_errors is not None],
        )
    now = [count_errors(record.candidate, record.reference) for record in records]
    return [ErrorCounts()] * len(now), now


def _interval(was: list[int], now: list[int], lengths: list[int], options: ValidationOptions) -> Interval:
    return paired_bootstrap(
        np.array(was), np.array(now), np.array(lengths), resamples=options.resamples, seed=options.seed
    )


def _rates(errors: list[ErrorCounts]) -> Rates:
    total = sum(errors, ErrorCounts())
    return Rates(100 * total.cer, 100 * total.wer)


def _checks(
    tensors: TensorDifference,
    batching: BatchConsistency,
    increase: Interval,
    mode: Mode,
    bound: float,
) -> tuple[Check, ...]:
    size = f"a batch of {batching.batch}"
    what = "CER increase" if mode == "transcripts" else "CER against the reference's readings"
    interval = (
        f"{increase.estimate:+.3f} points, 95 % interval [{increase.low:+.3f}, {increase.high:+.3f}], "
        f"bound {bound:+.3f}"
    )
    return (
        _finite_check(tensors),
        _batch_check("equal rows", f"one line all over {size}", batching.equal_rows, batching.tolerance),
        _batch_check("order", f"{size} in reverse", batching.order, batching.tolerance),
        _batch_check("batch size", f"{size} against single lines", batching.single, batching.tolerance),
        Check("accuracy", increase.high <= bound, f"{what} {interval}"),
    )


def _finite_check(tensors: TensorDifference) -> Check:
    was, now = tensors.reference_not_finite, tensors.candidate_not_finite
    if was or now:
        detail = (
            f"of {tensors.values} logits {was} of the reference and {now} of the candidate are not finite"
        )
        return Check("finite", passed=False, detail=detail)
    return Check("finite", passed=True, detail=f"all {tensors.values} logits are finite")


def _batch_check(name: str, what: str, distance: float | None, tolerance: float) -> Check:
    if distance is None:
        return Check(name, passed=False, detail=f"{what}: the logits are not finite")
    return Check(name, distance <= tolerance, f"{what}: max diff {distance:.1e} (atol {tolerance:.0e})")
