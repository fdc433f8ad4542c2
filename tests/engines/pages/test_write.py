"""Text written back into PAGE and ALTO: in its place, with everything else as it was."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from helpers.cut_fakes import PAGE_VERSIONS, alto_line, alto_xml, page_line, page_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from htr_engines.pages.document import read_pages, write_pages
from htr_engines.pages.markup import Stamp, WrittenLine, WrittenSpan

STAMP = Stamp("htr-export", "0.1.0", "demo.htr sha256:0123", "2026-11-25T12:00:00+00:00")
OUTLINE = np.array([(10.0, 20.0), (110.0, 20.0), (110.0, 60.0), (10.0, 60.0)])
LEFT, RIGHT = OUTLINE * (0.4, 1), OUTLINE * (0.4, 1) + (60, 0)
READ = WrittenLine("neu & gut", 0.875, OUTLINE, (WrittenSpan("neu", 0.9, LEFT), WrittenSpan("&", 0.85, RIGHT)))
PAGE_TEXT = ("TextEquiv", "Unicode", "Word", "PlainText")
ALTO_TEXT = ("String", "SP", "HYP", "ALTERNATIVE")
METADATA = ("Creator", "Created", "LastChange", "MetadataItem", "Processing", "OCRProcessing", "Description")


def write(path, content, **options) -> etree._Element:
    path.write_text(content, encoding="utf-8")
    return etree.fromstring(write_pages(path, {0: READ}, STAMP, **options))


def found(root, *names) -> list[etree._Element]:
    return [element for element in root.iter() if etree.QName(element).localname in names]


def untouched(content: bytes | str) -> bytes:
    """Return a document's canonical form without text, metadata and white space."""
    root = etree.fromstring(content.encode() if isinstance(content, str) else content)
    for element in [element for element in root.iter() if isinstance(element.tag, str)]:
        if etree.QName(element).localname in (*PAGE_TEXT, *ALTO_TEXT, *METADATA) and element.getparent() is not None:
            element.getparent().remove(element)
        element.text = element.tail = None
    return etree.tostring(root, method="c14n", with_comments=True)


@pytest.mark.parametrize("version", PAGE_VERSIONS)
def test_page_gets_the_text_its_confidence_and_the_metadata(tmp_path, version):
    content = page_xml(page_line("alt", OUTLINE, OUTLINE[2:]), page_line("bleibt", name="l2"), version=version)
    root = write(tmp_path / "p.xml", content)
    assert [element.text for element in found(root, "Unicode")] == ["neu & gut", "bleibt"]
    assert found(root, "TextEquiv")[0].get("conf") == "0.8750"
    assert [element.text for element in found(root, "Creator", "LastChange")] == ["htr-export 0.1.0", STAMP.time]
    steps = [element.get("value") for element in found(root, "MetadataItem")]
    assert steps == ([STAMP.model] if version >= "2018" else [])  # earlier schemas have no such element
    assert not found(root, "Word")
    assert untouched(etree.tostring(root)) == untouched(content)


def test_words_stand_before_the_text_with_outlines(tmp_path):
    content = page_xml(page_line("alt", OUTLINE, OUTLINE[2:], extra='<Word id="w"><Coords points="0,0"/></Word>'))
    line = found(write(tmp_path / "p.xml", content, words=True), "TextLine")[0]
    assert [etree.QName(child).localname for child in line] == ["Coords", "Baseline", "Word", "Word", "TextEquiv"]
    words = found(line, "Word")
    assert [word.get("id") for word in words] == ["l1_w1", "l1_w2"]
    assert words[1][0].get("points") == "64,20 104,20 104,60 64,60"
    assert [text.text for text in found(line, "Unicode")] == ["neu", "&", "neu & gut"]


def test_words_of_another_reading_go(tmp_path):
    extra = '<Word id="w"><Coords points="0,0"/><TextEquiv><Unicode>alt</Unicode></TextEquiv></Word>'
    assert not found(write(tmp_path / "p.xml", page_xml(page_line("alt", OUTLINE, extra=extra))), "Word")


def test_the_text_that_was_there_can_be_kept(tmp_path):
    readings = (
        '<TextEquiv index="1"><Unicode>zweiter</Unicode></TextEquiv>'
        '<TextEquiv index="0"><Unicode>erster</Unicode></TextEquiv>'
    )
    root = write(tmp_path / "p.xml", page_xml(page_line(None, OUTLINE, extra=readings)), keep=True)
    ranked = sorted((equiv.get("index"), equiv[0].text) for equiv in found(root, "TextEquiv"))
    assert ranked == [("0", "neu & gut"), ("1", "erster"), ("2", "zweiter")]
    alto = write(tmp_path / "a.xml", alto_xml(alto_line('<String CONTENT="alt"/>')), keep=True)
    assert [element.text for element in found(alto, "ALTERNATIVE")] == ["alt"]
    assert etree.QName(found(alto, "ALTERNATIVE")[0].getparent()).localname == "String"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_alto_gets_a_string_a_word_with_blanks_between(tmp_path, version):
    words = '<String ID="s" CONTENT="alt" STYLEREFS="f1"/><HYP CONTENT="-"/>'
    content = alto_xml(alto_line(words, "10 20 110 20 110 60"), version=version)
    root = write(tmp_path / "a.xml", content)
    line = found(root, "TextLine")[0]
    assert [etree.QName(child).localname for child in line] == ["Shape", "String", "SP", "String"]
    first, space, second = line[1], line[2], line[3]
    assert (first.get("CONTENT"), second.get("CONTENT")) == ("neu", "&")
    assert {name: first.get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC", "STYLEREFS")} == {
        "HPOS": "4",
        "VPOS": "20",
        "WIDTH": "40",
        "HEIGHT": "40",
        "WC": "0.9000",
        "STYLEREFS": "f1",
    }
    assert (space.get("HPOS"), space.get("WIDTH")) == ("44", "20")
    step = found(root, "Processing" if version == 4 else "OCRProcessing")
    assert [element.text for element in found(step[0], "softwareName", "processingStepSettings")] == [
        STAMP.model,
        "htr-export",
    ]
    assert untouched(etree.tostring(root)) == untouched(content)


