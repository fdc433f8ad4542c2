"""Line lists in the three layouts, and files that are written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.errors import DataError
from htr_engines.files import atomic_folder, atomic_path, sha256_of
from htr_engines.lines import Line, fingerprint, load_batches, read_lines
from htr_engines.preprocess import Preprocessing
from htr_engines.text import collapse


@pytest.fixture
def folder(tmp_path):
    lines = tmp_path / "lines"
    lines.mkdir()
    for name in ("b.png", "a.JPG", "note.md"):
        (lines / name).write_bytes(b"")
    (lines / "a.txt").write_text("  eins \t zwei\n", encoding="utf-8")
    return lines


def test_a_folder_gives_its_images_by_name(folder):
    lines = read_lines(folder)
    assert [(line.name, line.text) for line in lines] == [("a.JPG", "eins zwei"), ("b.png", None)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.ln", "b.png\n\na.JPG\n"),
        ("l.tsv", "file\ttext\nb.png\tdrei\na.JPG\teins  zwei\n"),
        ("l.csv", 'b.png,drei\na.JPG,"eins zwei"\n'),
        ("l.csv", 'b.png;drei\na.JPG;"eins zwei"\n'),
        ("l.csv", '"File";"Text"\n"b.png";drei\n"a.JPG";eins zwei\n'),
        ("l.jsonl", '{"file_name": "b.png", "text": "drei"}\n\n{"file_name": "a.JPG", "text": "eins zwei"}\n'),
    ],
)
def test_lists_in_every_layout(folder, tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    lines = read_lines(folder, path)
    assert [line.name for line in lines] == ["b.png", "a.JPG"]
    assert lines[1].text == "eins zwei"
    assert lines[0].text == (None if name == "l.ln" else "drei")
    assert lines[0].image == folder / "b.png"


def test_a_semicolon_in_a_text_or_a_name_separates_nothing(folder, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("a.JPG,eins; zwei\nb;c.png,drei\n", encoding="utf-8")
    assert [(line.name, line.text) for line in read_lines(folder, path)] == [
        ("a.JPG", "eins; zwei"),
        ("b;c.png", "drei"),
    ]
    path.write_text("a.JPG;eins, zwei\n", encoding="utf-8")
    assert read_lines(folder, path)[0].text == "eins, zwei"
    path.write_text("b;c.png,drei\n", encoding="utf-8")
    assert read_lines(folder, path)[0].name == "b;c.png"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "file,text,writer\nb.png,drei,Ada\na.JPG,eins zwei,\n"),
        ("l.tsv", "file\ttext\tpage\tWriter\nb.png\tdrei\t1\tAda\na.JPG\teins zwei\n"),
        (
            "l.jsonl",
            '{"file_name": "b.png", "text": "drei", "writer": "Ada"}\n{"file_name": "a.JPG", "text": "eins zwei"}\n',
        ),
    ],
)
def test_writers_where_the_list_names_them(folder, tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    lines = read_lines(folder, path)
    assert [(line.text, line.writer) for line in lines] == [("drei", "Ada"), ("eins zwei", None)]


def test_a_tsv_keeps_quotation_marks_and_commas(folder, tmp_path):
    path = tmp_path / "l.tsv"
    path.write_text('a.JPG\t"Ja", sagte er\n', encoding="utf-8")
    assert read_lines(folder, path)[0].text == '"Ja", sagte er'


@pytest.mark.parametrize(
    ("content", "text"),
    [("Việt".encode(), "Việt"), ("Đô".encode("cp1258"), "Đô"), (b"\xef\xbb\xbfabc", "abc"), (b"\x8d\x81", "\x8d\x81")],
)
def test_transcripts_in_old_encodings(folder, content, text):
    (folder / "b.txt").write_bytes(content)
    assert read_lines(folder)[1].text == collapse(text)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.ln", "\n\n", "names no line"),
        ("l.tsv", "a.png\n", "line 1"),
        ("l.jsonl", "{}\n", "line 1"),
        ("l.jsonl", "[1]\n", "line 1"),
        ("l.jsonl", "{\n", "line 1"),
    ],
)
def test_broken_lists_are_refused(folder, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_lines(folder, path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        read_lines(tmp_path / "none")
    with pytest.raises(DataError, match="holds no image"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_lines(tmp_path, tmp_path / "none.ln")


@pytest.mark.parametrize("suffix", [".ln", ".tsv", ".jsonl"])
@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300 + ".png", "..", "/", "."])
def test_a_name_that_no_file_can_have_costs_its_own_line(folder, tmp_path, suffix, name):
    path = tmp_path / f"l{suffix}"
    rows = {".ln": "%s", ".tsv": "%s\tx", ".jsonl": '{"file_name": %s, "text": "x"}'}[suffix]
    names = [json.dumps(one) if suffix == ".jsonl" else one for one in (name, "a.JPG")]
    path.write_text("".join(rows % one + "\n" for one in names), encoding="utf-8")
    lines = read_lines(folder, path)
    assert [line.name for line in lines] == [name, "a.JPG"]
    assert lines[0].identity[1] is None
    with pytest.raises(DataError, match="none of the 2"):  # both, since the fixture's images are empty
        list(load_batches(lines, Preprocessing()))


def test_a_huge_field_is_refused(folder, tmp_path):
    path = tmp_path / "l.csv"
    path.write_text('a.JPG,"' + "x" * 200_000 + '"\n', encoding="utf-8")
    with pytest.raises(DataError, match="no table"):
        read_lines(folder, path)


@given(st.text())
@settings(deadline=None)
def test_white_space_collapses_once_and_for_all(text):
    assert collapse(collapse(text)) == collapse(text)
    assert "  " not in collapse(text)
    assert collapse(text) == collapse(text).strip()


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert sha256_of(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_a_failed_folder_leaves_the_old_one_alone(tmp_path):
    target = tmp_path / "x.htr"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with atomic_folder(target) as temporary:
        (temporary / "b").write_text("3")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.htr"]


def test_batches_leave_out_what_cannot_be_read_and_say_so(lines_dir, tmp_path):
    lines = read_lines(lines_dir)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    mixed = [lines[0], Line("broken.png", broken, None), *lines[1:3]]
    skipped = []
    batches = list(
        load_batches(mixed, Preprocessing(width=128), 2, lambda line, reason: skipped.append((line.name, reason)))
    )
    assert [batch.lines for batch in batches] == [tuple(lines[:2]), (lines[2],)]
    assert [batch.images.shape for batch in batches] == [(2, 1, 64, 128), (1, 1, 64, 128)]
    assert [name for name, _ in skipped] == ["broken.png"]
    filled = batches[1].filled(3)
    assert filled.shape == (3, 1, 64, 128)
    assert (filled == batches[1].images).all()
    with pytest.raises(DataError, match=r"none of the 1 line images can be read, the first because .*broken\.png"):
        list(load_batches(mixed[1:2], Preprocessing()))
    with pytest.raises(DataError, match="there is no line to read"):
        list(load_batches([], Preprocessing()))


def test_a_fingerprint_depends_on_names_images_and_transcripts(lines_dir, tmp_path):
    lines = read_lines(lines_dir)
    found = {fingerprint(line.identity for line in lines)}
    found.add(fingerprint(line.identity for line in reversed(lines)))
    for change in ({"name": "other"}, {"image": lines[1].image}, {"image": tmp_path / "missing.png"}, {"text": None}):
        found.add(fingerprint(line.identity for line in [replace(lines[0], **change), *lines[1:]]))
    assert len(found) == 6
