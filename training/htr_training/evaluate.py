"""Reading labelled lines with a network and counting what is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from htr_engines.ctc import decode_greedy
from htr_engines.errors import DataError
from htr_engines.files import sha256_of
from htr_engines.lines import read_lines
from htr_engines.metrics import count_errors
from htr_export.checkpoint import read_checkpoint
from htr_export.model import model_from_checkpoint
from htr_training.data import FittedLines, collate
from htr_training.distributed import choose_device
from htr_training.evaluation_report import Source, write_report
from htr_training.losses import ctc_per_line
from htr_training.readings import Evaluation, ReadLine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.lines import Line
    from htr_export.checkpoint import Weights
    from htr_export.network.model import HTRConvText


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and on what."""

    checkpoint: Path
    lines: Path  # the folder of images
    list_file: Path | None = None  # without one, every image of the folder
    charset: Charset | None = None  # for checkpoints that do not say
    weights: Weights | None = None  # by default the averaged ones, if there are any
    batch: int = 32
    report: Path | None = None  # folder for the report
    writers: str | None = None  # expression whose first group, in a line's name, is its writer


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Read labelled lines with a checkpoint, and write the report if one is wanted.

    Raises:
        DataError: if a line has no transcript, or the expression for writers fits no name.
    """
    digest = sha256_of(options.checkpoint)
    model = model_from_checkpoint(read_checkpoint(options.checkpoint), digest, options.charset, options.weights)
    labelled = read_lines(options.lines, options.list_file)
    if missing := [line.name for line in labelled if line.text is None]:
        raise DataError(f"{len(missing)} lines have no transcript, {missing[0]} for one; add them or shorten the list")
    if options.writers is not None:
        labelled = name_writers(labelled, options.writers)
    lines = FittedLines(labelled, replace(model.preprocessing, alpha="ignore"), cache=False)
    device = choose_device()
    network = model.network().to(device)
    evaluation = read_all(network, lines, model.charset, batch=options.batch, device=device)
    if options.report is not None:
        known = model.provenance
        source = Source(
            checkpoint=options.checkpoint.name,
            sha256=digest,
            weights=known["weights"],
            iteration=known.get("iteration", ""),
            data=(options.list_file or options.lines).name,
        )
        write_report(options.report, evaluation, source, lines)
    return evaluation


def name_writers(lines: Sequence[Line], expression: str) -> list[Line]:
    """Take the writers out of the lines' names.

    Raises:
        DataError: if the expression is malformed, has no group or fits no name.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"--writers {expression} is not a regular expression: {error}") from None
    if not pattern.groups:
        raise DataError(f"--writers {expression} needs a group around the writer, as in '^(.+?)-'")
    found = [pattern.search(line.name) for line in lines]
    if not any(found):
        raise DataError(f"--writers {expression} fits no line's name, {lines[0].name} for one")
    return [replace(line, writer=match[1] if match else None) for line, match in zip(lines, found, strict=True)]


@torch.inference_mode()
def read_all(
    network: HTRConvText, lines: FittedLines, charset: Charset, *, batch: int, device: torch.device
) -> Evaluation:
    """Read every line with ``network``, which is in evaluation mode on ``device``."""
    results: list[ReadLine] = []
    for first in range(0, len(lines), batch):
        numbers = range(first, min(first + batch, len(lines)))
        chosen = [lines.lines[number] for number in numbers]
        known = charset.characters
        # A line may hold characters that the network cannot write; its loss is then that of the others.
        targets = [charset.encode("".join(c for c in line.text or "" if c in known)) for line in chosen]
        part = collate([lines[number] for number in numbers], targets).to(device)
        logits_NTC = network(part.images.float() * (1 / 255))
        losses = ctc_per_line(logits_NTC, part.targets, part.lengths).tolist()
        readings = decode_greedy(logits_NTC.float().cpu().numpy(), charset)
        for line, reading, loss in zip(chosen, readings, losses, strict=True):
            truth = line.text or ""
            results.append(
                ReadLine(
                    line.name,
                    truth,
                    reading.text,
                    reading.confidence,
                    loss,
                    count_errors(reading.text, truth),
                    line.writer,
                )
            )
    return Evaluation(tuple(results))
