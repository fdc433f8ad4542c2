"""Variables that make a step faster are found, set and named; they change nothing in what is learnt."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from helpers.fit_helpers import command, environment, equal, read, write_data

from htr_training import tuning
from htr_training.cli import main
from htr_training.recipe_file import read_recipe

EVERY = {**tuning.KEEP_MEMORY, **tuning.WAIT_ASLEEP}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def long(recipe, *changes):
    return read_recipe(recipe, ["schedule.iterations=5000", *changes])


@pytest.fixture
def suitable(monkeypatch):
    """Pretend that this machine is one to measure on."""
    monkeypatch.setattr(tuning.sys, "platform", "linux")
    monkeypatch.setattr(tuning.platform, "libc_ver", lambda: ("glibc", "2.36"))


@pytest.mark.parametrize(
    ("times", "variables"),
    [
        ([[1.0, 9.0, 1.0], [0.5, 0.5, 8.0], [0.9], [0.8]], tuning.KEEP_MEMORY),
        ([[1.0], [1.0], [0.99], [0.98]], {}),
        ([[1.0], [2.0], [0.6], [0.5]], EVERY),
    ],
)
def test_the_fastest_by_its_median_wins_if_it_gains_enough(times, variables):
    assert tuning.choose(times).variables == variables


def test_the_note_names_ratio_and_variables():
    note = tuning.choose([[1.0], [2.0], [0.5], [0.8]]).note
    assert "2.00 times as fast with OMP_WAIT_POLICY=PASSIVE" in note
    assert "none is set" in tuning.choose([[1.0], [1.0], [1.0], [1.0]]).note


@pytest.mark.usefixtures("suitable")
def test_when_to_measure(recipe):
    assert tuning.is_worthwhile(long(recipe), {})
    assert not tuning.is_worthwhile(long(recipe, "run.tune=false"), {})
    assert not tuning.is_worthwhile(read_recipe(recipe), {})
    assert not tuning.is_worthwhile(long(recipe), {"OMP_WAIT_POLICY": "ACTIVE"})
    assert not tuning.is_worthwhile(long(recipe), {"RANK": "0"})


def test_every_candidate_is_measured(recipe, monkeypatch):
    monkeypatch.setattr(tuning, "MAX_ROUNDS", 2)
    monkeypatch.setattr(tuning, "CANDIDATES", ({}, EVERY))
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    times = tuning.measure(recipe, ["optimizer.batch=2"])
    assert [len(steps) for steps in times] == [2, 2]
    assert all(seconds > 0 for steps in times for seconds in steps)


def test_a_probe_that_fails_leaves_the_training_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "CANDIDATES", ({},))
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    assert tuning.measure(tmp_path / "missing.toml", []) == []
    assert tuning.choose([]) is None


@pytest.mark.usefixtures("suitable")
def test_starting_again_with_the_same_arguments(recipe, monkeypatch):
    started = []
    monkeypatch.setattr(tuning, "measure", lambda *_: [[1.0], [1.0], [0.5], [0.9]])
    monkeypatch.setattr(tuning.os, "execv", lambda program, arguments: started.append((program, arguments)))
    monkeypatch.setattr(tuning.os, "environ", dict(os.environ))
    monkeypatch.setattr(tuning.sys, "orig_argv", ["python", "htr-train", "fit", "recipe.toml"])
    for name in EVERY:
        tuning.os.environ.pop(name, None)
    tuning.restart_if_faster(long(recipe), recipe, [])
    assert started == [(sys.executable, [sys.executable, "htr-train", "fit", "recipe.toml"])]
    assert tuning.os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "2.00 times as fast" in tuning.restart_if_faster(long(recipe), recipe, [])


def test_the_variables_change_nothing_in_what_is_learnt(tmp_path, recipe):
    def arguments(name):
        return command(recipe, tmp_path / name, "--set", "schedule.iterations=3", "--set", "run.threads=2")

    tuned = [sys.executable, "-m", "htr_training.cli", *arguments("tuned")]
    subprocess.run(tuned, env=environment(**EVERY), check=True)
    assert CliRunner().invoke(main, arguments("plain")).exit_code == 0
    results = [read(tmp_path / name / "last.pth") for name in ("plain", "tuned")]
    assert all(equal(results[0][part], results[1][part]) for part in ("model", "state_dict_ema", "optimizer"))
