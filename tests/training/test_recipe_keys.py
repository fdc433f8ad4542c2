"""Recipes with every key, for people to begin with, and the table of keys in the README."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from htr_training.cli import main
from htr_training.recipe_file import read_recipe
from htr_training.recipe_keys import RECIPES, annotate, recipe_keys, recipe_names

TRAINING = Path(__file__).parents[2] / "training"


@pytest.mark.parametrize("name", recipe_names())
def test_an_annotated_recipe_means_the_same_with_and_without_its_comments(tmp_path, name):
    shipped = read_recipe(RECIPES / f"{name}.toml")
    path = tmp_path / "annotated.toml"
    path.write_text(annotate(RECIPES / f"{name}.toml"), encoding="utf-8")
    assert read_recipe(path) == shipped
    plain = re.sub(r"^# \[\[.*?(?=^\[)", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    path.write_text(re.sub(r"^# (?=\w+ = )", "", plain, flags=re.MULTILINE), encoding="utf-8")
    assert read_recipe(path) == shipped


def test_an_annotated_recipe_names_and_explains_every_key():
    text = annotate(RECIPES / "iam.toml")
    assert [key.name for key in recipe_keys() if not key.meaning] == []
    assert [key.name for key in recipe_keys() if f"{key.name} = " not in text] == []


def test_init_writes_a_recipe_and_never_over_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["init", "iam"])
    assert result.exit_code == 0, result.output
    assert "next     htr-train fit iam.toml" in result.stdout
    assert read_recipe(tmp_path / "iam.toml") == read_recipe(RECIPES / "iam.toml")
    again = CliRunner().invoke(main, ["init", "iam"])
    assert again.exit_code == 1
    assert "iam.toml exists already" in again.stderr
    unknown = CliRunner().invoke(main, ["init", "none"])
    assert unknown.exit_code == 2
    assert "choose one of" in unknown.stderr


def test_the_readme_has_the_keys_as_they_are():
    specification = importlib.util.spec_from_file_location("recipe_table", TRAINING / "recipe_table.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text = (TRAINING / "README.md").read_text(encoding="utf-8")
    assert module.updated(text) == text, "run: python training/recipe_table.py"
