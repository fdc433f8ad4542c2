"""Character language models: their probabilities, and files that strangers give."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.charset import Charset
from htr_engines.errors import DataError
from htr_engines.language_model import BOUNDARY, MAGIC, LanguageModel, read_language_model
from htr_training.language_model import build_language_model, count_ngrams, estimate

TEXTS = ["anna", "anne", "hanna", "an anna", "nah"]
some_texts = st.lists(st.text("abcß ", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=12)


def built(folder, texts, order=3):
    path = folder / "lm.htrlm"
    build_language_model(texts, path, order)
    return read_language_model(path)


def states(model, text):
    state = model.start
    yield state
    for symbol in model.symbols(text):
        state = model.after(state, symbol)
        yield state


@given(some_texts, st.integers(2, 5), st.text("abcßx ", max_size=8))
@settings(deadline=None, max_examples=60)
def test_probabilities_sum_to_one_after_any_text(tmp_path_factory, texts, order, text):
    model = built(tmp_path_factory.mktemp("lm"), texts, order)
    slack = math.exp(order * (model.header.step + model.header.backoff_step) / 2)
    for state in states(model, text):
        assert 1 / slack <= np.exp(model.log_p(state)).sum() <= slack


@given(some_texts, st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_estimates_sum_to_one_and_are_stored_within_half_a_step(tmp_path_factory, texts, order):
    model = built(tmp_path_factory.mktemp("lm"), texts, order)
    lines = [" ".join(text.split()) for text in texts]
    levels = count_ngrams(lines, model.charset, order)
    estimates = estimate(levels, model.charset.num_classes + 1)
    shorter, node = np.array([1 / (model.charset.num_classes + 1)]), 1
    for level, one in zip(levels, estimates, strict=True):
        seen, reached = (
            np.bincount(level.context, values, len(one.backoff)) for values in (one.probability, shorter[level.suffix])
        )
        # Of a context's own share each symbol has its estimate; the rest share the backoff as the suffix shares it.
        followed = np.unique(level.context)
        np.testing.assert_allclose((seen + one.backoff * (1 - reached))[followed], 1, atol=1e-9)
        stored = model._arrays["probability"][node : node + len(one.probability)] * model.header.step
        np.testing.assert_allclose(stored, -np.log(one.probability), atol=model.header.step / 2 + 1e-9)
        shorter, node = one.probability, node + len(one.probability)


def test_probabilities_of_a_text_worked_out_by_hand(tmp_path):
    """One text, "ab": each n-gram was seen once, so half of everything is taken and shared out by the unigrams."""
    model = built(tmp_path, ["ab"], 2)
    # Unigrams: the boundary, a and b follow one symbol each, less 0.5 of each, plus half of 1/4 for each of four.
    unigram = 0.5 / 3 + 0.5 / 4
    bigram = 0.5 + 0.5 * unigram
    assert model.header.unknown == pytest.approx(math.log(0.5 / 4))
    assert model.score("ab") == pytest.approx(3 * math.log(bigram), abs=0.02)
    unseen = 0.5 * unigram  # b does not begin a line, a does not follow b
    assert model.score("ba") == pytest.approx(3 * math.log(unseen), abs=0.02)


def test_texts_like_those_counted_score_best(tmp_path):
    model = built(tmp_path, TEXTS, 4)
    scores = {"".join(word): model.score("".join(word)) for word in itertools.permutations("anna")}
    assert max(scores, key=scores.__getitem__) == "anna"
    assert model.score("anna") > model.score("zzzz")


def test_a_state_is_the_longest_known_context(tmp_path):
    model = built(tmp_path, TEXTS, 3)
    *_, state = states(model, "hann")
    *_, same = states(model, "nann")  # two characters are all that trigrams look back on
    assert state == same
    *_, other = states(model, "anzn")
    assert other != state
    assert model.after(state, len(model.charset.characters) + 1) == 0


def test_a_file_says_what_it_was_made_of(tmp_path):
    model = built(tmp_path, ["  an  na ", "", "bé"], 2)
    assert model.header.text.lines == 2
    assert model.charset == Charset(" abné")
    assert model.symbols("aé?") == [2, 5, 6]
    assert BOUNDARY not in model.symbols("aé?")


def rewritten(content: bytes, **changes) -> bytes:
    """Return a file with another header."""
    size = int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "little")
    start = len(MAGIC) + 4
    header = json.dumps({**json.loads(content[start : start + size]), **changes}).encode()
    return MAGIC + len(header).to_bytes(4, "little") + header + content[start + size :]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _content: b"", "no language model"),
        (lambda content: MAGIC[:-1] + b"\x09" + content[len(MAGIC) :], "version"),
        (lambda content: content[:-1], "bytes"),
        (lambda content: content + b"x", "bytes"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "SHA-256"),
        (lambda content: content[: len(MAGIC) + 2], "JSON"),
        (lambda content: rewritten(content, order=1), "order"),
        (lambda content: rewritten(content, order=4), "belong together"),
        (lambda content: rewritten(content, characters="aab"), "twice"),
        (lambda content: rewritten(content, characters="ah"), "belong together"),
        (lambda content: rewritten(content, ngrams=10**12), "ngrams"),
        (lambda content: rewritten(content, step=float("nan")), "JSON"),
        (lambda content: rewritten(content, contexts=2), "bytes"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, said):
    build_language_model(TEXTS, tmp_path / "lm.htrlm", 3)
    content = damage((tmp_path / "lm.htrlm").read_bytes())
    with pytest.raises(DataError, match=said) as caught:
        LanguageModel(content, "lm.htrlm")
    assert str(caught.value).isprintable()


@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(1, 8))
@settings(deadline=None, max_examples=300)
def test_arrays_from_strangers_lead_nowhere_else(tmp_path_factory, place, value, count):
    """With the hash made right again, only the checks of the arrays are left."""
    import hashlib

    folder = tmp_path_factory.getbasetemp()
    path = folder / "arrays.htrlm"
    if not path.exists():
        build_language_model(TEXTS, path, 3)
    content = bytearray(path.read_bytes())
    start = len(MAGIC) + 4 + int.from_bytes(content[len(MAGIC) : len(MAGIC) + 4], "little")
    place = start + place % (len(content) - start)
    content[place : place + count] = bytes([value]) * len(content[place : place + count])
    sha256 = hashlib.sha256(content[start:]).hexdigest()
    try:
        model = LanguageModel(rewritten(bytes(content), sha256=sha256), "lm.htrlm")
    except DataError:
        return
    for state in states(model, "hanna an zzz anne"):
        assert 0 <= state < model.header.contexts
        assert np.isfinite(model.log_p(state)).all()


def test_a_missing_file_costs_one_sentence(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_language_model(tmp_path / "none.htrlm")
