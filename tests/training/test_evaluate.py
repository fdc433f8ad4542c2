"""Error rates of a checkpoint, where the errors lie, and the report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from htr_engines.errors import DataError
from htr_engines.metrics import ErrorCounts, count_errors
from htr_export.model import load_any
from htr_training.cli import main
from htr_training.evaluate import EvaluateOptions, evaluate
from htr_training.losses import ctc_per_line
from htr_training.readings import (
    Evaluation,
    ReadLine,
    by_character,
    by_length,
    by_writer,
    calibration,
    confusions,
    examples,
)

TEXTS = st.text("abc ", max_size=25)


def read_line(truth, prediction, name="x.png"):
    return ReadLine(name, truth, prediction, 0.5, 1.0, count_errors(prediction, truth))


@pytest.fixture(scope="module")
def report(workspace, checkpoint, lines_dir):
    folder = workspace / "evaluation"
    arguments = ["evaluate", str(checkpoint), "--lines", str(lines_dir), "--list", str(workspace / "all.ln")]
    result = CliRunner().invoke(main, [*arguments, "--report", str(folder), "--batch", "3"])
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_rates_are_those_of_the_network(checkpoint, lines_dir):
    result = evaluate(EvaluateOptions(checkpoint, lines_dir))
    model = load_any(checkpoint)
    from htr_engines.ctc import decode_greedy
    from htr_engines.preprocess import fit_line, load_pages

    counts, losses = ErrorCounts(), []
    for line in result.lines:
        image_11HW = fit_line(load_pages(lines_dir / line.name)[0], model.preprocessing)[None]
        with torch.inference_mode():
            logits_NTC = model.network()(torch.from_numpy(image_11HW))
        assert decode_greedy(logits_NTC.numpy(), model.charset)[0].text == line.prediction
        target = torch.tensor([model.charset.encode(line.truth)])
        losses.append(ctc_per_line(logits_NTC, target, torch.tensor([target.shape[1]])).item())
        counts += count_errors(line.prediction, line.truth)
    assert result.counts == counts
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_report_files(report):
    folder, said = report
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document["schema_version"] == 1
    assert document["lines"] == len(document["readings"]) == 8
    assert f"CER {document['cer']:.2%}" in said
    assert document["source"]["weights"] == "ema"
    assert document["source"]["iteration"] == "1200"
    assert len(document["source"]["sha256"]) == 64
    table = (folder / "lines.tsv").read_text(encoding="utf-8").splitlines()
    assert table[0].split("\t") == ["cer", "confidence", "loss", "name", "truth", "prediction"]
    rates = [float(row.split("\t")[0]) for row in table[1:]]
    assert rates == sorted(rates, reverse=True)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 8
    assert page.index("The worst lines") < page.index("By length") < page.index("Characters with most errors")


def test_report_escapes_what_it_shows(tmp_path, checkpoint, lines_dir):
    import shutil

    shutil.copytree(lines_dir, tmp_path / "lines")
    (tmp_path / "lines" / "line-0.txt").write_text("<b>a\u202e</b>", encoding="utf-8")
    evaluate(EvaluateOptions(checkpoint, tmp_path / "lines", report=tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<b>a" not in page
    assert "\u202e" not in page


def test_lines_without_text_are_refused(tmp_path, checkpoint, lines_dir):
    import shutil

    shutil.copytree(lines_dir, tmp_path / "lines")
    (tmp_path / "lines" / "line-3.txt").unlink()
    result = CliRunner().invoke(main, ["evaluate", str(checkpoint), "--lines", str(tmp_path / "lines")])
    assert result.exit_code == 1
    assert "1 lines have no transcript, line-3.png" in result.output


def test_confusions():
    lines = [read_line("haus", "hans"), read_line("maus", "mans"), read_line("ab", "a"), read_line("c", "cd")]
    found = {(item.truth, item.prediction): item.count for item in confusions(lines)}
    assert found == {("u", "n"): 2, ("b", ""): 1, ("", "d"): 1}
    assert confusions(lines)[0].truth == "u"


def test_characters():
    lines = [read_line("haus", "hans"), read_line("uh", "uh")]
    found = {item.character: (item.occurrences, item.errors) for item in by_character(lines)}
    assert found == {"h": (2, 0), "u": (2, 1), "a": (1, 0), "s": (1, 0)}


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12))
def test_parts_add_up(pairs):
    lines = [read_line(*pair) for pair in pairs]
    total = sum((line.counts for line in lines), ErrorCounts())
    assert sum((group.counts for group in by_length(lines)), ErrorCounts()) == total
    assert sum(item.count for item in confusions(lines)) == total.char_edits
    misread = sum(item.count for item in confusions(lines) if item.truth)
    assert sum(item.errors for item in by_character(lines)) == misread
    for group in by_length(lines):
        assert group.longest - group.shortest == 9


def test_examples_are_best_median_and_worst():
    lines = [read_line("a" * 100, "a" * (100 - errors), str(errors)) for errors in range(50)]
    names = [line.name for line in examples(Evaluation(tuple(reversed(lines))))]
    assert names == ["0", "1", "2", "23", "24", "25", "26", "47", "48", "49"]
    assert len(examples(Evaluation(tuple(lines[:4])))) == 4


def test_by_writer_the_worst_first(tmp_path, checkpoint, lines_dir):
    report = tmp_path / "report"
    arguments = ["evaluate", str(checkpoint), "--lines", str(lines_dir), "--report", str(report)]
    result = CliRunner().invoke(main, [*arguments, "--writers", r"-([0-3])\.png$"])
    assert result.exit_code == 0, result.output
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    groups = document["by_writer"]
    assert sorted(group["writer"] for group in groups) == ["0", "1", "2", "3"]
    assert [group["lines"] for group in groups] == [1, 1, 1, 1]
    rates = [group["cer"] for group in groups]
    assert rates == sorted(rates, reverse=True)
    named = {reading["writer"]: reading["name"] for reading in document["readings"]}
    assert named["2"] == "line-2.png"
    assert "By writer" in (report / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [("(", "not a regular expression"), ("line", "needs a group"), ("^(x)", "fits no line's name")],
)
def test_expressions_that_name_no_writer(checkpoint, lines_dir, expression, complaint):
    with pytest.raises(DataError, match=complaint):
        evaluate(EvaluateOptions(checkpoint, lines_dir, writers=expression))


def test_a_writer_with_few_characters_counts_as_one_writer():
    lines = [replace(read_line("ab", "ab"), writer="one"), replace(read_line("abcd", "xxxx"), writer="two")]
    lines += [replace(read_line("a", "b"), writer="one"), read_line("a", "")]
    assert [(group.writer, group.lines, group.counts.cer) for group in by_writer(lines)] == [
        ("two", 1, 1.0),
        ("one", 2, pytest.approx(1 / 3)),
    ]


def test_calibration_of_the_confidence():
    def read(confidence, prediction):
        return replace(read_line("abcd", prediction), confidence=confidence)

    low, high = calibration([read(0.95, "abcd"), read(1.0, "abcx"), read(0.31, "xxxx"), read(0.39, "abcd")])
    assert (low.low, low.high, low.lines, low.right, low.accuracy) == (0.3, 0.4, 2, 0.5, 0.5)
    assert (high.lines, high.right, high.accuracy) == (2, 0.5, 0.875)
    assert high.confidence == pytest.approx(0.975)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.floats(0, 1))))
def test_every_line_is_in_one_group_of_confidence(pairs):
    lines = [replace(read_line(truth, prediction), confidence=confidence) for truth, prediction, confidence in pairs]
    groups = calibration(lines)
    assert sum(group.lines for group in groups) == len(lines)
    assert all(group.low - 1e-9 <= group.confidence <= group.high + 1e-9 for group in groups)
