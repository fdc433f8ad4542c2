"""Reading labelled lines with a network and counting what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from htr_engines.ctc import decode_greedy
from htr_engines.metrics import ErrorCounts, count_errors
from htr_training.data import Lines, collate
from htr_training.losses import ctc_per_line

if TYPE_CHECKING:
    from htr_engines.charset import Charset
    from htr_export.network import HTRConvText


@dataclass(frozen=True)
class ReadLine:
    """One line, what is written on it, and what was read."""

    name: str
    truth: str
    prediction: str
    confidence: float  # 0 to 1
    loss: float  # CTC, not divided by the length
    counts: ErrorCounts


@dataclass(frozen=True)
class Evaluation:
    """The readings of a list of lines."""

    lines: tuple[ReadLine, ...]

    @property
    def counts(self) -> ErrorCounts:
        """The errors of all lines."""
        return sum((line.counts for line in self.lines), ErrorCounts())

    @property
    def loss(self) -> float:
        """The mean CTC loss of a line."""
        return sum(line.loss for line in self.lines) / len(self.lines)


@torch.inference_mode()
def read_all(
    network: HTRConvText, lines: Lines, charset: Charset, *, batch: int, device: torch.device
) -> Evaluation:
    """Read every line with ``network``, which is in evaluation mode on ``device``."""
    results: list[ReadLine] = []
    for first in range(0, len(lines), batch):
        numbers = range(first, min(first + batch, len(lines)))
        chosen = [lines.lines[number] for number in numbers]
        known = charset.characters
        # A character outside the set cannot be read, but its line can; its loss is that of the other characters.
        targets = [charset.encode("".join(c for c in line.text or "" if c in known)) for line in chosen]
        part = collate([lines[number] for number in numbers], targets).to(device)
        logits_NTC = network(part.image_N1HW.float() * (1 / 255))
        losses = ctc_per_line(logits_NTC, part.target_NS, part.length_N).tolist()
        readings = decode_greedy(logits_NTC.float().cpu().numpy(), charset)
        for line, reading, loss in zip(chosen, readings, losses, strict=True):
            truth = line.text or ""
            results.append(
                ReadLine(line.name, truth, reading.text, reading.confidence, loss, count_errors(reading.text, truth))
            )
    return Evaluation(tuple(results))


def examples(evaluation: Evaluation) -> list[ReadLine]:
    """Return up to ten lines: the three best, the four around the median, the three worst."""
    ranked = sorted(evaluation.lines, key=lambda line: line.counts.cer)
    middle = len(ranked) // 2
    chosen = [*range(3), *range(middle - 2, middle + 2), *range(len(ranked) - 3, len(ranked))]
    return [ranked[place] for place in sorted({place for place in chosen if 0 <= place < len(ranked)})]
