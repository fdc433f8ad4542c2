from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from htr_engines.charset import Charset
from htr_engines.errors import DataError
from htr_engines.lines import Line
from htr_training.check.check import check_data, check_lists, frames_needed
from htr_training.check.report import histogram
from htr_training.cli import main

ABC = Charset(" abcdefghijklmnopqrstuvwxyz")


def write_line(data: Path, name: str, text: str | None, width: int = 200, shade: int | None = None) -> None:
    lines = data / "lines"
    lines.mkdir(exist_ok=True)
    seed = sum(map(ord, name)) if shade is None else shade
    noise = np.random.default_rng(seed).integers(0, 255, (64, width), dtype=np.uint8)
    Image.fromarray(noise).save(lines / name)
    if text is not None:
        (lines / name).with_suffix(".txt").write_text(text, encoding="utf-8")


def write_list(data: Path, name: str, *lines: str) -> None:
    (data / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def kinds(report) -> list[tuple[str, str]]:
    return [(finding.kind, finding.name) for finding in report.findings]


@pytest.fixture
def data(tmp_path):
    """A good data set: two lines to train on and one to validate on."""
    for name, text in (("a.png", "abc"), ("b.png", "bcd"), ("c.png", "bcdd")):
        write_line(tmp_path, name, text)
    write_list(tmp_path, "train.ln", "a.png", "b.png")
    write_list(tmp_path, "val.ln", "c.png")
    return tmp_path


def test_a_good_data_set_passes(data):
    report = check_data(data, ABC, 256)
    assert report.findings == ()
    assert (report.errors, report.warnings) == ([], [])
    assert report.lines == {"train.ln": 2, "val.ln": 1}
    assert report.lengths == {3: 2, 4: 1}
    assert report.characters["b"] == 3
    assert report.outside == {}


@pytest.mark.parametrize(
    ("text", "kind"),
    [(None, "no transcript"), ("  ", "empty text"), ("Abc", "charset"), ("ab" * 40, "too long")],
)
def test_texts_that_cannot_be_learnt_are_errors(data, text, kind):
    (data / "lines" / "a.txt").unlink()
    write_line(data, "a.png", text)
    report = check_data(data, ABC, 256)
    assert kinds(report) == [(kind, "a.png")]
    assert len(report.errors) == 1
    assert "a.png" in report.errors[0]


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n cut off"])
def test_images_that_cannot_be_read_are_errors(data, content):
    image = data / "lines" / "a.png"
    image.unlink() if content is None else image.write_bytes(content)
    report = check_data(data, ABC, 256)
    assert kinds(report) == [("image", "a.png")]
    assert "1 of 3 lines cannot be read" in report.errors[0]


def test_two_missing_images_are_not_duplicates(data):
    for name in ("a.png", "b.png"):
        (data / "lines" / name).unlink()
    assert kinds(check_data(data, ABC, 256)) == [("image", "a.png"), ("image", "b.png")]


def test_the_same_image_in_train_and_val_is_a_leak(data):
    write_line(data, "copy.png", "abc", shade=sum(map(ord, "a.png")))
    write_list(data, "val.ln", "copy.png")
    report = check_data(data, ABC, 256)
    assert kinds(report) == [("leak", "copy.png")]
    assert report.errors == []
    assert "as a.png in train.ln" in report.warnings[0]


def test_the_same_name_in_train_and_val_is_a_leak(data):
    write_list(data, "val.ln", "c.png", "a.png")
    assert kinds(check_data(data, ABC, 256)) == [("leak", "a.png")]


def test_lines_listed_twice_or_copied_are_told_apart(data):
    write_line(data, "copy.png", "abc", shade=sum(map(ord, "a.png")))
    write_line(data, "other.png", "xyz", shade=sum(map(ord, "a.png")))
    write_list(data, "train.ln", "a.png", "b.png", "a.png", "copy.png", "other.png")
    found = kinds(check_data(data, ABC, 256))
    assert found == [("listed twice", "a.png"), ("same image", "copy.png"), ("other text", "other.png")]


def test_a_repeated_character_needs_a_blank_between():
    assert frames_needed("aab") == 4
    assert frames_needed("") == 0


def test_the_longest_text_that_fits_is_no_error(data):
    text = "ab" * 32  # 64 outputs, at 256 pixels
    write_line(data, "a.png", text, width=256)
    assert check_data(data, ABC, 256).findings == ()
    write_line(data, "a.png", text[:-1] + "a", width=256)  # as long, but two of the same in a row
    assert kinds(check_data(data, ABC, 256)) == [("too long", "a.png")]


def test_a_text_that_cannot_stand_on_its_image_is_pointed_at(data):
    write_line(data, "a.png", "a long text indeed", width=40)
    assert kinds(check_data(data, ABC, 256)) == [("crowded", "a.png")]


def test_squashed_lines_are_pointed_at(data):
    write_line(data, "a.png", "abc", width=1000)
    report = check_data(data, ABC, 256)
    assert kinds(report) == [("squashed", "a.png")]
    assert "3.9 times too wide" in report.findings[0].detail


def test_decomposed_texts_are_pointed_at(data):
    write_line(data, "a.png", unicodedata.normalize("NFD", "für"))
    assert kinds(check_data(data, None, 256)) == [("not composed", "a.png")]


def test_characters_that_only_val_shows_are_pointed_at(data):
    write_line(data, "c.png", "abz")
    report = check_data(data, ABC, 256)
    assert kinds(report) == [("unseen", "c.png")]


def test_characters_outside_the_set_are_counted(data):
    write_line(data, "a.png", "äöä")
    assert check_data(data, ABC, 256).outside == {"ä": 2, "ö": 1}


def test_lists_of_other_layouts(data):
    (data / "train.ln").unlink()
    (data / "val.ln").unlink()
    assert check_data(data, ABC, 256).lines == {"": 3}
    write_list(data, "metadata.jsonl", '{"file_name": "a.png", "text": "xyz"}')
    assert check_data(data, ABC, 256).lines == {"metadata.jsonl": 1}
    write_list(data, "train.tsv", "b.png\txyz", "c.png\tuvw")
    report = check_data(data, ABC, 256)
    assert report.lines == {"train.tsv": 2}
    assert report.lengths == {3: 2}


def test_images_may_lie_beside_the_list(tmp_path):
    write_line(tmp_path, "a.png", "abc")
    for path in (tmp_path / "lines").iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "lines").rmdir()
    write_list(tmp_path, "train.ln", "a.png")
    assert check_data(tmp_path, ABC, 256).findings == ()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        check_data(tmp_path)


