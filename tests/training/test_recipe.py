from __future__ import annotations

import re
from pathlib import Path

import pytest

from htr_engines.charset import PRESETS
from htr_training.errors import RecipeError
from htr_training.recipe import Recipe, SetRecipe
from htr_training.recipe_file import read_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
PUBLISHED = ("iam", "read2016", "lam", "vnondb")


def write(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    recipe = read_recipe(path)
    assert recipe.data.root.name == path.stem


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_the_published_settings(name):
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe.data.charset == name
    assert name in PRESETS
    default = Recipe()
    parts = ("network", "augment", "optimizer", "schedule", "loss", "ema")
    assert all(getattr(recipe, part) == getattr(default, part) for part in parts)
    assert default.network.sizes() == {
        "embed_dim": 512,
        "depth": 8,
        "num_heads": 8,
        "mobilevit_head_dim": 64,
        "image_width": 512,
    }
    assert (default.loss.ctc_weight, default.loss.tcm_weight, default.loss.tcm_width) == (0.1, 1.0, 256)
    assert (default.optimizer.sam_rho, default.optimizer.weight_decay, default.optimizer.beta2) == (0.05, 0.05, 0.99)
    assert not default.schedule.monotone_cosine


def test_empty_recipe_is_the_default(tmp_path):
    assert read_recipe(write(tmp_path, "")) == Recipe()


def test_changes_override_the_file(tmp_path):
    path = write(tmp_path, "[schedule]\niterations = 5000\n")
    changes = ["schedule.warm_up=10", "run.precision=bf16", "data.root=/data/a b", "run.compile=true", "seed=7"]
    recipe = read_recipe(path, changes)
    assert (recipe.schedule.iterations, recipe.schedule.warm_up, recipe.seed) == (5000, 10, 7)
    assert (recipe.run.precision, recipe.data.root, recipe.run.compile) == ("bf16", Path("/data/a b"), True)


def test_whole_numbers_are_rates_too(tmp_path):
    assert read_recipe(write(tmp_path, "[loss]\nctc_weight = 1\n")).loss.ctc_weight == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optimiser]\nbatch = 3", "optimiser is unknown; did you mean optimizer?"),
        ("[schedule]\nwarmup = 3", "schedule.warmup is unknown; did you mean schedule.warm_up?"),
        ("schedule = 3", "schedule should be a table"),
        ("[optimizer]\nbatch = 1.5", "optimizer.batch should be of type int"),
        ("[optimizer]\nbatch = true", "optimizer.batch should be of type int"),
        ("[optimizer]\nbatch = 0", "optimizer.batch should be at least 1"),
        ("[optimizer]\nbatch = 10\naccumulate = 3", "multiple of optimizer.accumulate"),
        ("[network]\ndropout = 1.0", "network.dropout should be below 1"),
        ("[network]\npreset = 'huge'", "network.preset 'huge' is unknown; choose one of base, small, tiny"),
        ("[augment]\nwarp = -1", "augment.warp should not be negative"),
        ("[run]\nprecision = 'int8'", "run.precision should be one of fp32, bf16, fp16"),
        ("[schedule]\niterations = 10\nwarm_up = 10", "warm_up should be less than"),
        ("[loss]\nctc_weight = 0", "ctc_weight should be above 0"),
        ("seed = 3000000000", "seed should be below"),
        ("seed = ", "is not valid TOML"),
    ],
)
def test_mistakes_are_explained(tmp_path, text, said):
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        read_recipe(write(tmp_path, text))


@pytest.mark.parametrize("change", ["seed", "seed.deep=3", "loss.ctc_weigth=1"])
def test_mistaken_changes_are_explained(tmp_path, change):
    with pytest.raises(RecipeError):
        read_recipe(write(tmp_path, "seed = 1\n"), [change])


def test_several_sets(tmp_path):
    text = """
[data]
root = "data"
sets = [
    { root = "dhsd", val = "val.ln", weight = 2 },
    { root = "rendered", lines = "images", train = "some.ln" },
]
"""
    recipe = read_recipe(write(tmp_path, text))
    assert recipe.data.sets == (
        SetRecipe(Path("dhsd"), val="val.ln", weight=2.0),
        SetRecipe(Path("rendered"), Path("images"), "some.ln"),
    )
    assert recipe.to_dict()["data"]["sets"][1]["lines"] == "images"


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        ("[{ weight = 1 }]", "data.sets[0].root is missing"),
        ("[{ root = 'a/x', val = 'val.ln' }, { root = 'b/x' }]", "same name"),
        ("[{ root = 'a', val = 'val.ln', weight = -1 }]", "negative weight"),
        ("[{ root = 'a' }]", "a set with a val list"),
        ("{ root = 'a' }", "should be a list"),
        ("[{ rot = 'a' }]", "did you mean data.sets[0].root"),
    ],
)
def test_sets_that_cannot_work(tmp_path, sets, complaint):
    with pytest.raises(RecipeError, match=re.escape(complaint)):
        read_recipe(write(tmp_path, f"[data]\nsets = {sets}\n"))


def test_content_width_needs_the_cache(tmp_path):
    with pytest.raises(RecipeError, match=r"needs data\.cache = true"):
        read_recipe(write(tmp_path, "[data]\nwidth = 'content'\ncache = false\n"))
