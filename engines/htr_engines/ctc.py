"""Greedy CTC decoding, with a confidence and a place for everything it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_engines.charset import Charset


@dataclass(frozen=True)
class Span:
    """A character or a word, and where it stands on the line."""

    text: str
    confidence: float  # 0 to 1
    start: float  # of the first frame; frames here, pixels of the image once a recogniser has scaled it
    end: float  # past the last frame

    def to_dict(self) -> dict[str, Any]:
        """Return the span for JSON, rounded to what it is good for."""
        return {
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "start": round(self.start, 1),
            "end": round(self.end, 1),
        }


@dataclass(frozen=True)
class Reading:
    """What was read on one line."""

    text: str
    confidence: float  # 0 to 1; geometric mean over the characters, of an empty line over the blank frames
    words: tuple[Span, ...]
    characters: tuple[Span, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the reading for JSON."""
        return {
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "words": [word.to_dict() for word in self.words],
            "characters": [character.to_dict() for character in self.characters],
        }


def decode_greedy(logits_NTC: NDArray[np.float32], charset: Charset) -> list[Reading]:
    """Decode by the best class of each frame: merge repeats, then drop blanks (Graves et al., 2006).

    A character's confidence is the highest softmax probability within its run of frames.

    Args:
        logits_NTC: float [N,T,C], class 0 the blank.
        charset: of C - 1 characters.

    Returns:
        N readings. Frames that are not finite count as blanks of confidence 0.
    """
    logits_NTC = np.asarray(logits_NTC, np.float32)
    charset.check_fits(logits_NTC.shape[2])
    finite_NT = np.all(np.isfinite(logits_NTC), axis=-1)
    logits_NTC = np.where(finite_NT[..., None], logits_NTC, 0.0)
    best_NT = np.where(finite_NT, logits_NTC.argmax(-1), 0)
    peak_NT = logits_NTC.max(-1)
    # In float64, so that every platform's exp gives the same figures once they are rounded for people.
    log_p_NT = -np.log(np.exp(np.subtract(logits_NTC, peak_NT[..., None], dtype=np.float64)).sum(-1))
    log_p_NT = np.where(finite_NT, log_p_NT, -np.inf)
    return [
        _decode_line(best_T, log_p_T, charset.characters) for best_T, log_p_T in zip(best_NT, log_p_NT, strict=True)
    ]


def _decode_line(best_T: NDArray[np.int64], log_p_T: NDArray[np.float64], characters: str) -> Reading:
    if not len(best_T):
        return Reading("", 0.0, (), ())
    starts = np.concatenate([[0], np.flatnonzero(np.diff(best_T)) + 1])
    ends = np.append(starts[1:], len(best_T))
    log_p = np.maximum.reduceat(log_p_T, starts)
    kept = best_T[starts] != 0
    spans = tuple(
        Span(characters[best_T[start] - 1], math.exp(p), float(start), float(end))
        for start, end, p in zip(starts[kept], ends[kept], log_p[kept], strict=True)
    )
    confidence = _geometric_mean(log_p[kept] if spans else log_p_T)
    return Reading("".join(span.text for span in spans), confidence, _words(spans), spans)


def _words(characters: tuple[Span, ...]) -> tuple[Span, ...]:
    words: list[Span] = []
    run: list[Span] = []
    for span in (*characters, Span(" ", 1.0, 0.0, 0.0)):
        if not span.text.isspace():
            run.append(span)
        elif run:
            log_p = np.log([max(item.confidence, 1e-45) for item in run])
            text = "".join(item.text for item in run)
            words.append(Span(text, _geometric_mean(log_p), run[0].start, run[-1].end))
            run = []
    return tuple(words)


def _geometric_mean(log_p: NDArray[np.floating]) -> float:
    return math.exp(float(np.mean(log_p)))
