"""Beam search over the CTC output, with and without a language model."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines import beam
from htr_engines.beam import BeamDecoder, BeamOptions, best_path
from htr_engines.charset import Charset
from htr_engines.ctc import decode_greedy
from htr_engines.errors import CharsetError
from htr_engines.language_model import read_language_model
from htr_training.language_model import build_language_model

ABC = Charset("ab ")
TEXTS = ["abba", "ab ab", "baab a", "a b"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.htrlm"
    build_language_model(TEXTS, path, 3)
    return read_language_model(path)


@pytest.fixture
def unpruned(monkeypatch):
    """Let the search keep everything."""
    monkeypatch.setattr(beam, "MIN_SHARE", 0.0)
    monkeypatch.setattr(beam, "CUT", 0.0)


def random_logits(seed: int, frames: int, height: float = 3.0, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, height, (1, frames, classes)).astype(np.float32)


def softmax(logits_1TC: np.ndarray) -> np.ndarray:
    e = np.exp(logits_1TC[0].astype(np.float64))
    return e / e.sum(-1, keepdims=True)


def all_texts(logits_1TC: np.ndarray) -> dict[str, float]:
    """Return the probability of every text, by every path."""
    p_TC, found = softmax(logits_1TC), defaultdict(float)
    for path in itertools.product(range(p_TC.shape[1]), repeat=len(p_TC)):
        text = "".join(ABC.characters[klass - 1] for klass, _ in itertools.groupby(path) if klass)
        found[text] += math.prod(p_TC[frame, klass] for frame, klass in enumerate(path))
    return found


@pytest.mark.usefixtures("unpruned")
@pytest.mark.parametrize("with_model", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_a_wide_beam_finds_what_trying_all_paths_finds(model, seed, with_model):
    logits_1TC = random_logits(seed, 5)
    options = BeamOptions(beam=10_000, lm_weight=0.8, length_bonus=0.5, n_best=10_000)
    (reading,) = BeamDecoder(ABC, options, model if with_model else None)(logits_1TC)
    expected = {
        text: math.log(p) + (0.8 * model.score(text) + 0.5 * len(text) if with_model else 0)
        for text, p in all_texts(logits_1TC).items()
    }
    found = {alternative.text: alternative.score for alternative in reading.alternatives}
    assert found == pytest.approx(expected)
    assert reading.text == max(expected, key=expected.__getitem__) == reading.alternatives[0].text
    scores = [alternative.score for alternative in reading.alternatives]
    assert scores == sorted(scores, reverse=True)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 16))
@settings(deadline=None)
def test_where_the_network_is_sure_any_beam_reads_what_greedy_reads(classes, width):
    logits_1TC = 20 * np.eye(4, dtype=np.float32)[np.array([classes])]
    options = BeamOptions(beam=width)
    assert BeamDecoder(ABC, options)(logits_1TC) == decode_greedy(logits_1TC, ABC)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(1, 8), st.sampled_from([0.0, 0.3, 2.0]))
@settings(max_examples=100, deadline=None)
def test_any_logits_give_places_and_confidences_of_the_text(model, seed, frames, width, weight):
    logits_1TC = random_logits(seed, frames)
    options = BeamOptions(beam=width, lm_weight=weight, n_best=3)
    (reading,) = BeamDecoder(ABC, options, model)(logits_1TC)
    (greedy,) = decode_greedy(logits_1TC, ABC)
    spans = reading.characters
    assert "".join(span.text for span in spans) == reading.text == reading.alternatives[0].text
    assert 1 <= len(reading.alternatives) <= min(3, width)
    assert all(0 <= span.confidence <= 1 and 0 <= span.start < span.end <= frames for span in spans)
    assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
    for span in spans:  # the largest probability of the character in its frames
        klass, places = ABC.encode(span.text)[0], slice(int(span.start), int(span.end))
        assert span.confidence == pytest.approx(softmax(logits_1TC)[places, klass].max(), rel=1e-4)
    if reading.text == greedy.text:
        assert (reading.confidence, spans) == (greedy.confidence, greedy.characters)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_the_best_path_is_the_most_probable_of_those_that_spell_the_text(seed, frames):
    log_p_TC = np.log(softmax(random_logits(seed, frames, 2.0, 3)))
    best = {}
    for path in itertools.product(range(3), repeat=frames):
        spelled = tuple(klass for klass, _ in itertools.groupby(path) if klass)
        total = sum(log_p_TC[frame, klass] for frame, klass in enumerate(path))
        best[spelled] = max(best.get(spelled, -math.inf), total)
    for spelled, total in best.items():
        path_T = best_path(log_p_TC, list(spelled))
        assert tuple(klass for klass, _ in itertools.groupby(path_T.tolist()) if klass) == spelled
        assert log_p_TC[np.arange(frames), path_T].sum() == pytest.approx(total)


def test_a_language_model_decides_what_the_network_leaves_open(model):
    logits_1TC = np.full((1, 7, 4), -8, np.float32)
    for frame, classes in enumerate([(1,), (0,), (2,), (0,), (1, 2), (0,), (1,)]):
        logits_1TC[0, frame, list(classes)] = 8
    logits_1TC[0, 4, 1] += 0.5  # rather an a
    assert decode_greedy(logits_1TC, ABC)[0].text == "abaa"
    (reading,) = BeamDecoder(ABC, BeamOptions(n_best=2), model)(logits_1TC)
    assert [alternative.text for alternative in reading.alternatives] == ["abba", "abaa"]
    assert reading.characters[2].confidence == pytest.approx(1 / (1 + math.exp(0.5)), rel=1e-3)
    assert reading.to_dict()["alternatives"][0] == {
        "text": "abba",
        "score": round(reading.alternatives[0].score, 3),
    }


def test_golden_texts_and_scores(model):
    """What the search gave when it was written; one that keeps 300 texts finds the same two, 0.3 nats higher."""
    (reading,) = BeamDecoder(ABC, BeamOptions(n_best=2), model)(random_logits(7, 24, 4.0))
    found = {alternative.text: alternative.score for alternative in reading.alternatives}
    assert found == pytest.approx({"a b a abaab b ba": -5.571, "a b a baab b ba": -5.904}, abs=1e-3)


def test_frames_that_are_not_finite_read_as_nothing(model):
    logits_2TC = 20 * np.eye(4, dtype=np.float32)[np.array([[1, 2], [1, 1]])]
    logits_2TC[0, 1] = np.nan
    logits_2TC[1] = np.inf
    assert [reading.text for reading in BeamDecoder(ABC, BeamOptions(lm_weight=0), model)(logits_2TC)] == ["a", ""]


def test_a_charset_that_the_model_does_not_know(model):
    charset = Charset("xyz")
    logits_1TC = 20 * np.eye(4, dtype=np.float32)[np.array([[1, 2, 0, 2]])]
    assert BeamDecoder(charset, BeamOptions(), model)(logits_1TC)[0].text == "xyy"


def test_weights_that_leave_the_range_of_floats(model):
    options = BeamOptions(lm_weight=1000.0, length_bonus=-1000.0)
    assert BeamDecoder(ABC, options, model)(random_logits(1, 40))[0].text is not None


def test_the_wrong_charset_is_refused(model):
    with pytest.raises(CharsetError, match="5"):
        BeamDecoder(ABC, BeamOptions(), model)(np.zeros((1, 2, 5), np.float32))
