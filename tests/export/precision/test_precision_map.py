"""Precision maps: what they mean, what the file may hold, and how a mistake in it is told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htr_export.precision.precision_map import (
    METHODS,
    PRECISIONS,
    Calibration,
    PrecisionMap,
    PrecisionMapError,
    format_map,
    parse_map,
    read_map,
    write_map,
)

HEAD = 'schema_version = 1\ndefault = "fp16"\n'
paths = st.lists(st.from_regex(r"[a-z_0-9]{1,8}", fullmatch=True), min_size=1, max_size=4).map(".".join)
calibrations = st.builds(
    Calibration,
    st.sampled_from(METHODS),
    st.integers(1, 9999),
    st.integers(0, 2**31),
    st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)
maps = st.builds(
    PrecisionMap,
    st.sampled_from(PRECISIONS),
    st.dictionaries(paths, st.sampled_from(PRECISIONS), max_size=5),
    calibrations,
)


@given(maps, st.text(max_size=40))
def test_a_map_is_read_as_it_was_written(precision_map, comment):
    assert parse_map(format_map(precision_map, comment)) == precision_map


@given(st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda text: HEAD + text)))
def test_any_text_is_a_map_or_an_error(text):
    with contextlib.suppress(PrecisionMapError):
        assert parse_map(text).default in PRECISIONS


def test_a_map_survives_its_file(tmp_path):
    found = PrecisionMap("fp16", {"head": "fp32"})
    write_map(found, tmp_path / "map.toml", "CER 25.8 %\nof 447 lines")
    assert (tmp_path / "map.toml").read_text(encoding="utf-8").startswith("# CER 25.8 %\n# of 447 lines\n")
    assert read_map(tmp_path / "map.toml") == found


def test_the_longest_path_counts_and_only_whole_names():
    found = PrecisionMap("fp16", {"blocks.1": "int8", "blocks.1.attn": "fp32"})
    said = {
        module: found.precision_of(module) for module in ("blocks.1.attn.qkv", "blocks.1.ffn1", "blocks.10", "head")
    }
    assert said == {"blocks.1.attn.qkv": "fp32", "blocks.1.ffn1": "int8", "blocks.10": "fp16", "head": "fp16"}


def test_the_name_of_a_map_and_what_it_needs():
    assert (PrecisionMap("int8").name, PrecisionMap("int8").float_precision) == ("int8", "fp32")
    assert PrecisionMap("fp16", {"head": "fp16"}).name == "fp16"
    mixed = PrecisionMap("fp16", {"head": "int8"})
    assert (mixed.name, mixed.float_precision, mixed.lowest_opset) == ("mixed", "fp16", 19)
    assert PrecisionMap("fp32", {"head": "bf16"}).lowest_opset == 22


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + '[modules]\n"head" = "fp8"', "no precision is called 'fp8'; choose one of fp32, fp16, bf16, int8"),
        (HEAD + "[modules]\nblocks.1 = 'fp32'", "begins with 'blocks' should be in quotation marks"),
        (HEAD + "[modules]\n'blocks..1' = 'fp32'", "'blocks..1' is no module"),
        (HEAD + "modules = 3", "modules should be a table"),
        (HEAD + "[module]", "there is no entry 'module'; did you mean 'modules'?"),
        ('default = "fp16"', "schema_version is None, this release knows 1"),
        ('schema_version = 2\ndefault = "fp16"', "schema_version is 2, this release knows 1"),
        ("schema_version = 1", "default is missing"),
        ("schema_version = 1\ndefault = ['fp16']", "no precision is called"),
        (HEAD + "[modules", "is not valid TOML"),
        (HEAD + "calibration = 3", "calibration should be a table"),
        (HEAD + "[calibration]\nline = 3", "there is no entry 'line'; did you mean 'lines'?"),
        (HEAD + "[calibration]\nlines = true", "lines should be at least 1, not True"),
        (HEAD + "[calibration]\nseed = 'x'", "seed of the calibration should be a whole number, not 'x'"),
        (HEAD + "[calibration]\nmethod = 'mse'", "no calibration is called 'mse'; choose one of minmax"),
        (HEAD + "[calibration]\nsha256 = 'abc'", "should be 64 hexadecimal digits"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PrecisionMapError) as caught:
        read_map(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(PrecisionMapError, match=r"does not exist|is a folder"):
            read_map(path)


def test_a_path_that_leads_nowhere_gets_the_nearest_that_does():
    modules = ["blocks.0.attn.qkv", "blocks.0.ffn1", "head"]
    PrecisionMap("fp16", {"blocks": "int8", "blocks.0.attn": "fp32", "head": "fp32"}).check_fits(modules)
    with pytest.raises(PrecisionMapError, match=r"no module 'block.0.attn'; did you mean 'blocks.0.attn'\?"):
        PrecisionMap("fp16", {"block.0.attn": "fp32"}).check_fits(modules)
