"""Prefix beam search over the CTC output, with a character n-gram language model.

Own code, since no kept library serves: flashlight-text has no wheels for Python 3.13, and its character models are
KenLM's (LGPL, no wheels) or call back into Python; pyctcdecode wants numpy below 2, and KenLM; fast-ctc-decode knows no
language model; torchaudio wants PyTorch. None gives confidences and places of characters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta

from htr_engines.ctc import Alternative, Reading, decode_greedy
from htr_engines.language_model import BOUNDARY, CACHED_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from htr_engines.charset import Charset
    from htr_engines.language_model import LanguageModel

MAX_BEAM = 1024
MAX_WEIGHT = 20.0
MIN_SHARE = 1e-3  # of the probability of a frame's best class, below which a class is not tried
MAX_CLASSES = 16  # tried in a frame
LOG_LIMIT = 600.0  # exp of more, or of less, leaves the range of a float
ROOT = -1  # key of the empty text
CUT = 1e-4  # of the best text's probability, below which a text is dropped
Beam = list[tuple[int, float, float]]  # texts, with the probability of paths that end in a blank and in the last class
Frame = tuple[float, list[tuple[int, float]]]  # the blank's probability; classes worth trying with theirs


@dataclass(frozen=True)
class BeamOptions:
    """How the beam search weighs and what it returns.

    With a language model a text scores log p(text | image) + lm_weight * log p(text) + length_bonus * characters, in
    nats; without one log p(text | image).
    """

    beam: Annotated[int, Meta(ge=1, le=MAX_BEAM)] = 16  # texts kept after each frame
    lm_weight: Annotated[float, Meta(ge=0, le=MAX_WEIGHT)] = 0.75
    length_bonus: Annotated[float, Meta(ge=-MAX_WEIGHT, le=MAX_WEIGHT)] = 1.0  # or a language model likes short texts
    n_best: Annotated[int, Meta(ge=1, le=MAX_BEAM)] = 1  # texts returned with a reading, its own first; with 1 none are


class _Prefixes:
    """The texts that the paths of a line may have read so far: a tree, in lists by the number of a text.

    Numbers in place of objects give the garbage collector nothing to do, which takes more time than the search.
    """

    def __init__(self, model: LanguageModel | None, symbols: Sequence[int]) -> None:
        self._model, self._symbols = model, symbols
        self._before = [0]
        self._numbers: dict[int, int] = {ROOT: 0}  # by key
        self.state = [model.start if model else 0]
        self.key = [ROOT]  # of a text: the number of the text before its last class, and that class
        self.klass = [0]  # the last one

    def of_key(self, key: int) -> int:
        """Return the text of a key."""
        if key in self._numbers:
            return self._numbers[key]
        before, klass = divmod(key, len(self._symbols))
        number = self._numbers[key] = len(self.key)
        self._before.append(before)
        self.state.append(self._model.after(self.state[before], self._symbols[klass]) if self._model else 0)
        self.key.append(key)
        self.klass.append(klass)
        return number

    def classes(self, prefix: int) -> list[int]:
        """Return the whole text."""
        found: list[int] = []
        while prefix:
            found.append(self.klass[prefix])
            prefix = self._before[prefix]
        return found[::-1]


class BeamDecoder:
    """Decodes by prefix beam search (Graves and Jaitly, 2014; Hannun et al., 2014).

    Args:
        charset: of the network.
        options: the weights.
        model: the language model; None for the CTC output alone.
    """

    def __init__(self, charset: Charset, options: BeamOptions, model: LanguageModel | None = None) -> None:
        self.charset = charset
        self.options = options
        self.model = model
        self._symbols = [BOUNDARY, *(model.symbols(charset.characters) if model else charset.characters)]
        self._gains = lru_cache(maxsize=max(CACHED_NUMBERS // charset.num_classes, 64))(self._gains_after)

    def __call__(self, logits_NTC: NDArray[np.float32]) -> list[Reading]:
        """Decode lines.

        Places and confidences are those of the network alone, along the best path that spells the text, as greedy
        decoding defines them. A character that the language model brought in has a low one. They are not calibrated.

        Args:
            logits_NTC: float [N,T,C], class 0 the blank.

        Returns:
            N readings. Frames that are not finite count as blanks.
        """
        logits_NTC = np.asarray(logits_NTC, np.float32)
        greedy = decode_greedy(logits_NTC, self.charset)
        log_p_NTC = _log_softmax(logits_NTC)
        return [self._decode(log_p_TC, best) for log_p_TC, best in zip(log_p_NTC, greedy, strict=True)]

    def _decode(self, log_p_TC: NDArray[np.float64], greedy: Reading) -> Reading:
        scored = self._search(_frames(np.exp(log_p_TC)))[: self.options.n_best]
        characters = self.charset.characters
        texts = ["".join(characters[klass - 1] for klass in classes) for classes, _ in scored]
        alternatives = tuple(Alternative(text, score) for text, (_, score) in zip(texts, scored, strict=True))
        reading = greedy
        if texts[0] != greedy.text:  # else the best path is the best of each frame
            path_T = best_path(log_p_TC, scored[0][0])
            reading = follow_path(path_T, log_p_TC[np.arange(len(path_T)), path_T], characters)
        return replace(reading, alternatives=alternatives if self.options.n_best > 1 else ())

    def _search(self, frames: list[Frame]) -> list[tuple[list[int], float]]:
        """Return texts as classes with their scores, the best first."""
        prefixes = _Prefixes(self.model, self._symbols)
        beam = [(0, 1.0, 0.0)]
        scale = 0.0  # log of what the probabilities were divided by
        for blank, classes in frames:
            if classes:
                beam, largest = self._grow(prefixes, beam, blank, classes)
            else:
                beam, largest = [(prefix, ended + open_, 0.0) for prefix, ended, open_ in beam], blank
            scale += math.log(largest)
        scores = [
            (prefixes.classes(prefix), scale + math.log(ended + open_) + self._end(prefixes.state[prefix]))
            for prefix, ended, open_ in beam
        ]
        return sorted(scores, key=lambda one: -one[1])

    def _grow(
        self, prefixes: _Prefixes, beam: Beam, blank: float, classes: list[tuple[int, float]]
    ) -> tuple[Beam, float]:
        """Return the most probable texts after another frame, divided by the largest probability, and that."""
        ended_after: dict[int, float] = {}  # by the key of a text
        open_after: dict[int, float] = {}
        for prefix, ended, open_ in beam:
            both, last, key = ended + open_, prefixes.klass[prefix], prefixes.key[prefix]
            first, gains = prefix * len(self._symbols), self._gains(prefixes.state[prefix])
            ended_after[key] = both * blank
            for klass, p in classes:
                grown = both
                if klass == last:
                    open_after[key] = open_after.get(key, 0.0) + open_ * p
                    grown = ended
                longer = first + klass
                open_after[longer] = open_after.get(longer, 0.0) + grown * p * gains[klass]
        totals = {key: open_ + ended_after.get(key, 0.0) for key, open_ in open_after.items()}
        ranked = sorted((ended_after | totals).items(), key=_second, reverse=True)[: self.options.beam]
        largest = ranked[0][1]
        return [
            (prefixes.of_key(key), ended_after.get(key, 0.0) / largest, open_after.get(key, 0.0) / largest)
            for key, total in ranked
            if total > largest * CUT
        ], largest

    def _gains_after(self, state: int) -> list[float]:
        """Return by how much the language model and the bonus change the probability of each class in a state."""
        if self.model is None:
            return [1.0] * len(self._symbols)
        log_gain_C = self.options.lm_weight * self.model.log_p(state)[self._symbols] + self.options.length_bonus
        gains: list[float] = np.exp(np.clip(log_gain_C, -LOG_LIMIT, LOG_LIMIT)).tolist()
        return gains

    def _end(self, state: int) -> float:
        """Return what the end of the line adds to the score of a text."""
        return self.options.lm_weight * float(self.model.log_p(state)[BOUNDARY]) if self.model else 0.0


_second = itemgetter(1)


def _log_softmax(logits_NTC: NDArray[np.float32]) -> NDArray[np.float64]:
    finite_NT1 = np.all(np.isfinite(logits_NTC), axis=-1, keepdims=True)
    shifted_NTC = np.where(finite_NT1, logits_NTC, 0).astype(np.float64)
    shifted_NTC -= shifted_NTC.max(-1, keepdims=True)
    log_p_NTC = shifted_NTC - np.log(np.exp(shifted_NTC).sum(-1, keepdims=True))
    blank_C = np.where(np.arange(logits_NTC.shape[-1]) == 0, 0.0, -np.inf)
    return np.where(finite_NT1, log_p_NTC, blank_C)


def _frames(p_TC: NDArray[np.float64]) -> list[Frame]:
    """Return each frame's blank and the classes worth trying, the most probable first."""
    inked_TC = p_TC[:, 1:]
    kept = min(MAX_CLASSES, inked_TC.shape[1])
    floor_T1 = np.partition(inked_TC, -kept, axis=1)[:, -kept, None]
    floor_T1 = np.maximum(floor_T1, MIN_SHARE * p_TC.max(-1, keepdims=True))
    frames: list[Frame] = [(blank, []) for blank in p_TC[:, 0].tolist()]  # a sure blank is left without classes
    rows, classes = np.nonzero(inked_TC >= floor_T1)
    for row, klass, p in zip(rows.tolist(), (classes + 1).tolist(), inked_TC[rows, classes].tolist(), strict=True):
        frames[row][1].append((klass, p))
    for _, found in frames:
        found.sort(key=_second, reverse=True)
    return frames


