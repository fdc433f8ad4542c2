"""A validation in words: the same on the terminal, in Markdown and in HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from htr_engines.checks import failures
from htr_export.validation.judgement import AMOUNT

if TYPE_CHECKING:
    from htr_export.validation.result import ValidationResult
    from htr_export.validation.statistics import Interval

FEW_LINES = 100  # below this the bootstrap's interval is rough
POOR_CER = 50.0  # per cent; a reference that reads so badly proves little


def verdict(result: ValidationResult) -> str:
    """Return the verdict in one sentence."""
    lines = _lines(result.lines)
    how = "" if result.mode == "transcripts" else " (agreement alone, no transcripts)"
    if result.passed:
        return f"PASSED on {lines}{how}"
    failed = ", ".join(check.name for check in failures(result.checks))
    if failed == AMOUNT:
        return f"NOT ENOUGH LINES{how}: {failures(result.checks)[0].detail}"
    return f"FAILED on {lines}{how}: {failed}"


def notes(result: ValidationResult, listed: int, decoder: str = "greedy") -> list[str]:
    """Return what a reader of the figures has to know."""
    found = [] if decoder == "greedy" else [f"Both were decoded as the bundle will: {decoder}."]
    tried = result.lines + len(result.skipped)
    if tried < listed:
        found.append(f"Only the first {tried} of {listed} lines were tried.")
    if result.mode == "agreement":
        found.append(
            "No line has a transcript, so CER and WER are those of the candidate's readings against the "
            "reference's: this proves agreement, not accuracy."
        )
    elif result.lines_with_transcript < result.lines:
        found.append(
            f"Without transcript: {_lines(result.lines - result.lines_with_transcript)}, which count for the "
            "logits and the changed readings, not for CER and WER."
        )
    if result.reference_rates and result.reference_rates.cer > POOR_CER:
        found.append(
            f"The reference itself misreads these lines (CER {result.reference_rates.cer:.0f} %), so this proves "
            "little: validate on lines of the kind that it reference trained on."
        )
    if result.skipped:
        found.append(f"Skipped, since the image cannot be read: {_lines(len(result.skipped))}.")
    counted = result.lines_with_transcript or result.lines
    if counted < FEW_LINES:
        found.append(f"An interval from {_lines(counted)} is rough; {FEW_LINES} or more make it trustworthy.")
    bound = result.options.max_cer_increase
    # The rule of three: an event that never came in N trials has a probability below 3/N, with 95 % confidence
    # (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983).
    if bound and result.characters < (needed := math.ceil(300 / bound)):
        found.append(
            f"{result.characters} characters cannot show an increase of {bound:g} points even where no reading "
            f"changes; {needed} or more can (rule of three)."
        )
    return found


def rate_rows(result: ValidationResult) -> list[tuple[str, str, str, str]]:
    """Return rows of name, reference, candidate and difference."""
    reference, candidate, seconds = result.reference_rates, result.candidate_rates, result.seconds
    cer, wer = (f"{reference.cer:.3f}", f"{reference.wer:.3f}") if reference else ("-", "-")
    against = "" if reference else " against the reference"
    return [
        (f"CER %{against}", cer, f"{candidate.cer:.3f}", _interval(result.cer_increase)),
        (f"WER %{against}", wer, f"{candidate.wer:.3f}", _interval(result.wer_increase)),
        (
            "lines/s in the engine",
            _per_second(result.lines, seconds.reference),
            _per_second(result.lines, seconds.candidate),
            f"x{seconds.reference / seconds.candidate:.2f}" if seconds.candidate else "-",
        ),
    ]


def fact_rows(result: ValidationResult) -> list[tuple[str, str]]:
    """Return rows of name and value about the readings and the logits."""
    tensors = result.tensors
    broken = f"{tensors.reference_not_finite} reference, {tensors.candidate_not_finite} candidate"
    return [
        ("readings changed", f"{result.changed} of {result.lines} lines"),
        ("logits, max |difference|", f"{tensors.max_abs:.3g}"),
        ("logits, mean |difference|", f"{tensors.mean_abs:.3g}"),
        ("logits, cosine", f"{tensors.cosine:.8f}"),
        ("arg-max agreement", f"{100 * tensors.argmax_agreement:.3f} % of {tensors.frames} frames"),
        ("logits not finite", broken),
    ]


def _lines(number: int) -> str:
    return f"{number} line" if number == 1 else f"{number} lines"


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _per_second(lines: int, seconds: float) -> str:
    return f"{lines / seconds:.1f}" if seconds else "-"
