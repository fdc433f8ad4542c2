"""JSON and TOML from strangers: whatever they hold, the answer is quick, small and one sentence."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.documents import MAX_DEPTH, MAX_ITEMS, Positive, Sha256, load_json, load_toml, parse_json, parse_toml
from htr_engines.errors import BundleError, DataError


@dataclass(frozen=True)
class Part:
    sha256: Sha256
    count: Positive = 1


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    note: Any = None


GOOD = '{"parts": [{"sha256": "%s"}]}' % ("a" * 64)


def test_what_is_right_becomes_the_class():
    assert parse_json(GOOD, Whole, "x.json", "cure") == Whole((Part("a" * 64),))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
        ("[" + "0," * (MAX_ITEMS + 1) + "0]", "more than"),
        ('{"note": NaN}', "not valid JSON"),
        ('{"note": 1e999}', "JSON"),
        ('{"note": ' + "9" * 5000 + "}", "x.json"),
        ('{"note": 9223372036854775808}', "64 bits"),
        ('{"note": "\\ud800"}', "not valid JSON"),
        ("[]", "Expected `object`, got `array`"),
        ("{}", "missing required field `parts`"),
        ('{"parts": [{}]}', r"at `\$\.parts\[0\]`"),
        (GOOD.replace("a" * 64, "A" * 64), r"`\$\.parts\[0\]\.sha256`"),
        (GOOD.replace("a" * 64, "a" * 64 + "\\n"), r"`\$\.parts\[0\]\.sha256`"),
        (GOOD.replace('"}]', '", "count": 0}]'), r"`\$\.parts\[0\]\.count`"),
        (GOOD.replace('"}]', '", "count": true}]'), "got `bool`"),
    ],
    ids=range(17),
)
def test_everything_else_is_one_sentence_with_the_place_and_the_cure(content, said):
    with pytest.raises(BundleError, match=said) as caught:
        parse_json(content, Whole, "x.json", "bundle it again", BundleError)
    message = str(caught.value)
    assert message.startswith("x.json")
    assert message.endswith("; bundle it again")
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a", "not valid TOML"),
        ("a = nan", "not finite"),
        ("a = [[inf]]", "not finite"),
        ("a = " + "9" * 5000, "TOML"),
        ("a = 99999999999999999999", "64 bits"),
        ("a = " + "[" * 10_000, "TOML"),
        ("a = " + "{a=" * 10_000, "TOML"),
        ("a" + ".a" * 30_000 + " = 1", "dots"),
        ("a" + ".a" * (MAX_DEPTH + 1) + " = 1", "deeper"),
        ("parts = 3", "Expected `array`"),
    ],
    ids=range(10),
)
def test_toml_likewise(content, said):
    with pytest.raises(DataError, match=said) as caught:
        parse_toml(content, Whole, "x.toml", "write it again")
    assert str(caught.value).endswith("; write it again")
    assert len(str(caught.value)) < 300


def test_files_are_bounded_before_they_are_read(tmp_path):
    sparse = tmp_path / "sparse.json"
    with sparse.open("wb") as stream:
        stream.truncate(1 << 40)
    for load in (load_json, load_toml):
        with pytest.raises(DataError, match="too large"):
            load(sparse, dict, "cure")
        with pytest.raises(DataError, match="does not exist"):
            load(tmp_path / "none", dict, "cure")
        with pytest.raises(DataError, match="folder"):
            load(tmp_path, dict, "cure")


@given(st.text(max_size=80) | st.binary(max_size=80))
@settings(deadline=None)
def test_any_text_is_read_or_refused(content):
    parsers = (parse_json, parse_toml) if isinstance(content, str) else (parse_json,)
    for parse in parsers:
        with contextlib.suppress(DataError):
            parse(content, dict, "x", "cure")
