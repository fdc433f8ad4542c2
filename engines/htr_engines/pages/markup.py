"""XML as PAGE and ALTO use it: parsed without following anything that it declares, and written back whole."""

from __future__ import annotations

import contextlib
import functools
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.parsers import expat

import numpy as np
from lxml import etree

from htr_engines.errors import DataError, FileError, one_line
from htr_engines.files import read_file
from htr_engines.text import collapse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_BYTES = 32 << 20  # of one XML file; a full page of polygons has one or two
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, eq=False)
class PageLine:
    """One line as its page describes it, in the page's own units."""

    name: str  # the id, or its number
    text: str  # composed (NFC), white space collapsed; empty if there is none
    polygon: NDArray[np.float64]  # [P,2], x and y of each corner; [0,2] if there is none
    baseline: NDArray[np.float64]  # [P,2], likewise


@dataclass(frozen=True, eq=False)
class Page:
    """One page and its lines, in the order of the document."""

    form: str  # "PAGE" or "ALTO"
    image: str  # name of the image file, without folders; empty if not given
    width: float  # of the page in its own units; 0 if not given
    height: float
    unit: str  # "pixel", or what ALTO says
    lines: tuple[PageLine, ...]
    order: tuple[int, ...]  # indices of the lines in reading order


@dataclass(frozen=True, eq=False)
class WrittenSpan:
    """A line or a word to write into a document."""

    text: str
    confidence: float  # 0 to 1
    polygon: NDArray[np.float64]  # [P,2] in the page's own units; [0,2] leaves the document's outline


@dataclass(frozen=True, eq=False)
class WrittenLine(WrittenSpan):
    """A line to write, with its words."""

    words: tuple[WrittenSpan, ...]


@dataclass(frozen=True)
class Stamp:
    """What a written document says of its making."""

    software: str
    version: str
    model: str  # the bundle's name and fingerprint
    time: str  # ISO 8601 with a time zone


def parse_xml(path: Path) -> etree._ElementTree:
    """Parse an XML file; entities, document types and the network are off.

    Raises:
        DataError: if it is damaged, too large, or has a document type, which no export has and hostile files use to
            fill the memory.
    """
    try:
        content = read_file(path, MAX_BYTES)
    except FileError as error:
        raise DataError(str(error)) from None
    if _has_document_type(content):
        raise DataError(f"{path} declares a document type, which no PAGE or ALTO needs; remove its <!DOCTYPE ...>")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=False
    )
    try:
        return etree.ElementTree(etree.fromstring(content, parser))
    except (etree.XMLSyntaxError, ValueError) as error:
        raise DataError(f"{path} is damaged XML ({one_line(error)}); export it again or leave it out") from None


def _has_document_type(content: bytes) -> bool:
    """Tell whether a document type is declared, without expanding anything that it holds."""
    found: list[bool] = []
    scanner = expat.ParserCreate()

    def stop(declared: bool, *_: object) -> None:
        found.append(declared)
        raise StopIteration

    scanner.StartDoctypeDeclHandler = functools.partial(stop, True)
    scanner.StartElementHandler = functools.partial(stop, False)
    with contextlib.suppress(expat.ExpatError, LookupError, ValueError, StopIteration):
        scanner.Parse(content, True)
    return any(found)


def to_bytes(tree: etree._ElementTree) -> bytes:
    """Return a document as UTF-8 with an XML declaration, comments and all."""
    standalone = ' standalone="yes"' if tree.docinfo.standalone else ""
    content: bytes = etree.tostring(tree, encoding="UTF-8", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"{standalone}?>\n'.encode() + content + b"\n"


def parse_points(text: str | None) -> NDArray[np.float64]:
    """Read ``x,y x,y``, ``x y x y`` and anything between as [P,2]; a last number on its own is dropped."""
    numbers = [float(number) for number in NUMBER.findall(text or "")]
    points_P2 = np.array(numbers[: len(numbers) // 2 * 2], np.float64).reshape(-1, 2)
    return points_P2[np.isfinite(points_P2).all(axis=1)]


def bounding_box(points_P2: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return left, top, width and height in whole units."""
    left, top = np.floor(points_P2.min(axis=0)).astype(int)
    right, bottom = np.ceil(points_P2.max(axis=0)).astype(int)
    return int(left), int(top), int(right - left), int(bottom - top)


def clean(text: str) -> str:
    """Compose a transcript (NFC) and collapse its white space."""
    return collapse(unicodedata.normalize("NFC", text))


def xml_text(text: str) -> str:
    """Replace what XML 1.0 cannot hold by U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace; of a comment or an instruction, an empty text."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def sibling(element: etree._Element, tag: str, /, **attributes: str) -> etree._Element:
    """Make an element in the namespace of another one."""
    return element.makeelement(etree.QName(etree.QName(element).namespace, tag).text, attributes)


def insert(parent: etree._Element, index: int, elements: list[etree._Element]) -> None:
    """Insert elements, indented as the parent's children are."""
    for place, element in enumerate(elements, index):
        previous = parent[place - 1] if place else None
        before = parent.text if previous is None else previous.tail
        element.tail = "" if (before or "").strip() else before
        if place == len(parent) and previous is not None and not (previous.tail or "").strip():
            previous.tail = parent.text  # what followed the last child now follows the new one
        parent.insert(place, element)


def remove(element: etree._Element) -> None:
    """Remove an element with the white space behind it; other text behind it stays."""
    parent = element.getparent()
    assert parent is not None
    previous = element.getprevious()
    tail = element.tail or ""
    if element.getnext() is None or tail.strip():  # the last one: the closing tag keeps its indentation
        if previous is not None:
            previous.tail = tail if not (previous.tail or "").strip() else (previous.tail or "") + tail
        else:
            parent.text = tail if not (parent.text or "").strip() else (parent.text or "") + tail
    parent.remove(element)


def number(element: etree._Element, name: str) -> float:
    """Return an attribute as a finite number, 0 where it is none."""
    found = NUMBER.search(element.get(name) or "")
    value = float(found[0]) if found else 0.0
    return value if np.isfinite(value) else 0.0


def file_name(text: str | None) -> str:
    """Return a path's last part, whichever system wrote it: its folders are those of another machine."""
    return PurePosixPath((text or "").strip().replace("\\", "/")).name
