"""Finds the weights of the beam search that read some lines best."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import infer_lines
from htr_engines.beam import BeamDecoder, BeamOptions
from htr_engines.ctc import decode_greedy
from htr_engines.errors import DataError
from htr_engines.files import sha256_of
from htr_engines.language_model import LanguageModel, read_content
from htr_engines.lines import load_batches, read_lines
from htr_engines.metrics import ErrorCounts, count_errors
from htr_engines.progress import SILENT
from htr_export.decoding import tuned_path
from htr_export.open_model import open_any
from htr_export.reporting import document, write_document
from htr_export.validation.run import reader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.charset import Charset
    from htr_engines.ctc import Reading
    from htr_engines.progress import Progress

LM_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
LENGTH_BONUSES = (0.0, 1.0, 2.0, 3.0)
BATCH = 8


@dataclass(frozen=True)
class LogitsOfLines:
    """Lines with their transcripts and what a network makes of them."""

    texts: tuple[str, ...]
    logits: NDArray[np.float32]  # [N,T,C]
    charset: Charset


@dataclass(frozen=True)
class Trial:
    """One choice of the weights."""

    options: BeamOptions
    cer: float  # per cent


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what was best."""

    best: Trial
    trials: tuple[Trial, ...]
    greedy_cer: float  # per cent
    lines: int


def tune_files(
    model: Path,
    language_model: Path,
    lines_dir: Path,
    list_file: Path | None = None,
    beam: int = BeamOptions().beam,
    progress: Progress = SILENT,
) -> Tuning:
    """Tune the weights for a model's logits and write them beside the language model, where bundling looks for them.

    Args:
        model: whose decoder it is, in any format that an engine here runs.
        language_model: of ``htr-train lm``.
        lines_dir: folder of the lines, which the language model should not have seen.
        list_file: which of them.
        beam: texts that the search keeps.
        progress: counts lines, then trials.

    Raises:
        DataError: if no line has a transcript, or a file cannot be used.
        EngineError: if the model cannot be run.
    """
    read = read_content(language_model)
    lm = LanguageModel(read, str(language_model))
    lines = infer_logits(model, lines_dir, list_file, progress)
    tuning = tune(lines, lm, beam, progress)
    content = {
        "model": {"file": model.name, "sha256": sha256_of(model)},
        "language_model_sha256": hashlib.sha256(read).hexdigest(),
        "options": asdict(tuning.best.options),
        "lines": tuning.lines,
        "cer": {"greedy": tuning.greedy_cer, "beam": tuning.best.cer},
        "trials": [asdict(trial) for trial in tuning.trials],
    }
    report = document("htr-export tune-decoder", content, units={"cer": "per cent", "length_bonus": "nats"})
    write_document(tuned_path(language_model), report)
    return tuning


def infer_logits(model: Path, lines_dir: Path, list_file: Path | None, progress: Progress = SILENT) -> LogitsOfLines:
    """Run a model on the lines that have a transcript."""
    lines = [line for line in read_lines(lines_dir, list_file) if line.text]
    if not lines:
        raise DataError(f"no line of {lines_dir} has a transcript; give lines with .txt files or a list with texts")
    progress.step("reading lines")
    progress.total(len(lines))
    texts: list[str] = []
    logits: list[NDArray[np.float32]] = []
    with open_any(model) as engine:
        charset, preprocessing = reader_of(engine.info, model)
        for batch in load_batches(lines, preprocessing, BATCH):
            logits.append(infer_lines(engine, batch.images))
            texts += [line.text or "" for line in batch.lines]
            progress.advance(len(batch.lines))
    return LogitsOfLines(tuple(texts), np.concatenate(logits), charset)


def tune(lines: LogitsOfLines, model: LanguageModel, beam: int, progress: Progress = SILENT) -> Tuning:
    """Try every choice of the weights."""
    choices = list(product(LM_WEIGHTS, LENGTH_BONUSES))
    progress.step("tuning")
    progress.total(len(choices))
    trials: list[Trial] = []
    for weight, bonus in choices:
        options = BeamOptions(beam, weight, bonus)
        trials.append(Trial(options, cer(lines, BeamDecoder(lines.charset, options, model))))
        progress.advance()
    greedy = cer(lines, lambda logits_NTC: decode_greedy(logits_NTC, lines.charset))
    return Tuning(min(trials, key=lambda trial: trial.cer), tuple(trials), greedy, len(lines.texts))


def cer(lines: LogitsOfLines, decode: Callable[[NDArray[np.float32]], Sequence[Reading]]) -> float:
    """Return the character error rate of a decoder, in per cent."""
    counts = (count_errors(reading.text, text) for reading, text in zip(decode(lines.logits), lines.texts, strict=True))
    return 100 * sum(counts, ErrorCounts()).cer
