"""What a training finds in files that others wrote: optimiser states, logs and lists that are not as they should be."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from helpers.drawn import CHARSET
from helpers.fit_helpers import write_data

from htr_engines.errors import CheckpointError
from htr_engines.lines import Line
from htr_training.data import Split, skip_unusable
from htr_training.journal import Journal
from htr_training.recipe import Recipe
from htr_training.recipe_file import read_recipe
from htr_training.resume import initialise_from, restore
from htr_training.state import new_state, to_checkpoint


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def tiny_state(recipe):
    return new_state(read_recipe(recipe), CHARSET, torch.device("cpu"))


@pytest.fixture
def saved(recipe, tmp_path):
    state = tiny_state(recipe)
    for parameter in state.learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.iteration = 5

    def save(**changes):
        path = tmp_path / "last.pth"
        torch.save({**to_checkpoint(state, read_recipe(recipe)), **changes}, path)
        return path

    return state, save


def first(state, **changes):
    """Return the optimiser's state with something else kept of the first parameter."""
    whole = state.optimizer.state_dict()
    return {**whole, "state": {**whole["state"], 0: {**whole["state"][0], **changes}}}


def changes_of(state):
    moment = state.optimizer.state_dict()["state"][0]["exp_avg"]
    yield from (3, "x", [], {}, {"state": []}, {"state": {0: 3}}, {"state": {"a": {}}})
    yield first(state, step=float("nan"))
    yield first(state, step="five")
    yield first(state, step=torch.zeros(3))
    yield first(state, exp_avg=moment.double().fill_(float("inf")))
    yield first(state, exp_avg=moment[:1])
    yield first(state, exp_avg=moment.to_sparse())
    yield first(state, exp_avg=torch.empty(moment.shape, device="meta"))
    yield first(state, exp_avg_sq=None)


def test_foreign_optimiser_states_cost_the_moments_and_nothing_else(recipe, saved):
    state, save = saved
    for optimizer in changes_of(state):
        again = tiny_state(recipe)
        notes = restore(again, save(optimizer=optimizer))
        assert any("moments" in note for note in notes), optimizer
        assert again.iteration == 5
        assert not again.optimizer.state_dict()["state"]


def test_an_own_optimiser_state_is_taken_over(recipe, saved):
    _, save = saved
    again = tiny_state(recipe)
    assert restore(again, save()) == []
    assert again.optimizer.state_dict()["state"]


@pytest.mark.parametrize("iteration", [float("nan"), -1, 2**40, "x", None, [[]]])
def test_an_iteration_that_is_none_is_refused(recipe, saved, iteration):
    _, save = saved
    with pytest.raises(CheckpointError, match="at which iteration"):
        restore(tiny_state(recipe), save(nb_iter=iteration))


@pytest.mark.parametrize("extra", [3, [], {"a": 1}, {"emb.weight": torch.zeros(2).to_sparse()}, {"x": torch.zeros(())}])
def test_foreign_context_modules_and_scalers(recipe, saved, extra):
    _, save = saved
    path = save(tcm_head=extra, scaler=extra)
    for start in (restore, initialise_from):
        with contextlib.suppress(CheckpointError):
            start(tiny_state(recipe), path)


@pytest.mark.parametrize(
    "row", ['{"kind": "train", "itera', "[]", '{"iteration": "x"}', '{"a": {}', "\udce9", "{}", "9" * 5000, "[" * 9999]
)
def test_damaged_rows_of_the_log_do_not_stop_a_training(tmp_path, row):
    log = tmp_path / "log.jsonl"
    good = json.dumps({"kind": "train", "iteration": 1})
    log.write_bytes(f"{good}\n{row}".encode("utf-8", "surrogateescape"))
    Journal(tmp_path, Recipe(), 5, writes=True).close()
    assert log.read_text(encoding="utf-8") == good + "\n"


def test_names_that_no_file_can_have_cost_their_own_lines(tmp_path):
    lines = [Line(name, tmp_path / name, "x") for name in ("a.png", "b\0.png", "x" * 300 + ".png")]
    split, notes = skip_unusable(Split(lines, lines[:1]), 512)
    assert [line.name for line in split.train] == ["a.png"]
    assert len(split.val) == 1
    assert "2 lines" in notes[0]
    assert skip_unusable(split, 512) == (split, [])


WORK = """
import os, sys, time
from htr_training.workers import map_jobs

def work(job):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(600)

list(map_jobs(work, range(4), 2, 1))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_workers_end_with_a_killed_parent(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path)]) as parent:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        parent.send_signal(signal.SIGKILL)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    for _ in range(600):
        alive = [worker for worker in workers if _is_alive(worker)]
        if not alive:
            return
        time.sleep(0.05)
    pytest.fail(f"{alive} live on")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
