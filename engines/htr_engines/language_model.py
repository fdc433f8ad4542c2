"""A character n-gram language model in one file, whose arrays are used in place. engines/FORMAT.md describes it.

``htr-train lm`` writes it; probabilities are interpolated modified Kneser-Ney (Chen and Goodman, "An empirical study of
smoothing techniques for language modeling", 1998), quantised to 8 bits of their logarithm.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta

from htr_engines.charset import Charset
from htr_engines.documents import Sha256, parse_json
from htr_engines.errors import CharsetError, DataError, FileError
from htr_engines.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"HTR-LM\0\x01"  # the last byte is the version
SUFFIX = ".htrlm"
MAX_BYTES = 256 << 20
MAX_ORDER = 16
CACHED_NUMBERS = 1 << 20  # log probabilities of the states that were met last
CURE = "make it again with 'htr-train lm'"
BOUNDARY = 0  # the symbol before the first character and after the last; character k of the charset is symbol k
# The arrays in their order: name, type, and whether they have an entry for each context only.
ARRAYS = (
    ("first", "<u4", True),  # number of the first child; one entry more, so that each one's children end at the next
    ("suffix", "<u4", True),  # the n-gram without its first symbol
    ("symbol", "<u2", False),  # the last symbol
    ("probability", "u1", False),  # -log p of the last symbol after the others, in steps
    ("backoff", "u1", True),  # -log of the weight of the shorter context, in backoff steps
)


@dataclass(frozen=True)
class TextFacts:
    """The text that a model was counted on."""

    lines: int
    characters: int
    sha256: Sha256


@dataclass(frozen=True)
class LanguageModelHeader:
    """What the file says of itself."""

    order: Annotated[int, Meta(ge=2, le=MAX_ORDER)]  # symbols of the longest n-gram
    characters: str
    ngrams: Annotated[int, Meta(ge=2, le=MAX_BYTES)]  # of all lengths, and the empty one
    contexts: Annotated[int, Meta(ge=2, le=MAX_BYTES)]  # those that are shorter than the order; they come first
    step: Annotated[float, Meta(ge=0, le=1)]  # nats
    backoff_step: Annotated[float, Meta(ge=0, le=1)]  # nats
    unknown: Annotated[float, Meta(ge=-100, le=0)]  # log p of a character outside the charset, without context
    sha256: Sha256  # of the arrays
    text: TextFacts


class LanguageModel:
    """An n-gram model. A state is the number of the longest context that the model knows.

    Args:
        content: of a file.
        name: for messages.

    Raises:
        DataError: if it is no such file, or damaged.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.header, arrays_at = _read_header(content, name)
        try:
            self.charset = Charset(self.header.characters)
        except CharsetError as error:
            raise DataError(f"{name} is damaged ({error}); {CURE}") from None
        arrays = _read_arrays(content, arrays_at, self.header, name)
        _check_arrays(arrays, self.header, name)
        # As memory views, whose elements Python reads faster than those of numpy's arrays.
        self._first, self._suffix, self._symbol = (arrays[key].data for key in ("first", "suffix", "symbol"))
        self._arrays = arrays
        self._log_p = -self.header.step * np.arange(256)
        self._places = {character: place for place, character in enumerate(self.charset.characters, 1)}
        self.start = 1  # the boundary's unigram: the smallest symbol after the empty context
        self.log_p = lru_cache(maxsize=max(CACHED_NUMBERS // len(self._places), 64))(self._log_p_after)

    def symbols(self, characters: str) -> list[int]:
        """Return the symbol of each character; those that the model does not know share one."""
        return [self._places.get(character, len(self._places) + 1) for character in characters]

    def score(self, text: str) -> float:
        """Return the natural logarithm of the probability of a whole line."""
        state, total = self.start, 0.0
        for symbol in (*self.symbols(text), BOUNDARY):
            total += float(self.log_p(state)[symbol])
            state = self.after(state, symbol)
        return total

    def after(self, state: int, symbol: int) -> int:
        """Return the state after another symbol."""
        while True:
            child = self._child(state, symbol)
            if child and child < self.header.contexts:
                return child
            if not state:
                return 0
            state = self._suffix[state]

    def _log_p_after(self, state: int) -> NDArray[np.float64]:
        """Return the log probability of each symbol in a state, the end of the line first and the unknown one last."""
        children = slice(self._first[state], self._first[state + 1])
        log_p: NDArray[np.float64]
        if state:
            log_p = self.log_p(self._suffix[state]) - self.header.backoff_step * self._arrays["backoff"][state]
        else:
            log_p = np.full(len(self._places) + 2, self.header.unknown)
        log_p[self._arrays["symbol"][children]] = self._log_p[self._arrays["probability"][children]]
        return log_p

    def _child(self, node: int, symbol: int) -> int:
        """Return the n-gram that is longer by a symbol; 0, the empty one, if there is none."""
        end = self._first[node + 1]
        place = bisect_left(self._symbol, symbol, self._first[node], end)
        return place if place < end and self._symbol[place] == symbol else 0


def read_language_model(path: Path) -> LanguageModel:
    """Read a file of ``htr-train lm``.

    Raises:
        DataError: if it cannot be read, is no such file, or damaged.
    """
    return LanguageModel(read_content(path), str(path))


def read_content(path: Path) -> bytes:
    """Return the bytes of a language model; one that cannot be read raises :class:`DataError`."""
    try:
        return read_file(path, MAX_BYTES)
    except FileError as error:
        raise DataError(str(error)) from None


def _read_header(content: bytes, name: str) -> tuple[LanguageModelHeader, int]:
    """Return the header and where the arrays begin."""
    if not content.startswith(MAGIC):
        known = content.startswith(MAGIC[:-1])
        what = "of a version that this release does not know" if known else "no language model"
        raise DataError(f"{name} is {what}; make one with 'htr-train lm'")
    size = int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "little")
    start = len(MAGIC) + 4
    header = parse_json(content[start : start + size], LanguageModelHeader, f"the header of {name}", CURE)
    return header, start + size


def _read_arrays(content: bytes, start: int, header: LanguageModelHeader, name: str) -> dict[str, NDArray[Any]]:
    sizes = [(header.contexts + (key == "first")) if short else header.ngrams for key, _, short in ARRAYS]
    widths = [np.dtype(kind).itemsize for _, kind, _ in ARRAYS]
    offsets = list(accumulate((size * width for size, width in zip(sizes, widths, strict=True)), initial=start))
    if offsets[-1] != len(content):
        raise DataError(f"{name} is damaged (it has {len(content)} bytes instead of {offsets[-1]}); {CURE}")
    if hashlib.sha256(memoryview(content)[start:]).hexdigest() != header.sha256:
        raise DataError(f"{name} is damaged (its SHA-256 is not that in its header); {CURE}")
    return {
        key: np.require(np.frombuffer(content, kind, size, offset), np.dtype(kind).type, ["ALIGNED"])
        for (key, kind, _), size, offset in zip(ARRAYS, sizes, offsets, strict=False)
    }


def _check_arrays(arrays: dict[str, NDArray[Any]], header: LanguageModelHeader, name: str) -> None:
    """Refuse arrays that lead outside, or in circles: every lookup ends after at most as many steps as the order."""
    first, suffix, symbol = (arrays[key].astype(np.int64) for key in ("first", "suffix", "symbol"))
    is_sound = first[0] == 1 and first[-1] == header.ngrams and (np.diff(first) >= 0).all()
    below, begin, end = 0, 0, 1  # first n-gram of one symbol less; first of this length, and the one past the last
    for _ in range(header.order):
        is_sound = is_sound and begin < end <= header.contexts
        if not is_sound:
            break
        is_sound = bool(((suffix[begin:end] >= below) & (suffix[begin:end] < max(begin, 1))).all())
        below, begin, end = begin, end, int(first[end])
    is_sound = is_sound and begin == header.contexts and end == header.ngrams
    rises = np.diff(symbol[1:]) > 0
    rises[first[(first > 1) & (first < header.ngrams)] - 2] = True  # between the children of two n-grams
    is_sound = is_sound and rises.all() and symbol.max() <= len(header.characters) and symbol[1] == BOUNDARY
    if not is_sound:
        raise DataError(f"{name} is damaged (its n-grams do not belong together); {CURE}")
