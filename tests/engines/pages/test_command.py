"""Reading documents: from files to files, with everything that may be wrong with one costing only itself."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.cut_fakes import LINE_A, LINE_B, alto_line, alto_xml, page_line, page_xml, save_page
from lxml import etree
from PIL import Image

from htr_engines.cli import main as htr_read
from htr_engines.ctc import Reading
from htr_engines.errors import DataError
from htr_engines.pages.command import JOURNAL, PageOptions, read_documents
from htr_engines.pages.cut import cut_sheet
from htr_engines.pages.document import read_pages
from htr_engines.pages.reading import read_sheet
from htr_engines.pages.sheets import find_sheets
from htr_engines.preprocess import Preprocessing
from htr_training.cut.command import CutOptions, cut


class Counter:
    """Reads ``line N``, its width in pixels in place of N, in two words."""

    preprocessing = Preprocessing(width=128)
    streams = 1

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.images: list[np.ndarray] = []

    def read_grey(self, lines):
        self.batches.append(len(lines))
        self.images += lines
        return [self._reading(line) for line in lines]

    def _reading(self, line):
        width = float(line.shape[1])
        first, second = "line", str(line.shape[1])
        places = [*np.linspace(0, width / 2, len(first) + 1), *np.linspace(width / 2, width, len(second) + 1)]
        log_p = math.log(0.9), math.log(0.8)
        log_ps = (*[log_p[0]] * (len(first) + 1), *[log_p[1]] * len(second))
        return Reading(f"{first} {second}", 0.85, log_ps, tuple(places[:-1]), tuple(places[1:]))


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "one.xml").write_text(page_xml(LINE_A, LINE_B, image="one.png"), encoding="utf-8")
    save_page(folder, "one.png")
    (folder / "sub").mkdir()
    line = alto_line('<String CONTENT="alt"/>', "20 100 380 100 380 140 20 140", "20 130 380 130")
    (folder / "sub" / "two.xml").write_text(alto_xml(line, image="two.png"), encoding="utf-8")
    save_page(folder / "sub", "two.png")
    return folder


def read(options: PageOptions, bundle="b1"):
    errors: list[str] = []
    reader = Counter()
    tally = read_documents(reader, bundle, options, errors.append)
    return tally, errors, reader


def test_documents_come_back_in_their_places(pages, tmp_path):
    out = tmp_path / "out"
    tally, errors, reader = read(PageOptions((pages,), out, batch_size=2))
    assert (tally.documents, tally.lines, errors, reader.batches) == (2, 3, [], [2, 1])
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.xml")} == {"one.xml", "sub/two.xml"}
    for line in (*read_pages(out / "one.xml")[0].lines, *read_pages(out / "sub" / "two.xml")[0].lines):
        assert line.text.startswith("line ")


@pytest.mark.export
def test_a_network_meets_the_very_pixels_that_training_cuts(pages, tmp_path):
    cut(CutOptions((pages,), tmp_path / "data", image_format="png"))
    reader = Counter()
    for sheet in find_sheets([pages])[0]:
        read_sheet(reader, sheet)
    cut_images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "data" / "lines").glob("*.png"))]
    assert len(cut_images) == len(reader.images) == 3
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(reader.images, cut_images, strict=True))


def test_words_lie_on_the_line_that_they_were_read_from(pages):
    sheet = next(sheet for sheet in find_sheets([pages])[0] if sheet.xml.name == "two.xml")
    (line,) = read_sheet(Counter(), sheet).lines
    left, right = (word.polygon for word in line.words)
    assert left[:, 0].min() == pytest.approx(20, abs=4)
    assert right[:, 0].max() == pytest.approx(380, abs=4)
    assert left[:, 0].max() == pytest.approx(right[:, 0].min(), abs=1) == pytest.approx(200, abs=4)
    assert left[:, 1].min() == pytest.approx(100, abs=4)
    assert left[:, 1].max() == pytest.approx(140, abs=4)


@pytest.mark.parametrize("factor", [0.5, 3])
def test_places_are_in_the_units_of_the_document(tmp_path, factor):
    size = (round(400 * factor), round(200 * factor))
    polygon = " ".join(str(factor * value) for value in (20, 100, 380, 100, 380, 140, 20, 140))
    (tmp_path / "p.xml").write_text(alto_xml(alto_line("", polygon), size=size), encoding="utf-8")
    save_page(tmp_path, "p.png")
    (line,) = read_sheet(Counter(), find_sheets([tmp_path])[0][0]).lines
    assert np.ptp(line.outline_P2, axis=0) == pytest.approx((360 * factor, 40 * factor), abs=9 * factor)


def test_a_page_stored_sideways_is_read_by_its_stored_pixels(tmp_path):
    (tmp_path / "p.xml").write_text(page_xml(LINE_A, image="p.jpg"), encoding="utf-8")
    save_page(tmp_path, "p.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    with Image.open(tmp_path / "p.png") as image:
        image.convert("L").save(tmp_path / "p.jpg", exif=exif, quality=95)
        stored = np.asarray(image.convert("L"))
    (tmp_path / "p.png").unlink()
    sheet = find_sheets([tmp_path])[0][0]
    (line,) = cut_sheet(sheet, 64)
    assert line.image_HW is not None
    assert stored.shape == (200, 400)


def test_what_is_done_is_skipped(pages, tmp_path):
    out = tmp_path / "out"
    options = PageOptions((pages,), out)
    read(options)
    assert read(options)[0].skipped == 2
    assert read(options, bundle="b2")[0].skipped == 0
    assert read(PageOptions((pages,), out, words=True), bundle="b2")[0].skipped == 0
    assert read(PageOptions((pages,), out, words=True, force=True), bundle="b2")[0].skipped == 0
    later = (out / "one.xml").stat().st_mtime_ns + 10**9
    os.utime(pages / "one.xml", ns=(later, later))
    assert read(PageOptions((pages,), out, words=True), bundle="b2")[0].skipped == 1
    (out / "one.xml").unlink()
    with (out / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write('{"output": "sub/two.xml", "bun')  # the row that a kill cut off
    assert read(PageOptions((pages,), out, words=True), bundle="b2")[0].skipped == 1


def test_bad_documents_cost_only_themselves(pages, tmp_path):
    (pages / "damaged.xml").write_text("<PcGts", encoding="utf-8")
    (pages / "lost.xml").write_text(page_xml(LINE_A, image="nowhere.png"), encoding="utf-8")
    degenerate = page_line("bleibt", [(5, 5), (5, 5), (5, 5)], name="l9")
    outside = page_line("auch", [(900, 900), (990, 900), (990, 990)], name="l8")
    (pages / "lines.xml").write_text(page_xml(degenerate, outside, LINE_A, image="one.png"), encoding="utf-8")
    (pages / "broken.xml").write_text(page_xml(LINE_A, image="broken.png"), encoding="utf-8")
    (pages / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    tally, errors, _ = read(PageOptions((pages,), out))
    assert tally.lines == 4
    assert len(errors) == 5
    for part in ("damaged.xml", "nowhere.png", "line l9", "line l8", "broken.png"):
        assert any(part in error for error in errors), part
    texts = [line.text for line in read_pages(out / "lines.xml")[0].lines]
    assert texts[:2] == ["bleibt", "auch"]
    assert texts[2].startswith("line ")


def test_sources_are_never_replaced(pages):
    before = (pages / "one.xml").read_bytes()
    with pytest.raises(DataError, match="would replace a document"):
        read(PageOptions((pages,), pages))
    assert (pages / "one.xml").read_bytes() == before


def test_page_and_alto_of_one_picture_both_come_back(pages, tmp_path):
    line = alto_line("", "20 100 380 100 380 140 20 140")
    (pages / "alto.xml").write_text(alto_xml(line, image="one.png"), encoding="utf-8")
    assert read(PageOptions((pages,), tmp_path / "out"))[0].documents == 3


@pytest.mark.parametrize(("form", "suffix"), [("text", ".txt"), ("jsonl", ".jsonl"), ("hocr", ".hocr")])
def test_other_formats(pages, tmp_path, form, suffix):
    read(PageOptions((pages,), tmp_path / "out", form))
    content = (tmp_path / "out" / f"one{suffix}").read_text(encoding="utf-8")
    if form == "text":
        assert content.count("line ") == 2
    elif form == "jsonl":
        records = [json.loads(row) for row in content.splitlines()]
        assert [record["line"] for record in records] == [line.name for line in read_pages(pages / "one.xml")[0].lines]
        assert all(len(record["words"]) == 2 and len(record["polygon"]) >= 4 for record in records)
    else:
        root = etree.fromstring(content.encode())
        classes = [element.get("class") for element in root.iter() if element.get("class")]
        assert classes == ["ocr_page", *["ocr_line", "ocrx_word", "ocrx_word"] * 2]


def run(*arguments):
    return CliRunner().invoke(htr_read, [str(argument) for argument in arguments])


def test_the_command_reads_pages(bundle, pages, tmp_path):
    out = tmp_path / "out"
    result = run(bundle, pages, "-o", out, "--words")
    assert result.exit_code == 0, result.output
    assert "read 3 lines in 2 documents" in result.stderr
    assert (
        run(bundle, pages, "-o", out, "--words").stderr.rstrip().endswith("2 documents skipped that were done before")
    )
    text = run(bundle, pages / "one.xml")
    assert text.exit_code == 0
    assert len(text.stdout.rstrip("\n").split("\n")) == 2
    record = json.loads(run(bundle, pages / "sub" / "two.xml", "--json").stdout)
    assert record["line"] == "a1"


def test_the_command_refuses_what_does_not_go_together(bundle, pages, tmp_path):
    shutil.copy(pages / "one.png", tmp_path / "line.png")
    assert run(bundle, pages / "one.xml", tmp_path / "line.png").exit_code == 2
    assert run(bundle, tmp_path / "line.png", "--words").exit_code == 2
    result = run(bundle, pages, "-o", pages)
    assert result.exit_code == 1
    assert "would replace a document" in result.stderr
    (tmp_path / "bad.xml").write_text("<html/>", encoding="utf-8")
    result = run(bundle, tmp_path / "bad.xml", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "neither PAGE nor ALTO" in result.stderr


def test_a_run_that_was_stopped_goes_on(bundle, tmp_path):
    pytest.importorskip("onnxruntime")
    pages, out = tmp_path / "many", tmp_path / "out"
    pages.mkdir()
    save_page(pages, "p.png")
    for number in range(60):
        (pages / f"{number:02}.xml").write_text(page_xml(LINE_A, LINE_B, image="p.png"), encoding="utf-8")
    words = [sys.executable, "-m", "htr_engines.cli", str(bundle), str(pages), "-o", str(out), "--threads", "1"]
    places = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": places}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    with process:
        while not (out / JOURNAL).exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[1]
    done = len((out / JOURNAL).read_text(encoding="utf-8").splitlines())
    assert done < 60
    assert process.returncode == 130, said
    assert f"Error: stopped before all was read; {out} keeps what was read, and the same command goes on" in said
    result = run(bundle, pages, "-o", out)
    assert result.exit_code == 0, result.output
    assert f"{done} documents skipped that were done before" in result.stderr
    assert len(list(out.glob("*.xml"))) == 60
