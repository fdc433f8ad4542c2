from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
from helpers.validation_fakes import CHARSET, PREPROCESSING, FakeEngine, make_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.errors import DataError
from htr_engines.preprocess import load_pages
from htr_engines.text import printable
from htr_export.reporting import compare_texts
from htr_export.validation.parity import ValidationOptions, validate
from htr_export.validation.report import (
    Inputs,
    Side,
    load_report,
    to_document,
    write_report,
)
from htr_export.validation.summary import notes, verdict

HOSTILE = "<script>alert('x')</script>|`\u202e\x1b[31m"


def make_report(folder, lines, candidate=None, command="htr-export validate"):
    result = validate(
        FakeEngine(),
        candidate or FakeEngine(shift=1, shifted_frames=1),
        lines,
        charset=CHARSET,
        preprocessing=PREPROCESSING,
        options=ValidationOptions(resamples=100),
    )
    side = Side("model.onnx", "0" * 64, 1, "fake", "1", "cpu", 1, "fp32")
    inputs = Inputs(side, side, None, None, len(lines), "0" * 64)
    write_report(folder, result, {**to_document(result, inputs), "command": command}, lines)
    return result


@pytest.fixture
def lines(tmp_path):
    return make_lines(tmp_path / "lines", ["abc", "ga", "fedc", "b"])


def test_json_holds_every_line_and_the_verdict(tmp_path, lines):
    result = make_report(tmp_path / "report", lines)
    document = load_report(tmp_path / "report")
    assert document["schema_version"] == 1
    assert document["passed"] is False
    assert document["inputs"]["candidate"]["sha256"] == "0" * 64
    assert [record["candidate"] for record in document["result"]["records"]] == [r.candidate for r in result.records]
    assert document["environment"]["physical_cores"] >= 1


def test_samples_are_the_lines_as_grey_png(tmp_path, lines):
    make_report(tmp_path / "report", lines)
    samples = load_report(tmp_path / "report")["samples"]
    assert [sample["name"] for sample in samples] == [line.name for line in lines[:3]]
    for sample, line in zip(samples, lines, strict=False):
        content = (tmp_path / "report" / sample["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == sample["sha256"]
        assert (load_pages(content)[0] == load_pages(line.image)[0]).all()


def test_page_is_self_contained_and_shows_each_changed_line(tmp_path, lines):
    result = make_report(tmp_path / "report", lines)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == result.changed == 4
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page)
    assert "<del" in page
    assert "<ins" in page


def test_hostile_text_is_escaped_everywhere(tmp_path, lines):
    lines[0] = dataclasses.replace(lines[0], name=HOSTILE + "\udcff.png", text=HOSTILE)
    make_report(tmp_path / "report", lines, command=f"htr-export '{HOSTILE}'")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page + markdown
    assert "\u202e" not in page + markdown
    table = [row for row in markdown.splitlines() if "alert" in row and row.startswith("|")]
    assert len(table) == 1
    assert "<script" not in table[0]
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 5
    assert load_report(tmp_path / "report")["result"]["records"][0]["truth"] == HOSTILE


def test_other_files_in_the_folder_stay(tmp_path, lines):
    folder = tmp_path / "report"
    (folder / "samples").mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    make_report(folder, lines)
    make_report(folder, lines, FakeEngine())
    assert (folder / "thesis.txt").read_text(encoding="utf-8") == "mine"
    assert load_report(folder)["passed"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "samples",
        "thesis.txt",
    ]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, lines):
    (tmp_path / "report").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is a file"):
        make_report(tmp_path / "report", lines)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema_version": 99}'])
def test_a_missing_or_damaged_report_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"report\.json"):
        load_report(tmp_path)


def test_agreement_alone_is_said_everywhere(tmp_path):
    lines = make_lines(tmp_path / "lines", ["abc", "ga"], transcripts=False)
    result = make_report(tmp_path / "report", lines)
    assert "agreement alone" in verdict(result)
    for name in ("report.html", "report.md", "report.json"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert "agreement alone" in text
        assert "No line has a transcript" in text


def test_notes_tell_limits_and_left_out_lines(tmp_path, lines):
    lines[0].image.write_bytes(b"")
    result = make_report(tmp_path / "report", lines)
    found = " ".join(notes(result, listed=50))
    assert "first 4 of 50 lines" in found
    assert "cannot be read: 1 line." in found
    assert lines[0].name in (tmp_path / "report" / "report.md").read_text(encoding="utf-8").replace("\\", "")


@given(st.text(), st.text())
@settings(deadline=None)
def test_pieces_put_both_texts_together_again(expected, shown):
    pieces = compare_texts(expected, shown)
    assert "".join(piece.text for piece in pieces if piece.kind != "missing") == shown
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == expected


@given(st.text())
@settings(deadline=None)
def test_printable_text_can_be_written_and_is_stable(text):
    shown = printable(text)
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert not any(ord(character) < 32 for character in shown)


def test_a_reference_that_cannot_read_is_noted(tmp_path, lines):
    result = make_report(tmp_path / "report", [dataclasses.replace(line, text="gggggg") for line in lines])
    assert "itself misreads" in " ".join(notes(result, 4))
    assert "itself misreads" not in " ".join(notes(make_report(tmp_path / "report", lines), 4))
