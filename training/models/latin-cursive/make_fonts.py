"""Takes the handwriting fonts out of npm packages: the Latin part of each as TTF, and a table of their licences.

    python training/models/latin-cursive/make_fonts.py node_modules/@fontsource -o data/fonts --table fonts.tsv

Left out are fonts whose small letters are drawn as capitals (the network would learn wrong texts from them), fonts that
lack a plain letter or a digit, and licences other than OFL and Apache.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import click
from fontTools.pens.boundsPen import BoundsPen
from fontTools.ttLib import TTFont

NEEDED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-"
DESCENDING = "gjpqy"
SMALL, CAPITAL = "acemnorsuvxz", "ACEMNORSUVXZ"
CAPITAL_LIKE = 0.93  # of a capital's height, at which small letters are capitals
DESCENT = 0.08  # of a capital's height, by which g or p go below the line at least
LICENCES = {"Open Font License": "OFL-1.1", "Apache License": "Apache-2.0"}


def licence_of(package: Path) -> str | None:
    """Return the SPDX name of a package's licence, None for one that is not known here."""
    file = package / "LICENSE"
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    return next((name for words, name in LICENCES.items() if words.lower() in text.lower()), None)


def extent(font: TTFont, letters: str) -> tuple[float, float]:
    """Return the median lower and upper edge of letters, in the font's units."""
    glyphs, names = font.getGlyphSet(), font.getBestCmap()
    bounds = []
    for letter in letters:
        pen = BoundsPen(glyphs)
        glyphs[names[ord(letter)]].draw(pen)
        bounds.append(pen.bounds or (0, 0, 0, 0))
    return median(low for _, low, _, _ in bounds), median(high for *_, high in bounds)


def problem_of(font: TTFont) -> str | None:
    """Say why a font cannot be used."""
    if missing := [letter for letter in NEEDED if ord(letter) not in font.getBestCmap()]:
        return f"lacks {''.join(missing)}"
    capital = max(1, extent(font, CAPITAL)[1])
    if extent(font, SMALL)[1] > CAPITAL_LIKE * capital or extent(font, DESCENDING)[0] > -DESCENT * capital:
        return "small letters are drawn as capitals"
    return None


@click.command()
@click.argument("packages", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the fonts.")
@click.option("--table", type=click.Path(path_type=Path), required=True, help="Table to write.")
def main(packages: Path, output: Path, table: Path) -> None:
    """Convert the fonts of PACKAGES and list them."""
    output.mkdir(parents=True, exist_ok=True)
    rows = ["package\tversion\tlicence\n"]
    for package in sorted(packages.iterdir()):
        files = sorted(package.glob(f"files/{package.name}-latin-*-normal.woff"))
        regular = next((file for file in files if "-400-" in file.name), files[0] if files else None)
        licence = licence_of(package)
        if regular is None or licence is None:
            click.echo(f"{package.name}: {'no Latin part' if regular is None else 'unknown licence'}", err=True)
            continue
        font = TTFont(regular)
        if problem := problem_of(font):
            click.echo(f"{package.name}: {problem}", err=True)
            continue
        font.flavor = None
        font.save(output / f"{package.name}.ttf")
        version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
        rows.append(f"@fontsource/{package.name}\t{version}\t{licence}\n")
    table.write_text("".join(rows), encoding="utf-8")
    click.echo(f"{len(rows) - 1} fonts")


if __name__ == "__main__":
    main()
