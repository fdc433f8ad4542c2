"""What a network read on lines whose text is known, and where the errors are.

By writer, length and character, what was taken for what, and how sure the network was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import MissingExtraError
from htr_engines.metrics import ErrorCounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEP = 10  # characters by which lengths are grouped
BINS = 10  # of the confidence


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


@dataclass(frozen=True)
class LengthGroup:
    """The lines of about one length."""

    shortest: int  # characters of the truth
    longest: int
    lines: int
    counts: ErrorCounts


@dataclass(frozen=True)
class WriterGroup:
    """The lines of one writer."""

    writer: str
    lines: int
    counts: ErrorCounts


@dataclass(frozen=True)
class ConfidenceBin:
    """The lines that were read with about one confidence."""

    low: float
    high: float
    lines: int
    confidence: float  # mean
    right: float  # share of the lines without an error
    accuracy: float  # 1 - CER


@dataclass(frozen=True)
class CharacterErrors:
    """How often a character of the truth was misread or missed."""

    character: str
    occurrences: int
    errors: int

    @property
    def rate(self) -> float:
        """Return the share of its occurrences."""
        return self.errors / self.occurrences


@dataclass(frozen=True)
class Confusion:
    """A character that was read as another; an empty string stands for nothing at all."""

    truth: str
    prediction: str
    count: int


def by_length(lines: Sequence[ReadLine]) -> list[LengthGroup]:
    """Group the lines by the length of their truth, ten characters a group."""
    groups: dict[int, list[ReadLine]] = defaultdict(list)
    for line in lines:
        groups[max(len(line.truth) - 1, 0) // STEP].append(line)
    return [
        LengthGroup(
            place * STEP + 1,
            (place + 1) * STEP,
            len(group),
            sum((line.counts for line in group), ErrorCounts()),
        )
        for place, group in sorted(groups.items())
    ]


def by_writer(lines: Sequence[ReadLine]) -> list[WriterGroup]:
    """Group the lines whose writer is known, the writer with the highest error rate first."""
    groups: dict[str, list[ReadLine]] = defaultdict(list)
    for line in lines:
        if line.writer is not None:
            groups[line.writer].append(line)
    found = [
        WriterGroup(writer, len(group), sum((line.counts for line in group), ErrorCounts()))
        for writer, group in groups.items()
    ]
    return sorted(found, key=lambda group: (-group.counts.cer, group.writer))


def calibration(lines: Sequence[ReadLine]) -> list[ConfidenceBin]:
    """Group the lines by their confidence, a tenth a group: an honest confidence is the share of right characters."""
    groups: dict[int, list[ReadLine]] = defaultdict(list)
    for line in lines:
        groups[min(int(line.confidence * BINS), BINS - 1)].append(line)
    return [
        ConfidenceBin(
            place / BINS,
            (place + 1) / BINS,
            len(group),
            sum(line.confidence for line in group) / len(group),
            sum(not line.counts.char_edits for line in group) / len(group),
            1 - sum((line.counts for line in group), ErrorCounts()).cer,
        )
        for place, group in sorted(groups.items())
    ]


def by_character(lines: Sequence[ReadLine]) -> list[CharacterErrors]:
    """Count the errors of each character of the truth, the most frequent character first."""
    occurrences = Counter(character for line in lines for character in line.truth)
    errors = Counter(truth for line in lines for truth, _ in differences(line) if truth)
    return [CharacterErrors(character, count, errors[character]) for character, count in occurrences.most_common()]


def confusions(lines: Sequence[ReadLine]) -> list[Confusion]:
    """Count what was taken for what, the most frequent first."""
    pairs = Counter(pair for line in lines for pair in differences(line))
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [Confusion(truth, prediction, count) for (truth, prediction), count in ranked]


def differences(line: ReadLine) -> Iterator[tuple[str, str]]:
    """Yield what differs between a truth and its reading, in a shortest alignment, character by character."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise MissingExtraError("rapidfuzz", "export") from None
    for step in Levenshtein.editops(line.truth, line.prediction):
        if step.tag == "replace":
            yield line.truth[step.src_pos], line.prediction[step.dest_pos]
        elif step.tag == "delete":
            yield line.truth[step.src_pos], ""
        else:
            yield "", line.prediction[step.dest_pos]
