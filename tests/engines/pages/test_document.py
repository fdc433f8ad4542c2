"""Reading PAGE and ALTO XML, sound, damaged and hostile."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.errors import DataError
from htr_engines.pages import markup
from htr_engines.pages.document import read_pages
from htr_engines.pages.markup import parse_points

if TYPE_CHECKING:
    pass

from helpers.cut_fakes import BOMB, LINE_A, PAGE_VERSIONS, alto_line, alto_xml, page_line, page_xml, read_one


@pytest.mark.parametrize("version", PAGE_VERSIONS)
def test_page_xml_of_every_version(tmp_path, version):
    line = read_one(tmp_path / "p.xml", page_xml(LINE_A, version=version))
    assert (line.name, line.text) == ("a", "eins")
    assert line.polygon.tolist()[0] == [20, 20]
    assert line.baseline.tolist() == [[20, 50], [380, 50]]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_alto_of_every_version(tmp_path, version):
    words = '<String CONTENT="Am"/><SP/><String CONTENT="Ber"/><HYP CONTENT="-"/>'
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line(words, "10 20 110 20 110 60"), version=version))
    assert line.text == "Am Ber-"
    assert line.polygon.tolist() == [[10, 20], [110, 20], [110, 60]]


def test_alto_without_namespace_blanks_or_polygon(tmp_path):
    content = alto_xml(alto_line('<String CONTENT="Am"/><String CONTENT="Berg"/>'))
    line = read_one(tmp_path / "a.xml", re.sub(r' xmlns="[^"]*"', "", content))
    assert line.text == "Am Berg"
    assert line.polygon.tolist() == [[10, 20], [110, 20], [110, 60], [10, 60]]


@pytest.mark.parametrize("before", ['<String CONTENT="demain-"/>', '<String CONTENT="demain"/><String CONTENT="-"/>'])
def test_a_hyphen_that_alto_gives_twice_counts_once(tmp_path, before):
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line(f'<SP/>{before}<HYP CONTENT="-"/>')))
    assert line.text == "demain-"


def test_an_alto_baseline_may_be_one_number(tmp_path):
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line('<String CONTENT="x"/>', baseline="52.5")))
    assert line.baseline.tolist() == [[10, 52.5], [110, 52.5]]


def test_of_several_readings_the_lowest_index_counts(tmp_path):
    readings = "".join(
        f'<TextEquiv index="{index}"><Unicode>{text}</Unicode></TextEquiv>' for index, text in ((2, "b"), (0, "a"))
    )
    assert read_one(tmp_path / "p.xml", page_xml(page_line(None, extra=readings))).text == "a"


def test_words_stand_in_for_a_line_without_text(tmp_path):
    words = "".join(f"<Word><TextEquiv><Unicode>{word}</Unicode></TextEquiv></Word>" for word in ("Am", "Berg"))
    empty = "<TextEquiv><Unicode/></TextEquiv>"
    assert read_one(tmp_path / "p.xml", page_xml(page_line(None, extra=words + empty))).text == "Am Berg"
    assert read_one(tmp_path / "p.xml", page_xml(page_line("Im Tal", extra=words))).text == "Im Tal"


def test_texts_are_composed_and_collapsed(tmp_path):
    decomposed = unicodedata.normalize("NFD", " Köln\n  Süd ")
    assert read_one(tmp_path / "p.xml", page_xml(page_line(decomposed))).text == "Köln Süd"


@given(
    st.lists(st.tuples(st.integers(-9999, 99999), st.integers(-9999, 99999)), max_size=20),
    st.sampled_from(", \n\t;"),
)
def test_points_survive_every_way_of_writing_them(corners, separator):
    text = " ".join(f"{x}{separator}{y}" for x, y in corners)
    assert parse_points(text).tolist() == [list(map(float, corner)) for corner in corners]


@given(st.text(max_size=200) | st.none() | st.from_regex(r"[0-9eE+., -]{0,60}", fullmatch=True))
def test_points_never_fail(text):
    found = parse_points(text)
    assert found.ndim == 2
    assert found.shape[1] == 2
    assert np.isfinite(found).all()


# --- hostile and damaged XML ---


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><PcGts>&x;</PcGts>',
        '<!DOCTYPE PcGts SYSTEM "http://localhost/evil.dtd"><PcGts/>',
    ],
)
def test_a_document_type_is_refused(tmp_path, content):
    (tmp_path / "p.xml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="document type"):
        read_pages(tmp_path / "p.xml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_a_document_type_is_refused_in_every_encoding(tmp_path, encoding):
    (tmp_path / "p.xml").write_bytes(BOMB.replace('<?xml version="1.0"?>', "").encode(encoding))
    with pytest.raises(DataError):
        read_pages(tmp_path / "p.xml")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no xml",
        b"<PcGts>",
        b"\x00\xff\xfe",
        b'<?xml version="1.0" encoding="nosuch"?><PcGts/>',
        b"<html/>",
        b"<a>&x;</a>",
    ],
)
def test_what_is_no_page_is_refused(tmp_path, content):
    (tmp_path / "p.xml").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.xml"):
        read_pages(tmp_path / "p.xml")


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(markup, "MAX_BYTES", 1 << 20)
    (tmp_path / "p.xml").write_bytes(b" " * (1 << 20) + b"<PcGts/>")
    with pytest.raises(DataError, match="too large: such a file may have"):
        read_pages(tmp_path / "p.xml")


def test_deep_nesting_is_refused(tmp_path):
    depth = 200_000
    (tmp_path / "p.xml").write_text("<PcGts>" + "<a>" * depth + "</a>" * depth + "</PcGts>", encoding="utf-8")
    with pytest.raises(DataError, match="depth"):
        read_pages(tmp_path / "p.xml")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_raises_nothing_but_data_errors(tmp_path_factory, data):
    content = bytearray(
        data.draw(st.sampled_from([page_xml(LINE_A), alto_xml(alto_line('<String CONTENT="x"/>'))])).encode()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.xml"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        read_pages(path)
