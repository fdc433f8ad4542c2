"""From what reference read to error rates, checks and the verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.checks import Check, failures
from htr_engines.metrics import ErrorCounts, count_errors
from htr_export.validation.result import (
    Findings,
    LineRecord,
    Mode,
    Rates,
    ValidationOptions,
    ValidationResult,
)
from htr_export.validation.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    from htr_export.validation.batching import BatchConsistency
    from htr_export.validation.tensors import TensorDifference


AMOUNT = "amount"  # the name of the check that there are enough characters


def judge(findings: Findings, options: ValidationOptions) -> ValidationResult:
    """Compute the rates, their differences and the checks; the candidate passes if all checks do."""
    records = findings.records
    with_transcript = sum(record.truth is not None for record in records)
    mode: Mode = "transcripts" if with_transcript else "agreement"
    reference, candidate = _errors(records, mode)
    cer_increase = _interval(
        [errors.char_edits for errors in reference],
        [errors.char_edits for errors in candidate],
        [errors.chars for errors in candidate],
        options,
    )
    wer_increase = _interval(
        [errors.word_edits for errors in reference],
        [errors.word_edits for errors in candidate],
        [errors.words for errors in candidate],
        options,
    )
    of_decoder = _decoder_interval(records, options)
    checks = _checks(findings.tensors, findings.batching, cer_increase, mode, options.max_cer_increase)
    if of_decoder:
        checks += (_decoder_check(of_decoder, options.max_cer_increase),)
    characters = sum(errors.chars for errors in candidate)
    if options.min_characters:
        checks += (_amount_check(characters, len(candidate), options.min_characters),)
    return ValidationResult(
        mode=mode,
        passed=not failures(checks),
        checks=checks,
        lines=len(records),
        lines_with_transcript=with_transcript,
        characters=characters,
        changed=sum(record.changed for record in records),
        reference_rates=_rates(reference) if mode == "transcripts" else None,
        candidate_rates=_rates(candidate),
        cer_increase=cer_increase,
        wer_increase=wer_increase,
        cer_increase_of_decoder=of_decoder,
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
    candidate = [count_errors(record.candidate, record.reference) for record in records]
    return [ErrorCounts()] * len(candidate), candidate


def _interval(reference: list[int], candidate: list[int], lengths: list[int], options: ValidationOptions) -> Interval:
    return paired_bootstrap(
        np.array(reference), np.array(candidate), np.array(lengths), resamples=options.resamples, seed=options.seed
    )


def _decoder_interval(records: list[LineRecord], options: ValidationOptions) -> Interval | None:
    """Return by how much the candidate's CER is above that of greedy decoding, where it was decoded otherwise."""
    pairs = [(one.greedy_errors, one.candidate_errors) for one in records if one.greedy_errors and one.candidate_errors]
    if not pairs:
        return None
    return _interval(
        [greedy.char_edits for greedy, _ in pairs],
        [candidate.char_edits for _, candidate in pairs],
        [candidate.chars for _, candidate in pairs],
        options,
    )


def _decoder_check(increase: Interval, bound: float) -> Check:
    detail = (
        f"CER over greedy decoding {increase.estimate:+.3f} points, 95 % interval [{increase.low:+.3f}, "
        f"{increase.high:+.3f}], bound {bound:+.3f}"
    )
    return Check(increase.high <= bound, detail, "decoder")


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
        Check(increase.high <= bound, f"{what} {interval}", "accuracy"),
    )


def _amount_check(characters: int, lines: int, needed: int) -> Check:
    if characters >= needed:
        return Check(passed=True, detail=f"{characters} characters (at least {needed})", name=AMOUNT)
    more = math.ceil(needed * lines / max(characters, 1))
    detail = f"{characters} characters on {lines} lines; {needed} prove something, about {more} such lines"
    return Check(passed=False, detail=f"{detail}; add lines, or --accept-few", name=AMOUNT)


def _finite_check(tensors: TensorDifference) -> Check:
    reference, candidate = tensors.reference_not_finite, tensors.candidate_not_finite
    if reference or candidate:
        detail = (
            f"of {tensors.values} logits {reference} of the reference and {candidate} of the candidate are not finite"
        )
        return Check(passed=False, detail=detail, name="finite")
    return Check(passed=True, detail=f"all {tensors.values} logits are finite", name="finite")


def _batch_check(name: str, what: str, distance: float | None, tolerance: float) -> Check:
    if distance is None:
        return Check(passed=False, detail=f"{what}: the logits are not finite", name=name)
    return Check(distance <= tolerance, f"{what}: max diff {distance:.1e} (atol {tolerance:.0e})", name)
