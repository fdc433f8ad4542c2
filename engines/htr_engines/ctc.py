"""Greedy CTC decoding, with a confidence and a place for everything it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_engines.charset import Charset

LEAST_LOG_P = math.log(1e-45)  # below the smallest float32: a character of confidence 0 does not make its word's 0


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
class Alternative:
    """A text that the beam search found for a line."""

    text: str
    score: float  # nats; htr_engines.beam.BeamOptions says of what

    def to_dict(self) -> dict[str, Any]:
        """Return the alternative for JSON."""
        return {"text": self.text, "score": round(self.score, 3)}


@dataclass(frozen=True)
class Reading:
    """What was read on one line. Its words and characters are built when they are asked for."""

    text: str
    confidence: float  # 0 to 1; geometric mean over the characters, of an empty line over the blank frames
    log_p: tuple[float, ...] = ()  # of each character: the logarithm of its confidence
    starts: tuple[float, ...] = ()  # of each character, as Span has it
    ends: tuple[float, ...] = ()
    alternatives: tuple[Alternative, ...] = ()  # the best texts of a beam search that was asked for several

    @cached_property
    def characters(self) -> tuple[Span, ...]:
        """The characters in order."""
        return tuple(
            Span(text, math.exp(log_p), start, end)
            for text, log_p, start, end in zip(self.text, self.log_p, self.starts, self.ends, strict=True)
        )

    @cached_property
    def words(self) -> tuple[Span, ...]:
        """The words between white space; the confidence of one is the geometric mean over its characters."""
        words = []
        first = 0
        for index, character in enumerate(f"{self.text} "):
            if not character.isspace():
                continue
            if first < index:
                log_p = [max(value, LEAST_LOG_P) for value in self.log_p[first:index]]
                confidence = math.exp(sum(log_p) / len(log_p))
                words.append(Span(self.text[first:index], confidence, self.starts[first], self.ends[index - 1]))
            first = index + 1
        return tuple(words)

    def scaled(self, factor: float, limit: float) -> Reading:
        """Return the reading with places in other units, none of them beyond ``limit``."""
        starts, ends = (tuple(min(place * factor, limit) for place in places) for places in (self.starts, self.ends))
        return replace(self, starts=starts, ends=ends)

    def to_dict(self) -> dict[str, Any]:
        """Return the reading for JSON."""
        document: dict[str, Any] = {
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "words": [word.to_dict() for word in self.words],
            "characters": [character.to_dict() for character in self.characters],
        }
        if self.alternatives:
            document["alternatives"] = [alternative.to_dict() for alternative in self.alternatives]
        return document


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
    lines, frames, classes = logits_NTC.shape
    charset.check_fits(classes)
    if not lines or not frames:
        return [Reading("", 0.0)] * lines
    finite_NT: NDArray[np.bool_] = np.all(np.isfinite(logits_NTC), axis=-1)
    best_NT = np.where(finite_NT, logits_NTC.argmax(-1), 0)
    log_p_NT = _log_p_of_best(logits_NTC, best_NT, finite_NT)
    starts_NT = np.ones((lines, frames), bool)
    np.not_equal(best_NT[:, 1:], best_NT[:, :-1], out=starts_NT[:, 1:])

    starts_R = np.flatnonzero(starts_NT)  # of the runs of equal frames, in all lines
    kept_R = best_NT.ravel()[starts_R] != 0
    log_p_K = np.maximum.reduceat(log_p_NT.ravel(), starts_R)[kept_R].tolist()
    classes_K = best_NT.ravel()[starts_R[kept_R]].tolist()
    line_K, start_K = np.divmod(starts_R[kept_R], frames)
    end_K = (np.append(starts_R[1:], lines * frames)[kept_R] - line_K * frames).astype(float).tolist()
    bounds = np.searchsorted(line_K, np.arange(lines + 1)).tolist()
    start_K = start_K.astype(float).tolist()
    readings = []
    for log_p_T, first, last in zip(log_p_NT, bounds, bounds[1:], strict=False):
        log_p = log_p_K[first:last] or log_p_T.tolist()
        readings.append(
            Reading(
                "".join([charset.characters[index - 1] for index in classes_K[first:last]]),
                math.exp(sum(log_p) / len(log_p)),
                tuple(log_p_K[first:last]),
                tuple(start_K[first:last]),
                tuple(end_K[first:last]),
            )
        )
    return readings


def _log_p_of_best(
    logits_NTC: NDArray[np.float32], best_NT: NDArray[np.int64], finite_NT: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the log softmax of the best class of the frames that count: those of characters, or all of empty lines."""
    wanted_NT = best_NT != 0
    wanted_NT |= ~wanted_NT.any(axis=1, keepdims=True)
    wanted_NT &= finite_NT
    logits_FC = logits_NTC[wanted_NT]
    log_p_NT = np.full(best_NT.shape, -np.inf)
    # In float64, so that every platform's exp gives the same figures once they are rounded for people.
    peak_F1 = logits_FC.max(-1, keepdims=True)
    log_p_NT[wanted_NT] = -np.log(np.exp(np.subtract(logits_FC, peak_F1, dtype=np.float64)).sum(-1))
    return log_p_NT
