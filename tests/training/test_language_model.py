"""The command that makes a language model."""

from __future__ import annotations

from click.testing import CliRunner

from htr_engines.language_model import read_language_model
from htr_training.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["lm", *map(str, arguments)])


def test_texts_and_transcripts_become_a_model(tmp_path, lines_dir, workspace):
    (tmp_path / "more.txt").write_text("zwei zeilen\n\nnoch eine\n", encoding="utf-8")
    output = tmp_path / "lm.htrlm"
    arguments = ["--text", tmp_path / "more.txt", "--lines", lines_dir, "--list", workspace / "all.ln"]
    result = run(*arguments, "-o", output, "--order", 4)
    assert result.exit_code == 0, result.output
    header = read_language_model(output).header
    assert (header.order, header.text.lines) == (4, 10)
    assert "from 10 lines" in result.output
    assert "htr-export tune-decoder" in result.output
    assert run(*arguments, "-o", output).exit_code == 0  # an older one is replaced


def test_mistakes_cost_one_sentence(tmp_path, lines_dir):
    empty, output = tmp_path / "empty.txt", tmp_path / "lm.htrlm"
    empty.write_text("\n \n", encoding="utf-8")
    assert run("-o", output).exit_code == 2
    assert run("--lines", lines_dir, "-o", tmp_path / "lm.bin").exit_code == 2
    result = run("--text", empty, "-o", output)
    assert result.exit_code == 1
    assert "0 characters" in result.output
    output.write_text("mine", encoding="utf-8")
    assert "--force" in run("--lines", lines_dir, "-o", output).output
    assert output.read_text(encoding="utf-8") == "mine"
