"""Shares of a list: each is read once, and together they are what one run reads."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from htr_engines.cli import main
from htr_engines.shard import Shard


def run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def lines(tmp_path, lines_dir):
    folder = tmp_path / "lines"
    folder.mkdir()
    for path in lines_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "line-4.png").write_bytes(b"broken")
    return folder


@given(st.lists(st.integers()), st.integers(1, 20))
def test_shares_are_the_whole_and_of_like_size(items, count):
    shares = [Shard(index, count).of(items) for index in range(1, count + 1)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shares_are_merged_into_what_one_run_reads(bundle, lines, tmp_path):
    for index in (3, 1, 2):
        code, out, _ = run(bundle, lines, "--shard", f"{index}/3", "-o", tmp_path / "out", "--engine", "onnxruntime")
        assert code == (1 if json.loads(out)["failures"] else 0)
    code, out, _ = run("merge", tmp_path / "out", "-o", tmp_path / "all.jsonl")
    summary = json.loads(out)
    assert (code, summary["lines"], summary["failures"]) == (0, 8, 1)
    whole = run(bundle, lines, "--json", "--engine", "onnxruntime")[1]
    assert (tmp_path / "all.jsonl").read_text(encoding="utf-8") == whole


def test_transcripts_beside_the_images_give_an_error_rate(bundle, lines, tmp_path):
    pytest.importorskip("rapidfuzz")
    summary = json.loads(run(bundle, lines, "--shard", "1/1", "-o", tmp_path / "out")[1])
    assert summary["chars"] == 7 * len("zeile a")
    assert summary["cer"] == pytest.approx(100 * summary["char_edits"] / summary["chars"], abs=1e-3)


def test_a_complete_share_is_skipped_and_read_again_by_force(bundle, lines, tmp_path):
    arguments = (bundle, lines, "--shard", "1/2", "-o", tmp_path / "out")
    run(*arguments)
    (share,) = (tmp_path / "out").glob("*.jsonl")
    share.write_text("changed", encoding="utf-8")
    code, out, err = run(*arguments)
    assert (code, out, share.read_text(encoding="utf-8")) == (0, "", "changed")
    assert "is complete" in err
    run(*arguments, "--force")
    assert share.read_text(encoding="utf-8") != "changed"


def test_a_share_that_was_cut_short_is_read_again(bundle, lines, tmp_path):
    arguments = (bundle, lines, "--shard", "1/2", "-o", tmp_path / "out")
    run(*arguments)
    (summary,) = (tmp_path / "out").glob("*.json")
    summary.unlink()
    assert json.loads(run(*arguments)[1])["lines"] == 4
    assert summary.exists()


def test_shares_of_other_lines_are_told_apart(bundle, lines, tmp_path):
    run(bundle, lines, "--shard", "1/2", "-o", tmp_path / "out")
    (lines / "line-0.png").unlink()
    code, _, err = run(bundle, lines, "--shard", "1/2", "-o", tmp_path / "out")
    assert code == 1
    assert "other lines" in err
    run(bundle, lines, "--shard", "2/2", "-o", tmp_path / "out")
    code, _, err = run("merge", tmp_path / "out", "-o", tmp_path / "all.jsonl")
    assert code == 1
    assert "other lines" in err
    assert not (tmp_path / "all.jsonl").exists()


def test_a_missing_share_is_named(bundle, lines, tmp_path):
    run(bundle, lines, "--shard", "2/4", "-o", tmp_path / "out")
    code, _, err = run("merge", tmp_path / "out", "-o", tmp_path / "all.jsonl")
    assert code == 1
    assert "share 1, 3, 4 of 4" in err
    assert run("merge", tmp_path, "-o", tmp_path / "all.jsonl")[0] == 1


@pytest.mark.parametrize("share", ["0/3", "4/3", "x", "1/", "/1", "1/0", "-1/3", "1/100000000"])
def test_what_is_no_share_is_refused(bundle, lines, tmp_path, share):
    code, _, err = run(bundle, lines, "--shard", share, "-o", tmp_path / "out")
    assert code == 2
    assert "no share" in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--shard", "1/2"], "needs -o"),
        (["--workers", "2"], "goes with --ray"),
        (["--format", "parquet"], "goes with --ray"),
        (["-o", "out"], "go with"),
        (["--ray", "local"], "needs -o"),
        (["--ray", "local", "-o", "out", "--format", "hocr"], "writes"),
    ],
)
def test_options_that_do_not_go_together(bundle, lines, options, reason):
    code, _, err = run(bundle, lines, *options)
    assert code == 2
    assert reason in err
