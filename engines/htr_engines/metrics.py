"""Character and word error rates, counted as the published evaluation counts them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each of these stands as a word of its own.
_APART = re.compile(r"([\[\]{}/\\()\"'&+*=<>?.;:,!\-—_€#%°])")


@dataclass(frozen=True)
class ErrorCounts:
    """Edits and lengths, which add up over lines: rates are ratios of sums, not means of ratios."""

    char_edits: int = 0
    chars: int = 0
    word_edits: int = 0
    words: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.char_edits + other.char_edits,
            self.chars + other.chars,
            self.word_edits + other.word_edits,
            self.words + other.words,
        )

    @property
    def cer(self) -> float:
        """Character error rate as a fraction of the truth's characters; of an empty truth, of one character."""
        return self.char_edits / max(self.chars, 1)

    @property
    def wer(self) -> float:
        """Word error rate as a fraction of the truth's words."""
        return self.word_edits / max(self.words, 1)


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation marks; an empty text is one empty word."""
    return re.sub(r" +", " ", _APART.sub(r" \1 ", text)).strip().split(" ")


def count_errors(prediction: str, truth: str) -> ErrorCounts:
    """Count the edits that turn ``prediction`` into ``truth``."""
    words = split_words(truth)
    return ErrorCounts(
        edit_distance(prediction, truth), len(truth), edit_distance(split_words(prediction), words), len(words)
    )


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the Levenshtein distance between two sequences."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise MissingExtraError("rapidfuzz", "export") from None
    return Levenshtein.distance(left, right)
