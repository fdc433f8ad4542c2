"""The keys of a recipe with their defaults and meanings, and a recipe written out with all of them.

The meaning of a key is the comment beside its field in ``recipe.py``, so that it is stated once.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import tokenize
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from htr_engines.errors import DataError
from htr_engines.files import write_text
from htr_training import recipe
from htr_training.recipe import Recipe
from htr_training.recipe_file import read_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
# In the wheel the recipes are in the package, in a checkout beside it.
RECIPES = HERE / "recipes" if (HERE / "recipes").is_dir() else HERE.parent / "recipes"


@dataclass(frozen=True)
class RecipeKey:
    """One setting."""

    table: str  # empty at the top; ``data.sets`` is a list of tables
    name: str
    default: Any  # MISSING where there is none
    meaning: str  # with its unit
    choices: tuple[str, ...]  # empty where any value of the type of the default is allowed

    @property
    def description(self) -> str:
        """The meaning, and the values to choose from."""
        choices = f"one of {', '.join(self.choices)}" if self.choices else ""
        return "; ".join(part for part in (self.meaning, choices) if part)


def recipe_names() -> list[str]:
    """Return the names of the recipes that are shipped."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_keys(kind: type = Recipe, table: str = "") -> Iterator[RecipeKey]:
    """Yield every key in the order of the fields, those of a table together."""
    meanings, types = _comments()[kind.__name__], get_type_hints(kind)
    for field in fields(kind):
        inner = _inner_table(types[field.name])
        if inner is not None:
            yield from recipe_keys(inner, f"{table}.{field.name}".lstrip("."))
            continue
        choices = get_args(types[field.name]) if get_origin(types[field.name]) is Literal else ()
        yield RecipeKey(table, field.name, field.default, meanings.get(field.name, ""), choices)


def write_recipe(name: str, output: Path) -> None:
    """Write a shipped recipe with every other key as a comment, so that nothing has to be looked up.

    Raises:
        DataError: if the file exists already.
    """
    if output.exists():
        raise DataError(f"{output} exists already; give another name with -o")
    write_text(output, annotate(RECIPES / f"{name}.toml"))


def annotate(path: Path) -> str:
    """Return a recipe with every key and its meaning; keys that have their default are commented out."""
    settings = read_recipe(path).to_dict()
    head = path.read_text(encoding="utf-8").partition("[")[0].splitlines()
    rows = [row for row in head if row.startswith("#")]
    for table, keys in _by_table():
        found: Any = settings
        for part in filter(None, table.split(".")):
            found = found[part]
        if isinstance(found, dict):
            rows += ["", *([f"[{table}]"] if table else []), *(_row(key, found[key.name]) for key in keys)]
        for values in found if isinstance(found, list) else ():
            rows += ["", f"[[{table}]]", *(_row(key, values[key.name]) for key in keys)]
        if not found:
            rows += ["", f"# [[{table}]]", *(_row(key, key.default) for key in keys)]
    return "\n".join(rows) + "\n"


def markdown() -> str:
    """Return the keys as tables in Markdown."""
    rows = []
    for table, keys in _by_table():
        rows += ["", f"### {f'`[{table}]`' if table else 'At the top'}", ""]
        rows += ["| key | default | meaning |", "|---|---|---|"]
        for key in keys:
            default = "required" if key.default is MISSING else f"`{_toml(key.default)}`"
            rows.append(f"| `{key.name}` | {default} | {key.description} |")
    return "\n".join(rows[1:]) + "\n"


def _by_table() -> list[tuple[str, list[RecipeKey]]]:
    return [(table, list(keys)) for table, keys in groupby(recipe_keys(), lambda key: key.table)]


def _row(key: RecipeKey, value: Any) -> str:  # noqa: ANN401
    if value is MISSING:
        return f'# {key.name} = ""  # {key.description}'
    default = _toml(key.default) if key.default is not MISSING else None
    return f"{'# ' if _toml(value) == default else ''}{key.name} = {_toml(value)}  # {key.description}"


def _toml(value: Any) -> str:  # noqa: ANN401
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _inner_table(kind: Any) -> type | None:  # noqa: ANN401
    """Return the dataclass behind a field that is a table or a list of tables."""
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def _comments() -> Mapping[str, Mapping[str, str]]:
    """Return the comment beside each field, by class."""
    source = inspect.getsource(recipe)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_row = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {
        node.name: {
            item.target.id: by_row.get(item.end_lineno or 0, "")
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }
