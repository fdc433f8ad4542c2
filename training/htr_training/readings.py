"""What a network read on lines whose text is known."""

from __future__ import annotations

from dataclasses import dataclass

from htr_engines.metrics import ErrorCounts


@dataclass(frozen=True)
class ReadLine:
    """One line, what is written on it, and what was read."""

    name: str
    truth: str
    prediction: str
    confidence: float  # 0 to 1
    loss: float  # CTC, not divided by the length
    counts: ErrorCounts
    writer: str | None = None  # if known


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

    def by_set(self) -> dict[str, ErrorCounts]:
        """Return the errors of each set of a recipe's ``data.sets``, whose lines are named ``SET/NAME``."""
        counts: dict[str, ErrorCounts] = {}
        for line in self.lines:
            name = line.name.split("/", 1)[0]
            counts[name] = counts.get(name, ErrorCounts()) + line.counts
        return counts


def examples(evaluation: Evaluation) -> list[ReadLine]:
    """Return up to ten lines: the three best, the four around the median, the three worst."""
    ranked = sorted(evaluation.lines, key=lambda line: line.counts.cer)
    middle = len(ranked) // 2
    chosen = [*range(3), *range(middle - 2, middle + 2), *range(len(ranked) - 3, len(ranked))]
    return [ranked[place] for place in sorted({place for place in chosen if 0 <= place < len(ranked)})]
