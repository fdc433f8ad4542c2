"""Counts the character n-grams of texts and writes them as a language model for the reader's beam search.

Interpolated modified Kneser-Ney, as Chen and Goodman describe it ("An empirical study of smoothing techniques for
language modeling", 1998, section 3): on characters it was 0.1 to 0.3 bits better than Witten-Bell.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.charset import Charset
from htr_engines.errors import DataError
from htr_engines.files import atomic_path
from htr_engines.language_model import ARRAYS, BOUNDARY, MAGIC, LanguageModelHeader, TextFacts
from htr_engines.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

DEFAULT_ORDER = 6
MAX_CHARACTERS = 20_000_000  # which take some 4 GB while they are counted
FALLBACK_DISCOUNTS = (
    0.5,
    1.0,
    1.5,
)  # of n-grams seen once, twice, more often, where too few were seen to estimate them


@dataclass(frozen=True)
class Level:
    """The n-grams of one length, ordered by the number of their context, then by their last symbol."""

    context: NDArray[np.int64]  # the n-gram without its last symbol: its number among those that are one shorter
    symbol: NDArray[np.int64]  # the last one
    suffix: NDArray[np.int64]  # the n-gram without its first symbol, likewise
    count: NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """The probabilities of the n-grams of one length."""

    probability: NDArray[np.float64]  # of the last symbol after the others
    backoff: NDArray[np.float64]  # of each context, one symbol shorter: the weight of the context's own suffix


def build_language_model(texts: Iterable[str], output: Path, order: int = DEFAULT_ORDER) -> LanguageModelHeader:
    """Count the n-grams of some lines and write the model.

    Args:
        texts: a line each; white space is collapsed, empty lines count for nothing. Nothing else is changed.
        output: the file to write.
        order: characters of the longest n-gram.

    Raises:
        DataError: if there is no text, or too much.
        CharsetError: if it holds control characters.
    """
    lines = [line for line in map(collapse, texts) if line]
    total = sum(map(len, lines))
    if not 0 < total <= MAX_CHARACTERS:
        raise DataError(f"the text has {total} characters; give one of 1 to {MAX_CHARACTERS}")
    charset = Charset("".join(sorted(set().union(*lines))))
    levels = count_ngrams(lines, charset, order)
    estimates = estimate(levels, charset.num_classes + 1)
    facts = TextFacts(len(lines), total, hashlib.sha256("\n".join(lines).encode()).hexdigest())
    return _write(output, charset, levels, estimates, facts)


def count_ngrams(lines: Sequence[str], charset: Charset, order: int) -> list[Level]:
    """Count the n-grams of every length within lines, each with a boundary before and after it."""
    stream_S = np.array([BOUNDARY, *(symbol for line in lines for symbol in (*charset.encode(line), BOUNDARY))])
    symbols = charset.num_classes
    number_S = np.zeros(len(stream_S), np.int64)  # of the n-gram that starts at each place, among those of its length
    inside_S = np.ones(len(stream_S), bool)  # whether it stays within a line
    levels: list[Level] = []
    for length in range(1, order + 1):
        starts = max(len(stream_S) - length + 1, 0)
        inside_S = inside_S[:starts]
        if length > 2:  # noqa: PLR2004 - a boundary may stand first and last
            inside_S &= stream_S[length - 2 : length - 2 + starts] != BOUNDARY
        places = np.flatnonzero(inside_S)
        if not len(places):  # no line is that long
            break
        keys = number_S[places] * symbols + stream_S[places + length - 1]
        found, firsts, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        example = places[firsts]
        suffix = number_S[example + 1] if length > 1 else np.zeros(len(found), np.int64)
        levels.append(Level(found // symbols, found % symbols, suffix, counts))
        number_S = np.full(starts, -1)
        number_S[places] = inverse.reshape(-1)
    return levels


def estimate(levels: Sequence[Level], vocabulary: int) -> list[Estimate]:
    """Return the interpolated modified Kneser-Ney probabilities of every length.

    Args:
        levels: from the shortest to the longest.
        vocabulary: symbols that the shortest context can be followed by, the unknown character among them.
    """
    estimates: list[Estimate] = []
    shorter, contexts = np.array([1 / vocabulary]), 1  # of the suffix; of this length's contexts
    for level, longer in zip(levels, [*levels[1:], None], strict=True):
        count = level.count if longer is None else _continuations(level, longer)
        discount = np.minimum(_discounts(count)[np.minimum(count, 3)], count)
        total, freed = (np.bincount(level.context, values, contexts) for values in (count, discount))
        backoff = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
        lower = shorter[level.suffix]
        probability = (count - discount) / total[level.context] + backoff[level.context] * lower
        estimates.append(Estimate(probability, backoff))
        shorter, contexts = probability, len(probability)
    return estimates


def _continuations(level: Level, longer: Level) -> NDArray[np.int64]:
    """Return how many symbols were seen before each n-gram; its count where it begins lines."""
    before = np.bincount(longer.suffix, minlength=len(level.count))
    return np.where(before == 0, level.count, before)


def _discounts(count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what is taken from n-grams of no, one, two and three or more occurrences."""
    one, two, three, four = ((count == number).sum() for number in (1, 2, 3, 4))
    if not min(one, two, three, four):
        return np.array([0, *FALLBACK_DISCOUNTS])
    share = one / (one + 2 * two)
    discounts = [1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three]
    return np.array([0, *np.clip(discounts, 0.1, [1, 2, 3])])


def _write(
    output: Path, charset: Charset, levels: Sequence[Level], estimates: Sequence[Estimate], facts: TextFacts
) -> LanguageModelHeader:
    sizes = [1, *(len(level.count) for level in levels)]
    bases = np.cumsum([0, *sizes])  # number of the first n-gram of each length
    children = [np.bincount(level.context, minlength=size) for level, size in zip(levels, sizes, strict=False)]
    probability, step = _quantise(np.concatenate([[1.0], *(one.probability for one in estimates)]))
    backoff, backoff_step = _quantise(np.concatenate([one.backoff for one in estimates]))
    suffixes = (level.suffix + base for level, base in zip(levels[:-1], bases, strict=False))
    values = {
        "first": np.cumsum([1, *np.concatenate(children)]),
        "suffix": np.concatenate([[0], *suffixes]),
        "symbol": np.concatenate([[0], *(level.symbol for level in levels)]),
        "probability": probability,
        "backoff": backoff,
    }
    content = b"".join(values[key].astype(kind).tobytes() for key, kind, _ in ARRAYS)
    unknown = estimates[0].backoff[0] / (charset.num_classes + 1)
    header = LanguageModelHeader(
        order=len(levels),
        characters=charset.characters,
        ngrams=int(bases[-1]),
        contexts=int(bases[-2]),
        step=step,
        backoff_step=backoff_step,
        unknown=float(np.log(unknown)),
        sha256=hashlib.sha256(content).hexdigest(),
        text=facts,
    )
    text = json.dumps(asdict(header), ensure_ascii=False).encode()
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % 4)  # so that numbers stand where processors want them
    with atomic_path(output) as temporary:
        temporary.write_bytes(MAGIC + len(text).to_bytes(4, "little") + text + content)
    return header


def _quantise(values: NDArray[np.float64]) -> tuple[NDArray[np.uint8], float]:
    """Return -log of each value in steps, rounded, and the step in nats."""
    nats = -np.log(values)
    step = float(nats.max()) / 255 or 1.0
    return np.rint(nats / step).astype(np.uint8), step
