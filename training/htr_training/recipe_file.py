"""Reading a recipe from TOML, and what in it cannot work."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from htr_engines.documents import load_toml, parse_toml
from htr_training.errors import RecipeError
from htr_training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from htr_training.recipe import SetRecipe

T = TypeVar("T")


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe from TOML; each change, ``table.key=value``, overrides the file.

    Raises:
        RecipeError: if a key is unknown, a value has the wrong type or is out of range.
    """
    tables = load_toml(path, dict[str, Any], "see training/README.md for the keys", RecipeError)
    for change in changes:
        _apply(tables, change)
    recipe = _build(Recipe, tables, "")
    _check(recipe)
    return recipe


def _apply(tables: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change} should have the form table.key=value")
    *tables_on_the_way, last = key.strip().split(".")
    table = tables
    for name in tables_on_the_way:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {change}: {name} is a value, not a table")
    try:
        table[last] = parse_toml(f"value = {value}", dict[str, Any], change, "", RecipeError)["value"]
    except RecipeError:
        table[last] = value  # a string without its quotation marks


def _build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``kind`` from a TOML table."""
    types = get_type_hints(kind)
    for key in table:
        if key not in types:
            near = difflib.get_close_matches(key, types, 1, 0.0)
            raise RecipeError(f"the recipe's key {where}{key} is unknown; did you mean {where}{near[0]}?")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING and item.name not in table:
            raise RecipeError(f"the recipe's {where}{item.name} is missing")
    return kind(**{key: _convert(types[key], value, f"{where}{key}") for key, value in table.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RecipeError(f"the recipe's {name} should be a table, not {value!r}")
        return _build(kind, value, f"{name}.")
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"the recipe's {name} should be a list, not {value!r}")
        return tuple(_convert(get_args(kind)[0], item, f"{name}[{number}]") for number, item in enumerate(value))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RecipeError(f"the recipe's {name} should be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if type(value) is not kind:
        raise RecipeError(f"the recipe's {name} should be of type {kind.__name__}, not {value!r}")
    return value


MAX_SEED = 2**31
AT_LEAST_ONE = {
    "optimizer": ("batch", "accumulate"),
    "schedule": ("iterations",),
    "loss": ("tcm_width", "tcm_context"),
    "run": ("validate_every", "save_every", "log_every", "validation_batch"),
    "augment": ("kernel",),
}
FRACTIONS = {
    "network": ("dropout", "drop_path"),
    "augment": ("probability", "scale", "brightness", "contrast", "noise"),
    "optimizer": ("beta1", "beta2"),
    "loss": ("tcm_dropout",),
    "ema": ("decay",),
}


def _check(recipe: Recipe) -> None:
    """Raise :class:`RecipeError` for numbers that cannot work."""
    recipe.network.sizes()
    _check_ranges(recipe)
    _check_sets(recipe.data.sets)
    if recipe.data.width == "content" and not recipe.data.cache:
        raise RecipeError("the recipe's data.width = content needs data.cache = true, to know every line's width")
    if recipe.seed >= MAX_SEED:
        raise RecipeError(f"the recipe's seed should be below {MAX_SEED}")
    if recipe.optimizer.batch % recipe.optimizer.accumulate:
        raise RecipeError("the recipe's optimizer.batch should be a multiple of optimizer.accumulate")
    if recipe.schedule.warm_up >= recipe.schedule.iterations:
        raise RecipeError("the recipe's schedule.warm_up should be less than schedule.iterations")
    if not recipe.loss.ctc_weight:
        raise RecipeError("the recipe's loss.ctc_weight should be above 0, or the network learns no reading")


def _check_sets(sets: Sequence[SetRecipe]) -> None:
    names = [part.name for part in sets]
    if len(set(names)) < len(names):
        raise RecipeError("the recipe's data.sets holds two sets of the same name; give their folders different names")
    if any(part.weight < 0 for part in sets):
        raise RecipeError("the recipe's data.sets holds a negative weight")
    if sets and not (any(part.weight for part in sets) and any(part.val for part in sets)):
        raise RecipeError("the recipe's data.sets needs a set with a weight and a set with a val list")


def _check_ranges(recipe: Recipe) -> None:
    for table, part in vars(recipe).items():
        for key, value in vars(part).items() if is_dataclass(part) else [("", part)]:
            name = f"{table}.{key}".rstrip(".")
            if not isinstance(value, int | float):
                continue
            if value < 0:
                raise RecipeError(f"the recipe's {name} should not be negative")
            if key in AT_LEAST_ONE.get(table, ()) and value < 1:
                raise RecipeError(f"the recipe's {name} should be at least 1")
            if key in FRACTIONS.get(table, ()) and value >= 1:
                raise RecipeError(f"the recipe's {name} should be below 1")
