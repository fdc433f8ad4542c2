"""The study: equal shares of a budget, figures that survive whatever ends it."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.fit_helpers import ROOT, environment, write_data

SCRIPT = ROOT / "training" / "study.py"
TINY = (
    *("network.preset=tiny", "network.embed_dim=32", "network.depth=3", "network.num_heads=2"),
    *("network.mobilevit_head_dim=8", "network.image_width=64", "data.workers=0", "optimizer.batch=4"),
    *("loss.tcm_width=16", "run.threads=1", "run.tensorboard=false"),
)


@pytest.fixture
def study(monkeypatch):
    """The script as a module, whose trainings are played."""
    specification = importlib.util.spec_from_file_location("study", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "study", module)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "PROBE", 4)
    monkeypatch.setattr(
        module, "TRAINER", (sys.executable, "-S", str(Path(__file__).parents[1] / "helpers" / "fake_trainer.py"))
    )
    before = signal.getsignal(signal.SIGTERM)
    yield module
    signal.signal(signal.SIGTERM, before)


def run(study, folder, budget=0.5):
    arguments = ["--data", "data", "--budget", str(budget), "--output", str(folder / "runs")]
    results = folder / "results.json"
    outcome = CliRunner().invoke(study.main, [*arguments, "--results", str(results)])
    return outcome, read(results)


def read(results):
    return {row["name"]: row for row in json.loads(results.read_text(encoding="utf-8"))["runs"]}


def test_every_run_gets_its_share_and_its_figures(study, tmp_path):
    outcome, rows = run(study, tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert list(rows) == [run.name for run in study.RUNS]
    for row in rows.values():
        assert row["ended"] is True
        assert row["iterations_planned"] >= 10  # a share of 5 s at 100 iterations a second, less the starts
        assert row["iterations_planned"] <= 0.8 * 30 * 100
        assert 1 / row["best_cer"] == pytest.approx(row["at_iteration"])
        assert row["iterations"] in {row["iterations_planned"], row["iterations_planned"] - 1}
    assert rows["copiste, neither"]["changes"] == ["optimizer.sam_rho=0.0", "loss.tcm_weight=0.0"]
    document = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert document["schema_version"] == 1
    assert document["environment"]["python"]


def test_a_run_that_fails_is_told_and_the_next_begins(study, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_FAILURES", "copiste-no-SAM dhsd")
    outcome, rows = run(study, tmp_path)
    assert outcome.exit_code == 1
    assert "failed: copiste, no SAM; dhsd" in outcome.stderr
    assert [name for name, row in rows.items() if row["error"]] == ["copiste, no SAM", "dhsd"]
    assert rows["dhsd"]["best_cer"] is None
    assert rows["htromance"]["ended"] is True
    assert "caught fire" in (tmp_path / "runs" / "dhsd" / "fit" / "output.txt").read_text(encoding="utf-8")


def test_a_training_that_outlasts_its_share_is_stopped(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RUNS", study.RUNS[:1])
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    outcome, rows = run(study, tmp_path, budget=0.05)
    assert outcome.exit_code == 0, outcome.output
    row = rows["copiste"]
    assert row["ended"] is False
    assert 0 < row["iterations"] < row["iterations_planned"]


def test_a_study_goes_on_where_it_was_and_forgets_nothing(study, tmp_path, monkeypatch):
    everything = study.RUNS
    _, before = run(study, tmp_path)
    log = tmp_path / "runs" / "copiste" / "fit" / "log.jsonl"
    rows = log.read_text(encoding="utf-8").splitlines()
    log.write_text("\n".join(rows[:-2]) + '\n{"kind": "tra', encoding="utf-8")
    monkeypatch.setattr(study, "RUNS", everything[:1])
    assert study._result(log.parent.parent)["best_cer"] > before["copiste"]["best_cer"]
    log.write_text("\n".join(rows[:-2]) + "\n", encoding="utf-8")
    monkeypatch.setattr(study, "RUNS", everything)
    (tmp_path / "runs" / "dhsd" / "plan.json").unlink()
    outcome, after = run(study, tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert after["copiste"] == before["copiste"]
    assert list(after) == list(before)


def test_a_budget_too_small_for_anything(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "TRAINER", (sys.executable, "-S", "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(study, "RUNS", study.RUNS[:1])
    outcome, rows = run(study, tmp_path, budget=0.001)
    assert outcome.exit_code == 1
    assert "not even a probe of 4 iterations fits" in rows["copiste"]["error"]


def test_a_study_of_real_trainings_that_is_cut_off_leaves_figures_and_weights(tmp_path):
    for name in ("copiste", "dhsd", "htromance"):
        write_data(tmp_path / "data" / name)
    results, fit = tmp_path / "results.json", tmp_path / "runs" / "copiste" / "fit"
    fit.parent.mkdir(parents=True)
    (fit.parent / "plan.json").write_text("200", encoding="utf-8")  # so that no probe is needed
    changes = [part for setting in TINY for part in ("--set", setting)]
    places = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "runs"), "--results", str(results)]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *places, "--budget", "30", *changes],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    while not (fit / "best_CER.pth").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    row = read(results)["copiste"]
    assert row["ended"] is False
    assert row["iterations_planned"] > row["iterations"]
    assert row["best_cer"] >= 0
    names = {path.name for path in fit.iterdir()}
    assert {"best_CER.pth", "log.jsonl"} <= names
    assert not [name for name in names if "partial" in name]
    rows = (fit / "log.jsonl").read_text(encoding="utf-8")
    time.sleep(1)
    assert (fit / "log.jsonl").read_text(encoding="utf-8") == rows  # the training is stopped, too
