"""Training through ``torch.compile``: the same numbers, the same names, and a training that goes on."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from click.testing import CliRunner
from helpers.fit_helpers import command, read, write_data
from torch._dynamo.backends.debugging import aot_eager

from htr_training.cli import main

# What is drawn at random differs between the two, so nothing is.
CALM = (
    *("network.dropout=0.0", "network.drop_path=0.0", "loss.tcm_dropout=0.0"),
    *("augment.probability=0.0", "schedule.iterations=4", "schedule.warm_up=1", "run.log_every=1"),
    *("run.save_every=2", "run.validate_every=4", "loss.guide=0"),
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def captured(monkeypatch):
    """Compile no more than the capture of both passes: writing C++ for them takes minutes and is PyTorch's own."""
    torch.compiler.reset()
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(torch.nn.Module.compile, backend=counting))
    yield
    torch.compiler.reset()


CAPTURED = []


def counting(graph, inputs):
    """A backend of ``torch.compile`` that keeps the graphs it is given and differentiates them."""
    CAPTURED.append(graph)
    return aot_eager(graph, inputs)


def fit(recipe, output, *changes, resume=False):
    options = [part for change in (*CALM, *changes) for part in ("--set", change)]
    result = CliRunner().invoke(main, command(recipe, output, *options, *(["--resume", "auto"] if resume else [])))
    assert result.exit_code == 0, result.output
    rows = [json.loads(row) for row in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["total"] for row in rows if row["kind"] == "train"], read(output / "last.pth")


@pytest.mark.usefixtures("captured")
def test_a_compiled_training_learns_the_same_and_goes_on(recipe, tmp_path):
    losses, plain = fit(recipe, tmp_path / "plain")
    compiled_losses, compiled = fit(recipe, tmp_path / "compiled", "run.compile=true")
    assert compiled_losses == pytest.approx(losses, rel=2e-3)
    for part in ("model", "state_dict_ema", "tcm_head"):
        assert compiled[part].keys() == plain[part].keys()
    # PyTorch breaks at CTC, whose lengths it has to read; none of the eight forward passes is captured anew.
    assert 1 <= len(CAPTURED) <= 4
    longer, resumed = fit(recipe, tmp_path / "compiled", "schedule.iterations=5", resume=True)
    assert (resumed["nb_iter"], longer[:4]) == (5, compiled_losses)
