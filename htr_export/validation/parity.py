"""Reads every line with the reference and with the candidate."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from htr_engines.backends.base import infer_lines
from htr_engines.ctc import decode_greedy
from htr_engines.files import sha256_of
from htr_engines.limits import tolerance_of
from htr_engines.lines import load_batches
from htr_engines.metrics import count_errors
from htr_engines.progress import SILENT
from htr_export.validation.batching import check_batching
from htr_export.validation.judgement import judge
from htr_export.validation.result import (
    Findings,
    LineRecord,
    Seconds,
    SkippedLine,
    ValidationOptions,
    ValidationResult,
)
from htr_export.validation.tensors import TensorTally

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.charset import Charset
    from htr_engines.decoder import Decode
    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_engines.progress import Progress

__all__ = ["ValidationOptions", "ValidationResult", "validate"]

CONSISTENCY_LINES = 8  # enough to fill a batch, few enough to cost nothing


def validate(
    reference: Engine,
    candidate: Engine,
    lines: Sequence[Line],
    *,
    charset: Charset,
    preprocessing: Preprocessing,
    options: ValidationOptions,
    decode: Decode | None = None,
    progress: Progress = SILENT,
) -> ValidationResult:
    """Try a candidate against its reference.

    Args:
        reference: what the candidate was made from.
        candidate: the artefact to judge.
        lines: images, with transcripts or without. Those that cannot be read are skipped and named.
        charset: of both networks.
        preprocessing: of both networks.
        options: the bound and the settings of the trial.
        decode: decodes the logits of both; by default greedily. Another decoder is also compared with greedy decoding.
        progress: counts the lines.

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

    def skip(line: Line, reason: str) -> None:
        skipped.append(SkippedLine(line.name, reason))
        progress.advance()

    for batch in load_batches(lines, preprocessing, options.batch_size, skip):
        reference_NTC = reference_clock.infer(batch.images)
        candidate_NTC = candidate_clock.infer(batch.images)
        max_N = tally.add(reference_NTC, candidate_NTC)
        greedy = decode_greedy(candidate_NTC, charset)
        texts = (
            zip(decode(reference_NTC), decode(candidate_NTC), strict=True)
            if decode
            else zip(decode_greedy(reference_NTC, charset), greedy, strict=True)
        )
        for line, (before, after), plain, max_abs in zip(batch.lines, texts, greedy, max_N, strict=True):
            record = _record(line, before.text, after.text, float(max_abs))
            if decode and line.text is not None:
                record = replace(record, greedy_errors=count_errors(plain.text, line.text))
            records.append(record)
        if first_N1HW is None:
            first_N1HW = batch.images[:CONSISTENCY_LINES]
        progress.advance(len(batch.lines))
    assert first_N1HW is not None, "load_batches refuses lines of which none can be read"
    batching = check_batching(candidate, first_N1HW, tolerance_of(options.precision, candidate.info.device).batch)
    seconds = Seconds(reference_clock.seconds, candidate_clock.seconds, time.perf_counter() - began)
    return judge(Findings(records, skipped, tally.result(), batching, seconds), options)


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


def _record(line: Line, reference: str, candidate: str, max_abs: float) -> LineRecord:
    truth = line.text
    return LineRecord(
        name=line.name,
        sha256=sha256_of(line.image),
        truth=truth,
        reference=reference,
        candidate=candidate,
        max_abs=max_abs,
        reference_errors=None if truth is None else count_errors(reference, truth),
        candidate_errors=None if truth is None else count_errors(candidate, truth),
    )