def test_lines_without_a_folder_are_checked_too(data):
    lines = [Line("a.png", data / "lines" / "a.png", "abc"), Line("x.png", data / "lines" / "x.png", "abc")]
    report = check_lists({"": lines}, ABC, 256)
    assert kinds(report) == [("image", "x.png")]
    assert check_lists({"train": lines[:1], "val": lines[:1]}, ABC, 256).count("leak") == 1


def test_the_log_of_the_demo_network_is_no_list():
    report = check_data(Path(__file__).parents[2] / "training" / "demo", width=256)
    assert report.lines == {"": 40}
    assert report.errors == []


def test_sentences_stay_short(data):
    names = [f"x{number}.png" for number in range(50)]
    write_list(data, "train.ln", *names)
    (sentence,) = (error for error in check_data(data, ABC, 256).errors if "image" in error)
    assert sentence.count("x.png") + sentence.count(".png does not exist") <= 3
    assert sentence.endswith("; ...)")


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 10_000), max_size=30))
def test_the_histogram_loses_no_line(lengths):
    rows = histogram(lengths)
    assert sum(count for _, count, _ in rows) == sum(lengths.values())
    assert len(rows) <= 15
    assert all(len(bar) <= 40 for _, _, bar in rows)


@given(st.text("ab", max_size=30))
def test_ctc_can_write_a_text_in_the_frames_it_needs(text):
    """A path of that many outputs exists, and collapses to the text."""
    path = "".join(
        ("-" + character) if index and text[index - 1] == character else character
        for index, character in enumerate(text)
    )
    assert len(path) == frames_needed(text)


def test_the_command_exits_1_on_errors_only(data):
    good = CliRunner().invoke(main, ["check", str(data), "--width", "256"])
    assert good.exit_code == 0, good.output
    assert "characters per line" in good.output
    (data / "lines" / "a.png").unlink()
    bad = CliRunner().invoke(main, ["check", str(data), "--width", "256"])
    assert bad.exit_code == 1
    assert "a.png" in bad.output


def test_the_command_prints_json(data):
    (data / "abc.txt").write_text("abd", encoding="utf-8")
    arguments = ["check", str(data), "--width", "256", "--charset", str(data / "abc.txt"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["passed"] is False
    assert report["outside_charset"] == {"c": 3}
    assert {found["kind"] for found in report["findings"]} == {"charset"}
