"""Handwriting fonts: which are in a folder, and which characters each can draw."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import DataError, MissingExtraError, one_line
from htr_engines.files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SUFFIXES = frozenset({".ttf", ".otf"})


@dataclass(frozen=True)
class Font:
    """A font file and what it can draw."""

    path: Path
    characters: frozenset[str]

    def lacks(self, text: str) -> set[str]:
        """Return the characters of ``text`` that the font cannot draw."""
        return set(text) - self.characters


def find_fonts(folder: Path, wanted: Iterable[str]) -> tuple[Font, ...]:
    """Read the fonts of a folder and of the folders in it, and which of the ``wanted`` characters each draws.

    Returns:
        The fonts, ordered by their path inside the folder, so that a seed means the same on every machine.

    Raises:
        DataError: if there is none, or one is damaged.
        MissingExtraError: if fontTools is not installed.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"{folder} holds no font; put .ttf or .otf files of handwriting there")
    characters = frozenset(wanted)
    return tuple(Font(path, read_coverage(path, characters)) for path in paths)


def read_coverage(path: Path, wanted: Iterable[str]) -> frozenset[str]:
    """Return which characters a font draws. Those with an empty glyph do not count, except blanks.

    Raises:
        DataError: if the file is no font.
        MissingExtraError: if fontTools is not installed.
    """
    try:
        from fontTools.pens.boundsPen import ControlBoundsPen
        from fontTools.ttLib import TTFont
    except ImportError:
        raise MissingExtraError("fontTools", "train") from None
    try:
        with open_file(path) as stream, TTFont(stream, lazy=True) as font:
            glyphs, names = font.getGlyphSet(), font.getBestCmap() or {}
            covered = set()
            for character in wanted:
                if ord(character) not in names:
                    continue
                pen = ControlBoundsPen(glyphs)
                glyphs[names[ord(character)]].draw(pen)
                if pen.bounds is not None or unicodedata.category(character) == "Zs":
                    covered.add(character)
    except Exception as error:  # noqa: BLE001 - fontTools raises nearly anything on damaged files
        raise DataError(f"{path} is not a font that can be read ({one_line(error)}); leave it out") from None
    return frozenset(covered)


def missing_everywhere(text: str, fonts: Sequence[Font]) -> set[str]:
    """Return what the font that suits ``text`` best still lacks; nothing if one has all of it."""
    return min((font.lacks(text) for font in fonts), key=lambda lacking: (len(lacking), sorted(lacking)))
