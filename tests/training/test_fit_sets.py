"""Trainings on several sets, on lines of mixed width, and from a network of another width."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from helpers.fit_helpers import command, equal, read, write_data

from htr_training.cli import main

SETS = """
sets = [
    { root = "one", val = "val.ln", weight = 3 },
    { root = "two", val = "val.ln", weight = 1 },
]
width = "content"
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe of two sets that hold the same lines."""
    folder = tmp_path_factory.mktemp("data")
    source = write_data(folder / "one")
    write_data(folder / "two")
    path = folder / "recipe.toml"
    text = source.read_text(encoding="utf-8").replace(f"root = '{folder / 'one'}'", f"root = '{folder}'{SETS}")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe):
    return fit(recipe, tmp_path_factory.mktemp("run") / "out")


def fit(recipe, output, *options):
    result = CliRunner().invoke(main, command(recipe, output, *options))
    assert result.exit_code == 0, result.output
    return output, result.stderr


def test_error_rates_of_every_set(trained):
    output, said = trained
    assert "12 lines to learn from, 4 to validate on" in said
    rows = [json.loads(row) for row in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    validation = [row for row in rows if row["kind"] == "val"][-1]
    assert validation["cer/one"] == validation["cer/two"] == validation["cer"]
    assert "CER  one " in said
    assert read(output / "last.pth")["args"]["data"]["sets"][1]["root"] == "two"


def test_resumed_in_the_middle_of_the_mixture(tmp_path, recipe, trained):
    """Keeping a checkpoint on the way and continuing from it gives the weights of the training in one go."""
    output, _ = fit(recipe, tmp_path / "out", "--set", "run.save_every=1", "--set", "data.workers=1")
    assert equal(read(output / "last.pth")["model"], read(trained[0] / "last.pth")["model"])
    best = trained[0] / "best_CER.pth"
    assert read(best)["nb_iter"] <= 10
    resumed, _ = fit(recipe, tmp_path / "resumed", "--resume", str(best))
    for part in ("model", "state_dict_ema", "optimizer"):
        assert equal(read(resumed / "last.pth")[part], read(trained[0] / "last.pth")[part]), part


def test_from_short_lines_to_whole_ones(tmp_path, recipe, trained):
    narrow = trained[0] / "best_CER.pth"
    options = ("--init-from", str(narrow), "--set", "network.image_width=128", "--set", "schedule.iterations=3")
    output, said = fit(recipe, tmp_path / "wide", *options)
    content = read(output / "last.pth")
    assert content["network"]["image_width"] == 128
    assert content["model"].keys() == read(narrow)["model"].keys()
    count = len(content["charset"])
    assert f"{count} of {count} characters keep their weights" in said
    assert f"keeps {count} characters of its vocabulary" in said
