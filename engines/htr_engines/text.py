"""Texts from outside: read as the published training does, and made safe to show."""

from __future__ import annotations

import json
import re
import reprlib
from typing import TYPE_CHECKING

from htr_engines.files import read_file

if TYPE_CHECKING:
    from pathlib import Path

ENCODINGS = ("utf-8-sig", "cp1258", "cp1252", "latin-1")
MAX_BYTES = 64 << 20  # of a list or transcript

# Control characters and line breaks, halves of surrogate pairs (from file names that are not UTF-8) and overrides of
# the direction of writing: they break terminals, pages and lines, or make a text look like another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Short(reprlib.Repr):
    """Bounds depth, length and numbers, which Python refuses to write beyond some thousand digits."""

    def repr_int(self, x: int, level: int) -> str:
        """Return an integer, or how long it is."""
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"  # noqa: PLR2004


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def read_text(path: Path) -> str:
    """Decode a text file as the published training does: UTF-8, else cp1258, else cp1252.

    Raises:
        FileError: if it cannot be read, or is no regular file.
    """
    content = read_file(path, MAX_BYTES)
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any bytes")


def collapse(text: str) -> str:
    """Collapse white space to single blanks and strip the ends."""
    return " ".join(text.split())


def printable(text: str) -> str:
    r"""Return a text with what must not reach a terminal or a page written as ``\u001b``."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_json_text(document: object, indent: int | None = None) -> str:
    """Return JSON that any reader takes and any terminal shows, whatever names are in it.

    Halves of surrogate pairs, which JSON cannot hold, become the text of their escapes; NaN raises ``ValueError``.
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False)
    text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
    return "\n".join(map(printable, text.split("\n")))


def shown(value: object) -> str:
    """Return a value that came from outside as a message shows it: short, whatever it holds."""
    return printable(_SHORT.repr(value))