def test_writing_twice_leaves_one_reading_and_one_step(tmp_path):
    for name, content in {
        "p": page_xml(page_line("alt", OUTLINE), version="2019-07-15"),
        "a": alto_xml(alto_line("")),
    }.items():
        path = tmp_path / f"{name}.xml"
        path.write_text(content, encoding="utf-8")
        once = write_pages(path, {0: READ}, STAMP, words=True)
        path.write_bytes(once)
        assert untouched(write_pages(path, {0: READ}, STAMP, words=True)) == untouched(once)
        twice = etree.fromstring(write_pages(path, {0: READ}, STAMP, words=True))
        assert len(found(twice, "MetadataItem", "Processing")) == 1
        assert [line.text for line in read_pages(path)[0].lines] == ["neu & gut" if name == "p" else "neu &"]


def test_comments_instructions_cdata_and_foreign_elements_stay(tmp_path):
    content = (
        '<?xml version="1.0" encoding="utf-8" standalone="yes"?><?tool keep?><!-- first -->'
        + page_xml(page_line("alt", OUTLINE, extra='<x:mine xmlns:x="urn:x" x:a="1"><![CDATA[<raw>]]></x:mine>'))
        + "<!-- last -->"
    )
    (tmp_path / "p.xml").write_text(content, encoding="utf-8")
    written = write_pages(tmp_path / "p.xml", {0: READ}, STAMP).decode()
    for part in (
        "<?tool keep?>",
        "<!-- first -->",
        "<!-- last -->",
        "<![CDATA[<raw>]]>",
        'x:a="1"',
        'standalone="yes"',
    ):
        assert part in written


def test_the_pages_order_is_read(tmp_path):
    order = (
        '<ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="1" regionRef="a"/>'
        '<RegionRefIndexed index="0" regionRef="b"/></OrderedGroup></ReadingOrder>'
    )
    regions = "".join(
        f'<TextRegion id="{name}"><Coords points="0,0"/>{page_line(name, OUTLINE, name=f"l{name}")}</TextRegion>'
        for name in "abc"
    )
    content = page_xml().replace('imageHeight="200">', f'imageHeight="200">{order}{regions}')
    (tmp_path / "p.xml").write_text(content, encoding="utf-8")
    page = read_pages(tmp_path / "p.xml")[0]
    assert [page.lines[index].text for index in page.order] == ["b", "a", "c"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.floats(0, 1), st.booleans())
def test_any_text_comes_back(tmp_path_factory, text, confidence, words):
    path = tmp_path_factory.mktemp("any") / "p.xml"
    path.write_text(page_xml(page_line("alt", OUTLINE)), encoding="utf-8")
    line = WrittenLine(text, confidence, OUTLINE, (WrittenSpan(text, confidence, LEFT),))
    written = etree.fromstring(write_pages(path, {0: line}, STAMP, words=words))
    got = found(written, "TextLine")[0].findtext("{*}TextEquiv/{*}Unicode") or ""
    allowed = "".join(character if is_xml(character) else "\ufffd" for character in text)
    assert got == allowed


def is_xml(character: str) -> bool:
    code = ord(character)
    return code in (9, 10, 13) or 32 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


SCHEMA = importlib.util.find_spec("ocrd_validators")


@pytest.mark.skipif(SCHEMA is None, reason="the PAGE schema comes with the package 'ocrd', which is not installed")
def test_what_is_written_fits_the_schema(tmp_path):
    assert SCHEMA is not None
    assert SCHEMA.submodule_search_locations
    schema = etree.XMLSchema(etree.parse(Path(next(iter(SCHEMA.submodule_search_locations))) / "page.xsd"))
    outline = OUTLINE.astype(int)  # PAGE has whole pixels
    dates = "<Created>2026-01-01T00:00:00</Created><LastChange>2026-01-01T00:00:00</LastChange>"
    metadata = f"<Metadata><Creator>x</Creator>{dates}</Metadata>"
    content = page_xml(page_line("alt", outline, outline[2:]), version="2019-07-15").replace("<Metadata/>", metadata)
    content = content.replace('<Coords points="0,0 1,1"/>', '<Coords points="0,0 1,1 2,2"/>')
    for options in ({}, {"words": True}, {"keep": True, "words": True}):
        schema.assertValid(write(tmp_path / "p.xml", content, **options))
