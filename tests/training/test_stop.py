"""Ctrl-C and SIGTERM, sent to real processes: nothing is lost, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.cut_fakes import LINE_A, LINE_B, page_xml, save_page
from helpers.fit_helpers import command, environment, equal, read, write_data

from htr_training.cli import main
from htr_training.cut import command as cutting

WEIGHTS = ("model", "state_dict_ema", "tcm_head", "optimizer")
PATIENCE_S = 300


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@contextlib.contextmanager
def started(*words):
    """Start a command in a process group of its own, as a shell does."""
    line = [sys.executable, "-m", *map(str, words)]
    process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until(process, condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def iterations(output):
    log = output / "log.jsonl"
    rows = [json.loads(row) for row in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    return max((row["iteration"] for row in rows), default=0)


def long_training(recipe, output):
    # Neither validated nor saved before the signal comes.
    changes = ("schedule.iterations=100000", "run.validate_every=100000", "run.save_every=100000", "run.log_every=1")
    return command(recipe, output, "--resume", "auto", *(word for change in changes for word in ("--set", change)))


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_a_training_saves_what_it_learnt(tmp_path, recipe, number, workers):
    output = tmp_path / "out"
    extra = ["--set", f"data.workers={workers}", "--set", "run.tune=false"]
    with started("htr_training.cli", *long_training(recipe, output), *extra) as process:
        wait_until(process, lambda: iterations(output) >= 2)
        os.killpg(process.pid, number)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130, said
    done = read(output / "last.pth")["nb_iter"]
    assert f"Error: stopped at iteration {done}, which {output / 'last.pth'} holds; the same command with" in said
    assert "Traceback" not in said
    # The same state as that of a training that was never stopped.
    whole = tmp_path / "whole" / "last.pth"
    settings = ["--set", f"run.save_every={done}", "--set", "run.tune=false"]
    with started("htr_training.cli", *long_training(recipe, whole.parent), *settings) as process:
        wait_until(process, whole.exists)
    stopped, other = read(output / "last.pth"), read(whole)
    assert other["nb_iter"] == done
    assert all(equal(stopped[part], other[part]) for part in WEIGHTS)


def test_two_processes_stop_together(tmp_path, recipe):
    output = tmp_path / "out"
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "htr_training.cli")
    with started(*torchrun, *long_training(recipe, output)) as process:
        wait_until(process, lambda: iterations(output) >= 2)
        process.send_signal(signal.SIGINT)  # torchrun hands it on
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode != 0
    assert said.count("Error: stopped at iteration") == 2, said
    assert read(output / "last.pth")["nb_iter"] >= 2


def test_a_validation_that_was_stopped_is_made_up_for(tmp_path, recipe):
    output = tmp_path / "out"
    assert CliRunner().invoke(main, command(recipe, output)).exit_code == 0
    log = output / "log.jsonl"
    rows = [row for row in log.read_text(encoding="utf-8").splitlines() if json.loads(row)["iteration"] != 12]
    log.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert CliRunner().invoke(main, command(recipe, output, "--resume", "auto")).exit_code == 0
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    assert (last["kind"], last["iteration"]) == ("val", 12)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_rendering_goes_on_where_it_was_stopped(tmp_path, number):
    fonts = Path(__file__).parents[2] / "training" / "demo" / "fonts"
    text = tmp_path / "texts.txt"
    text.write_text("".join(f"{number} rows of text\n" for number in range(200)), encoding="utf-8")
    words = ["synth", "--fonts", fonts, "--text", text, "--workers", "2"]
    output = tmp_path / "stopped"
    unfinished = output / ".train.ln.unfinished"
    with started("htr_training.cli", *words, "-o", output) as process:
        wait_until(process, lambda: unfinished.exists() and len(unfinished.read_bytes().splitlines()) > 20)
        os.killpg(process.pid, number)
        said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130, said
    assert "of 200; the same command goes on from there" in said
    assert "Traceback" not in said
    assert not (output / "train.ln").exists()
    first = output / "lines" / "train-000000.png"
    rendered = first.stat().st_mtime_ns
    for folder in (output, tmp_path / "whole"):
        result = CliRunner().invoke(main, [str(word) for word in (*words, "-o", folder)])
        assert result.exit_code == 0, result.output
    assert first.stat().st_mtime_ns == rendered
    assert not unfinished.exists()
    assert contents(output) == contents(tmp_path / "whole")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cutting_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    pages = tmp_path / "pages"
    pages.mkdir()
    for name in "abc":
        (pages / f"{name}.xml").write_text(page_xml(LINE_A, LINE_B, image=f"{name}.png"), encoding="utf-8")
        save_page(pages, f"{name}.png")
    cut_page, tried = cutting._cut_sheet, []

    def stopping(sheet, options):
        tried.append(sheet.stem)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return cut_page(sheet, options)

    monkeypatch.setattr(cutting, "_cut_sheet", stopping)
    options = [str(pages), "-o", str(tmp_path / "out"), "--workers", "1"]
    stopped = CliRunner().invoke(main, ["cut", *options])
    assert stopped.exit_code == 130
    assert "stopped after 2 of 3; the same command goes on from there" in stopped.stderr
    resumed = CliRunner().invoke(main, ["cut", *options])
    assert resumed.exit_code == 0, resumed.output
    assert tried == ["a", "b", "c", "c"]
    assert "from 3 pages" in resumed.stdout
    assert len((tmp_path / "out" / "train.ln").read_text(encoding="utf-8").splitlines()) == 6
    # A page that was changed meanwhile, or other options: nothing is taken over.
    assert CliRunner().invoke(main, ["cut", *options, "--force"]).exit_code == 0
    assert tried[4:] == ["a", "b", "c"]
