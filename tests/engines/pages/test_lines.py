"""A folder of pages wherever a folder of lines is taken: the transcripts are its text."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cut_fakes import LINE_A, LINE_B, page_line, page_xml, save_page

from htr_engines.errors import DataError
from htr_engines.lines import load_batches, read_lines
from htr_engines.pages.cut import cut_sheet
from htr_engines.pages.sheets import find_sheets
from htr_engines.preprocess import Preprocessing, load_pages


@pytest.fixture
def pages(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("one", "two"):
        content = page_xml(
            LINE_A, LINE_B, page_line(None, [(20, 20), (200, 20), (200, 60)], name="empty"), image=f"{name}.png"
        )
        (folder / f"{name}.xml").write_text(content, encoding="utf-8")
        save_page(folder, f"{name}.png")
    return folder


def test_the_lines_with_text_are_those_of_the_pages(pages):
    lines = read_lines(pages)
    sheets = find_sheets([pages])[0]
    wanted = [line.text for sheet in sheets for line in sheet.page.lines if line.text]
    assert [line.text for line in lines] == wanted
    assert len({line.name for line in lines}) == len(lines) == 4
    assert len(next(load_batches(lines, Preprocessing(width=128), 4)).lines) == 4
    cut = [line.image_HW for sheet in sheets for line in cut_sheet(sheet, 64) if line.line.text]
    assert all(np.array_equal(load_pages(line.image)[0], own) for line, own in zip(lines, cut, strict=True))


def test_a_list_may_name_pages(pages, tmp_path):
    (tmp_path / "val.ln").write_text("two.xml\n", encoding="utf-8")
    assert [line.name.split("#")[0] for line in read_lines(pages, tmp_path / "val.ln")] == ["two.xml"] * 2


def test_lines_are_cut_again_only_where_page_or_image_changed(pages):
    before = {line.name: line.image for line in read_lines(pages)}
    content = (pages / "one.xml").read_text(encoding="utf-8")
    (pages / "one.xml").write_text(content.replace("<Unicode>", "<Unicode>x"), encoding="utf-8")
    assert {line.name: line.image for line in read_lines(pages)} == before
    save_page(pages, "two.png")
    after = {line.name: line.image for line in read_lines(pages)}
    assert {name for name in before if before[name] != after[name]} == {name for name in before if "two.xml" in name}


def test_a_page_that_cannot_be_used_is_named(pages):
    (pages / "lost.xml").write_text(page_xml(LINE_A, image="nowhere.png"), encoding="utf-8")
    with pytest.raises(DataError, match="nowhere"):
        read_lines(pages)
    (pages / "lost.xml").unlink()
    (pages / "two.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"two\.xml"):
        read_lines(pages)


def test_pages_without_text_are_refused(tmp_path):
    (tmp_path / "p.xml").write_text(page_xml(page_line(None, [(20, 20), (200, 20), (200, 60)])), encoding="utf-8")
    save_page(tmp_path, "p.png")
    with pytest.raises(DataError, match="transcript"):
        read_lines(tmp_path)