def best_path(log_p_TC: NDArray[np.float64], classes: list[int]) -> NDArray[np.int64]:
    """Return the most probable path that spells a text (Viterbi), as the class of each frame.

    Args:
        log_p_TC: log probabilities, class 0 the blank.
        classes: the text.
    """
    spelled_S = np.zeros(2 * len(classes) + 1, np.int64)  # with blanks before, between and after
    spelled_S[1::2] = classes
    may_skip_S = np.zeros(len(spelled_S), bool)  # the blank between two characters, unless they are equal
    may_skip_S[3::2] = spelled_S[3::2] != spelled_S[1:-2:2]
    log_p_TS = log_p_TC[:, spelled_S]
    best_S = np.full(len(spelled_S) + 2, -np.inf)  # two more before the first, from which no path comes
    best_S[2:4] = log_p_TS[0, :2]
    steps_TS = np.zeros(log_p_TS.shape, np.int64)
    for frame in range(1, len(log_p_TS)):
        choices_3S = np.stack([best_S[2:], best_S[1:-1], np.where(may_skip_S, best_S[:-2], -np.inf)])
        steps_TS[frame] = choices_3S.argmax(0)
        best_S[2:] = choices_3S.max(0) + log_p_TS[frame]
    place = len(spelled_S) - 2 + int(best_S[-2:].argmax())
    path_T = np.empty(len(log_p_TS), np.int64)
    for frame in range(len(log_p_TS) - 1, -1, -1):
        path_T[frame] = spelled_S[place]
        place -= int(steps_TS[frame, place])
    return path_T


def follow_path(path_T: NDArray[np.int64], log_p_T: NDArray[np.float64], characters: str) -> Reading:
    """Return what a path reads, with the largest log probability of each run of frames as its character's.

    Args:
        path_T: the class of each frame, 0 the blank.
        log_p_T: its log probability.
        characters: that of class k is the k-th.
    """
    starts = np.flatnonzero(np.diff(path_T, prepend=-1))
    ends = np.append(starts[1:], len(path_T))
    kept = path_T[starts] != 0
    found: list[float] = np.maximum.reduceat(log_p_T, starts)[kept].tolist()
    log_p = found or log_p_T.tolist()
    places = (tuple(values[kept].astype(float).tolist()) for values in (starts, ends))
    text = "".join(characters[klass - 1] for klass in path_T[starts[kept]].tolist())
    return Reading(text, math.exp(sum(log_p) / len(log_p)), tuple(found), *places)
