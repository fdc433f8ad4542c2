"""PAGE and ALTO files, whichever of the two they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.errors import DataError
from htr_engines.pages.alto import read_alto, write_alto
from htr_engines.pages.markup import Page, Stamp, WrittenLine, local_name, parse_xml, to_bytes
from htr_engines.pages.page import read_page_xml, write_page_xml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lxml import etree


def read_pages(path: Path) -> list[Page]:
    """Read the pages of a PAGE or ALTO file.

    Raises:
        DataError: if it is neither, is damaged or too large.
    """
    root = parse_xml(path).getroot()
    return read_page_xml(root) if _form(root, path) == "PAGE" else read_alto(root)


def write_pages(
    path: Path, lines: Mapping[int, WrittenLine], stamp: Stamp, *, words: bool = False, keep: bool = False
) -> bytes:
    """Return a PAGE or ALTO file with readings in place of the text of its lines, everything else as it was.

    Args:
        path: the document; it stays as it is.
        lines: the readings, by the number of their line among all of the document, from 0.
        stamp: what the metadata says of the reading.
        words: write words with outlines into PAGE too; ALTO always has words.
        keep: leave the text that was there as a further alternative.

    Raises:
        DataError: as in :func:`read_pages`.
    """
    tree = parse_xml(path)
    root = tree.getroot()
    if _form(root, path) == "PAGE":
        write_page_xml(root, lines, stamp, words=words, keep=keep)
    else:
        write_alto(root, lines, stamp, keep=keep)
    return to_bytes(tree)


def _form(root: etree._Element, path: Path) -> str:
    kind = local_name(root)
    if kind not in {"PcGts", "alto"}:
        raise DataError(f"{path} is neither PAGE nor ALTO: its root element is <{kind}>")
    return "PAGE" if kind == "PcGts" else "ALTO"
