"""Texts as the published training reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ENCODINGS = ("utf-8-sig", "cp1258", "cp1252", "latin-1")


def read_text(path: Path) -> str:
    """Decode a text file as the published training does: UTF-8, else cp1258, else cp1252."""
    content = path.read_bytes()
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any bytes")


def collapse(text: str) -> str:
    """Collapse white space to single blanks and strip the ends."""
    return " ".join(text.split())
