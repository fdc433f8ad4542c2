"""Writes the table of all recipe keys into training/README.md: python training/recipe_table.py."""

from __future__ import annotations

from pathlib import Path

from htr_training.recipe_keys import markdown

README = Path(__file__).with_name("README.md")
START, END = "<!-- recipe keys: python training/recipe_table.py -->\n", "<!-- end of recipe keys -->\n"


def updated(text: str) -> str:
    """Return the README with the keys as ``recipe.py`` states them."""
    before, rest = text.split(START)
    return f"{before}{START}\n{markdown()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
