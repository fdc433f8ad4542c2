"""``htr-train cut`` on what Transkribus, eScriptorium and kraken really write."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cut_exports import ESCRIPTORIUM_ALTO, ESCRIPTORIUM_PAGE, EXPORTS, TRANSKRIBUS_ALTO, TRANSKRIBUS_PAGE
from helpers.cut_fakes import paper, run, save_page
from PIL import Image

TEXTS = ["Am Köln & Rhein¬", "zwei"]


def written_page() -> np.ndarray:
    """Return a page with ink on its two lines."""
    page = paper()
    page[30:50, 40:300:8] = 40
    page[110:130, 40:200:6] = 40
    return page


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The lines as they come out of the plainest form."""
    return cut_lines(tmp_path_factory.mktemp("plain"), EXPORTS["eScriptorium PAGE"])


def cut_lines(folder, content):
    save_page(folder / "export", "0001_p001.jpg", written_page())
    (folder / "export" / "0001_p001.xml").write_text(content, encoding="utf-8")
    report = run(folder / "export", image_format="png")
    images = [np.asarray(Image.open(folder / "data" / "lines" / line.name)) for line in report.train]
    return [line.text for line in report.train], images


@pytest.mark.parametrize("content", EXPORTS.values(), ids=EXPORTS)
def test_every_form_gives_the_same_lines(tmp_path, content, expected):
    texts, images = cut_lines(tmp_path, content)
    assert texts == TEXTS
    for image, same in zip(images, expected[1], strict=True):
        assert image.shape == same.shape
        assert np.array_equal(image, same)


def test_a_transkribus_export_as_it_is_unpacked(tmp_path):
    folder = tmp_path / "export_job_1" / "1234" / "Title of the document"
    save_page(folder, "0001_p001.jpg", written_page())
    for name, content in (
        ("page/0001_p001.xml", TRANSKRIBUS_PAGE),
        ("alto/0001_p001.xml", TRANSKRIBUS_ALTO),
        ("metadata.xml", "<trpDocMetadata><docId>1234</docId></trpDocMetadata>"),
        ("mets.xml", '<ns3:mets xmlns:ns3="http://www.loc.gov/METS/" PROFILE="TRP_V1"/>'),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    report = run(tmp_path / "export_job_1", output=tmp_path / "data")
    assert [line.text for line in report.train] == TEXTS
    assert {left.source.rpartition("1234/Title of the document/")[2] for left in report.lost_pages} == {
        *("alto/0001_p001.xml", "metadata.xml", "mets.xml"),
    }
    assert report.pages == 1


def test_an_escriptorium_export_without_transcript_of_a_line(tmp_path):
    folder = tmp_path / "export_doc1_page_202601131000"
    save_page(folder, "0001_p001.jpg", written_page())
    (folder / "0001_p001.xml").write_text(ESCRIPTORIUM_PAGE, encoding="utf-8")
    (folder / "METS.xml").write_text('<mets xmlns="http://www.loc.gov/METS/"/>', encoding="utf-8")
    report = run(folder)
    assert [line.text for line in report.train] == TEXTS
    assert [(left.line, left.reason) for left in report.left_out if left.line] == [
        ("eSc_line_3", "it has no transcript")
    ]


@pytest.mark.parametrize("box", ['HPOS="" VPOS="" WIDTH="" HEIGHT=""', 'HPOS="None" VPOS="None"', ""])
def test_an_alto_line_of_a_baseline_alone_is_cut(tmp_path, box):
    """eScriptorium leaves out the outline of a line that was drawn but never masked, and its box is empty."""
    outline = '<Shape><Polygon POINTS="20 20 380 20 380 60 20 60"/></Shape>'
    without = ESCRIPTORIUM_ALTO.replace(outline, "").replace('HPOS="20" VPOS="20" WIDTH="360" HEIGHT="40">', f"{box}>")
    texts, images = cut_lines(tmp_path, without)
    assert texts == TEXTS
    assert (images[0] < 100).any()  # its ink is on it
