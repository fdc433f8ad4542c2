"""Character sets, CTC decoding and error rates."""

from __future__ import annotations

import itertools
import json
import math

import msgspec
import numpy as np
import pytest
from helpers.golden_weights import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.charset import PRESETS, Charset, preset, read_charset
from htr_engines.ctc import decode_greedy
from htr_engines.errors import CharsetError
from htr_engines.metrics import ErrorCounts, count_errors, split_words
from htr_engines.text import to_json_text

ABC = Charset("ab ")


def one_hot(classes: list[list[int]], num_classes: int, height: float = 20.0) -> np.ndarray:
    return height * np.eye(num_classes, dtype=np.float32)[np.array(classes)]


@pytest.mark.parametrize(("name", "length"), [("iam", 79), ("read2016", 89), ("lam", 90), ("vnondb", 161)])
def test_preset_lengths(name, length):
    assert len(preset(name).characters) == length == len(PRESETS[name])


@pytest.mark.parametrize("name", ["a.txt", "b.txt", "c.json", "d.json"])
def test_charset_files(tmp_path, name):
    content = {
        "a.txt": "\ufeff ab\u0304é\n",
        "b.txt": " \na\nb\n\u0304\né\n",
        "c.json": json.dumps(" ab\u0304é"),
        "d.json": json.dumps(list(" ab\u0304é")),
    }[name]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_charset(path).characters == " ab\u0304é"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"abca", "twice"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
        ("a.json", b"{", "JSON"),
        ("a.json", b"[1]", "single characters"),
    ],
)
def test_broken_charset_files(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CharsetError, match=said):
        read_charset(path)


def test_characters_outside_are_named():
    assert ABC.encode("ab a") == [1, 2, 3, 1]
    with pytest.raises(CharsetError, match="'z'"):
        ABC.encode("abz")
    assert ABC.missing_from("xay") == {"x", "y"}


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=30), min_size=1, max_size=4))
@settings(deadline=None)
def test_decoding_merges_repeats_then_drops_blanks(lines):
    frames = max(map(len, lines))
    padded = [line + [0] * (frames - len(line)) for line in lines]
    readings = decode_greedy(one_hot(padded, 4), ABC)
    for line, reading in zip(padded, readings, strict=True):
        merged = [klass for klass, _ in itertools.groupby(line) if klass]
        assert reading.text == "".join(ABC.characters[klass - 1] for klass in merged)
        assert "".join(span.text for span in reading.characters) == reading.text
        assert [word.text for word in reading.words] == reading.text.split()
        assert 0 <= reading.confidence <= 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_confidences_and_places_of_any_logits(seed, lines, frames):
    logits_NTC = np.random.default_rng(seed).normal(0, 5, (lines, frames, 4)).astype(np.float32)
    for reading in decode_greedy(logits_NTC, ABC):
        spans = reading.characters
        assert all(0 < span.confidence <= 1 and 0 <= span.start < span.end <= frames for span in spans)
        assert all(left.end <= right.start for left, right in itertools.pairwise(spans))
        for word in reading.words:
            inside = [span for span in spans if word.start <= span.start and span.end <= word.end]
            mean = math.prod(span.confidence for span in inside) ** (1 / len(inside))
            assert word.confidence == pytest.approx(mean, rel=1e-3)


def test_a_confidence_is_the_peak_of_the_softmax():
    logits_NTC = np.zeros((1, 3, 4), np.float32)
    logits_NTC[0, :, 1] = [1.0, 3.0, 2.0]
    (reading,) = decode_greedy(logits_NTC, ABC)
    assert reading.text == "a"
    assert reading.characters[0].confidence == pytest.approx(math.exp(3) / (math.exp(3) + 3), rel=1e-5)
    assert (reading.characters[0].start, reading.characters[0].end) == (0, 3)


def test_frames_that_are_not_finite_read_as_nothing():
    logits_NTC = one_hot([[1, 2]], 4)
    logits_NTC[0, 1] = np.nan
    (reading,) = decode_greedy(logits_NTC, ABC)
    assert reading.text == "a"
    assert decode_greedy(np.full((1, 2, 4), np.nan, np.float32), ABC)[0].confidence == 0.0


def test_decoding_with_the_wrong_charset_is_refused():
    with pytest.raises(CharsetError, match="5"):
        decode_greedy(np.zeros((1, 2, 5), np.float32), ABC)


def test_no_frames_read_as_nothing():
    assert decode_greedy(np.zeros((2, 0, 4), np.float32), ABC)[1].text == ""


@pytest.mark.export
def test_golden_error_counts():
    golden = json.loads((GOLDEN / "metrics.json").read_text(encoding="utf-8"))
    total = ErrorCounts()
    for pair in golden["pairs"]:
        counts = count_errors(pair["prediction"], pair["truth"])
        assert counts == ErrorCounts(pair["char_edits"], pair["chars"], pair["word_edits"], pair["words"])
        assert split_words(pair["truth"]) == pair["tokens_truth"]
        assert split_words(pair["prediction"]) == pair["tokens_prediction"]
        total += counts
    assert total.cer == pytest.approx(golden["cer"])
    assert total.wer == pytest.approx(golden["wer"])


@pytest.mark.export
@given(st.text(max_size=20), st.text(max_size=20))
@settings(deadline=None)
def test_error_counts_are_a_distance(left, right):
    forth, back = count_errors(left, right), count_errors(right, left)
    assert forth.char_edits == back.char_edits
    assert (forth.char_edits == 0) == (left == right)
    assert forth.char_edits <= max(len(left), len(right))


def test_a_wrong_character_set_names_the_data_set_that_fits():
    classes = preset("read2016").num_classes
    with pytest.raises(CharsetError, match=r"such as --dataset read2016$"):
        preset("iam").check_fits(classes)
    with pytest.raises(CharsetError, match=r"was trained with$"):
        preset("iam").check_fits(7)


@pytest.mark.parametrize("indent", [None, 1])
def test_json_that_any_reader_takes(indent):
    document = {"file": "l\udce9g\x1b\x9b\u202e\u2028.png", "text": 'ä "x"\n'}
    text = to_json_text(document, indent)
    read = msgspec.json.decode(text.encode())  # which is stricter than Python's own reader
    assert read["text"] == document["text"]
    assert read["file"] == document["file"].replace("\udce9", "\\udce9")
    assert text.replace("\n", "").isprintable()
    assert (text.count("\n") == 0) == (indent is None)
    with pytest.raises(ValueError, match="JSON"):
        to_json_text(float("nan"))
