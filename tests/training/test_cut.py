"""``htr-train cut`` from pages to a data set."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from PIL import Image

from htr_engines.errors import DataError
from htr_engines.lines import read_lines
from htr_engines.preprocess import load_pages
from htr_training.cli import main

if TYPE_CHECKING:
    pass

from helpers.cut_fakes import (
    BOMB,
    LINE_A,
    LINE_B,
    LINE_C,
    alto_line,
    alto_xml,
    page_line,
    page_xml,
    paper,
    run,
    save_page,
)


@pytest.fixture
def pages(tmp_path):
    """A folder with one good page of two lines."""
    folder = tmp_path / "pages"
    save_page(folder, "p.png")
    (folder / "p.xml").write_text(page_xml(LINE_A, LINE_B), encoding="utf-8")
    return folder


def test_writes_the_published_layout(pages):
    report = run(pages)
    lines = read_lines(pages.parent / "data" / "lines", pages.parent / "data" / "train.ln")
    assert [line.text for line in lines] == ["eins", "zwei"]
    assert [line.name for line in lines] == ["p-001.jpg", "p-002.jpg"]
    assert load_pages(lines[0].image)[0].shape[0] == 64
    assert (len(report.train), report.val, report.left_out, report.pages) == (2, (), (), 1)


def test_workers_change_nothing(pages):
    for number in range(3):
        save_page(pages, f"n{number}.png")
        (pages / f"n{number}.xml").write_text(page_xml(LINE_A, image=f"n{number}.png"), encoding="utf-8")
    run(pages)
    run(pages, output=pages.parent / "data2", workers=2)
    for path in (pages.parent / "data").rglob("*.jpg"):
        assert path.read_bytes() == (pages.parent / "data2" / "lines" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("xml", "image", "named"),
    [
        ("page/0001.xml", "0001.jpg", "0001.jpg"),  # Transkribus
        ("page/0001.xml", "0001.jpg", "0001.tif"),  # converted since
        ("0001.xml", "0001.PNG", "x/y/0001.png"),
        ("0001.xml", "0001.png", "C:\\scans\\0001.png"),
        ("0001.xml", "images/0001.png", "../images/0001.png"),
        ("0001.xml", "0001.png", ""),
        ("scan.v2_1.xml", "scan.v2_1.png", ""),
        ("a.xml", "scan.v2_1.png", "scan.v2_1.png"),
    ],
)
def test_images_are_found_where_exports_put_them(tmp_path, xml, image, named):
    pages = tmp_path / "pages"
    for path in (xml, image):
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
    save_page((pages / image).parent, (pages / image).name)
    (pages / xml).write_text(page_xml(LINE_A, image=named), encoding="utf-8")
    assert len(run(pages).train) == 1
    assert len(run(pages / xml, output=tmp_path / "one", images=pages).train) == 1


def test_a_name_cannot_reach_outside_the_folders(tmp_path):
    save_page(tmp_path, "secret.png")
    pages = tmp_path / "pages" / "deep" / "er"
    pages.mkdir(parents=True)
    (pages / "p.xml").write_text(page_xml(LINE_A, image=str(tmp_path / "secret.png")), encoding="utf-8")
    with pytest.raises(DataError, match="no image secret"):
        run(tmp_path / "pages", output=tmp_path / "data")


def test_the_nearest_of_several_images_is_taken(pages):
    save_page(pages / "thumbs", "p.png", paper(40, 20))
    assert len(run(pages).train) == 2
    (pages / "p.png").rename(pages / "thumbs" / "p.jpg")
    with pytest.raises(DataError, match="could be"):
        run(pages, force=True)


def test_page_and_alto_of_one_image_are_cut_once(pages):
    (pages / "alto").mkdir()
    (pages / "alto" / "p.xml").write_text(
        alto_xml(alto_line('<String CONTENT="a"/>'), alto_line('<String CONTENT="b"/>')), encoding="utf-8"
    )
    report = run(pages)
    assert [line.text for line in report.train] == ["eins", "zwei"]
    assert "describes the same image" in report.lost_pages[0].reason


def test_bad_pages_cost_only_themselves(pages):
    (pages / "mets.xml").write_text("<mets/>", encoding="utf-8")
    (pages / "bomb.xml").write_text(BOMB, encoding="utf-8")
    (pages / "lost.xml").write_text(page_xml(LINE_A, image="lost.png"), encoding="utf-8")
    (pages / "turned.xml").write_text(page_xml(LINE_C, image="turned.png", size=(200, 400)), encoding="utf-8")
    save_page(pages, "turned.png")
    (pages / "broken.xml").write_text(page_xml(LINE_A, image="broken.png"), encoding="utf-8")
    (pages / "broken.png").write_bytes(b"no image")
    report = run(pages)
    assert len(report.train) == 2
    reasons = {left.source.rpartition("/")[2]: left.reason for left in report.lost_pages}
    assert "neither PAGE nor ALTO" in reasons["mets.xml"]
    assert "document type" in reasons["bomb.xml"]
    assert "no image lost.png" in reasons["lost.xml"]
    assert "turned" in reasons["turned.xml"]
    assert "not an image" in reasons["broken.xml"]


def test_lines_without_text_or_place_are_left_out_with_the_reason(pages):
    lines = (LINE_A, page_line("", [(0, 0), (90, 0), (90, 50)], name="b"), page_line("drei", name="c"))
    (pages / "p.xml").write_text(page_xml(*lines), encoding="utf-8")
    report = run(pages)
    assert [(left.line, left.reason) for left in report.left_out] == [
        ("b", "it has no transcript"),
        ("c", "it has neither an outline nor a baseline on the image"),
    ]


def test_whole_pages_are_kept_for_validation(pages):
    for number in range(9):
        save_page(pages, f"n{number}.png")
        (pages / f"n{number}.xml").write_text(page_xml(LINE_A, LINE_B, image=f"n{number}.png"), encoding="utf-8")
    report = run(pages, val=0.2)
    assert (len(report.train), len(report.val)) == (16, 4)
    assert not {line.source for line in report.train} & {line.source for line in report.val}
    listed = (pages.parent / "data" / "val.ln").read_text(encoding="utf-8").split()
    assert listed == [line.name for line in report.val]


def test_an_alto_file_of_two_pages_uses_both_pages_of_its_tiff(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    light, dark = Image.fromarray(paper(tone=230)), Image.fromarray(paper(tone=90))
    light.save(pages / "p.tif", save_all=True, append_images=[dark])
    content = alto_xml(alto_line('<String CONTENT="x"/>'), image="p.tif", pages=2)
    (pages / "p.xml").write_text(content, encoding="utf-8")
    report = run(pages)
    means = [load_pages(tmp_path / "data" / "lines" / line.name)[0].mean() for line in report.train]
    assert means == pytest.approx([230, 90], abs=5)
    light.save(pages / "p.tif")
    assert "it is page 2" in run(pages, force=True).lost_pages[0].reason


def test_pages_of_the_same_name_do_not_overwrite_each_other(tmp_path):
    for folder in ("one", "two"):
        save_page(tmp_path / folder, "p.png")
        (tmp_path / folder / "p.xml").write_text(page_xml(LINE_A), encoding="utf-8")
    report = run(tmp_path / "one", sources=(tmp_path / "one", tmp_path / "two"), output=tmp_path / "data")
    assert len({line.name for line in report.train}) == 2


def test_an_existing_list_is_kept_unless_told_otherwise(pages):
    run(pages)
    with pytest.raises(DataError, match="exists already"):
        run(pages)
    run(pages, force=True)


def test_nothing_to_cut_is_refused(tmp_path):
    (tmp_path / "pages").mkdir()
    with pytest.raises(DataError, match=r"no \.xml file"):
        run(tmp_path / "pages")
    (tmp_path / "pages" / "p.xml").write_text(page_xml(LINE_A), encoding="utf-8")
    with pytest.raises(DataError, match=r"no line could be cut.*no image"):
        run(tmp_path / "pages")


class _Sheet(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_contact_sheet_is_self_contained_and_escaped(pages):
    evil = page_line("<script>alert(1)</script>", [(20, 20), (380, 20), (380, 60), (20, 60)], None, "x&quot;y")
    lost = page_line("", name="&lt;img src=x&gt;")
    (pages / "p.xml").write_text(page_xml(evil, lost), encoding="utf-8")
    report = run(pages)
    sheet = _Sheet()
    sheet.feed(report.contact_sheet.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in sheet.tags]
    assert "script" not in tags
    assert tags.count("img") == 1
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in sheet.tags)
    assert "link" not in tags


def test_the_command_tells_what_was_left_out_and_where_to_look(pages):
    (pages / "p.xml").write_text(page_xml(LINE_A, page_line("", name="b")), encoding="utf-8")
    (pages / "mets.xml").write_text("<mets/>", encoding="utf-8")
    output = pages.parent / "data"
    result = CliRunner().invoke(main, ["cut", str(pages), "-o", str(output), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "1 lines to train on" in result.output
    assert "1 lines, because it has no transcript" in result.output
    assert "neither PAGE nor ALTO" in result.output
    assert str(output / "contact_sheet.html") in result.output
