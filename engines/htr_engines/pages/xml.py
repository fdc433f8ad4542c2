"""Read pages of lines from PAGE XML (2013 to 2019) and ALTO (2 to 4), as tolerantly as their writers need."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.parsers import expat

import numpy as np

from htr_engines.errors import DataError
from htr_engines.lines import collapse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MAX_BYTES = 32 << 20  # of one XML file; a full page of polygons has one or two
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")


@dataclass(frozen=True, eq=False)
class PageLine:
    """One line as its page describes it, in the page's own units."""

    name: str  # the id, or its number
    text: str  # composed (NFC), white space collapsed; empty if there is none
    polygon: NDArray[np.float64]  # [P,2], x and y of each corner; [0,2] if there is none
    baseline: NDArray[np.float64]  # [P,2], likewise


@dataclass(frozen=True, eq=False)
class Page:
    """One page and its lines."""

    form: str  # "PAGE" or "ALTO"
    image: str  # name of the image file, without folders; empty if not given
    width: float  # of the page in its own units; 0 if not given
    height: float
    unit: str  # "pixel", or what ALTO says
    lines: tuple[PageLine, ...]


def read_pages(path: Path) -> list[Page]:
    """Read the pages of a PAGE or ALTO file.

    Raises:
        DataError: if it is neither, is damaged, too large, or has a document type, which no export has and
            hostile files use to fill the memory.
    """
    root = parse_xml(path)
    kind = _local(root)
    if kind == "PcGts":
        return [_read_page(page) for page in root.iterfind("{*}Page")]
    if kind == "alto":
        return _read_alto(root)
    raise DataError(f"{path} is neither PAGE nor ALTO: its root element is <{kind}>")


def parse_xml(path: Path) -> ET.Element:
    """Parse an XML file without following anything that it declares; errors as in :func:`read_pages`."""
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES >> 20} MB, too much for a page; leave it out")
    content = path.read_bytes()

    def refuse(*_: object) -> None:
        raise DataError(f"{path} declares a document type, which no PAGE or ALTO needs; remove its <!DOCTYPE ...>")

    scanner = expat.ParserCreate()
    scanner.StartDoctypeDeclHandler = refuse
    try:
        scanner.Parse(content, True)
        return ET.fromstring(content)  # noqa: S314 - without a document type there is no entity to expand
    except (expat.ExpatError, ET.ParseError, LookupError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged XML ({error}); export it again or leave it out") from None


def parse_points(text: str | None) -> NDArray[np.float64]:
    """Read ``x,y x,y``, ``x y x y`` and anything between as [P,2]; a last number on its own is dropped."""
    numbers = [float(number) for number in NUMBER.findall(text or "")]
    points_P2 = np.array(numbers[: len(numbers) // 2 * 2], np.float64).reshape(-1, 2)
    return points_P2[np.isfinite(points_P2).all(axis=1)]


def _read_page(page: ET.Element) -> Page:
    lines = []
    for number, line in enumerate(page.iterfind(".//{*}TextLine"), 1):
        coords, baseline = line.find("{*}Coords"), line.find("{*}Baseline")
        lines.append(
            PageLine(
                name=line.get("id") or str(number),
                text=_clean(_page_text(line) or " ".join(map(_page_text, line.iterfind("{*}Word")))),
                polygon=parse_points(None if coords is None else coords.get("points")),
                baseline=parse_points(None if baseline is None else baseline.get("points")),
            )
        )
    return Page(
        form="PAGE",
        image=_file_name(page.get("imageFilename")),
        width=_number(page, "imageWidth"),
        height=_number(page, "imageHeight"),
        unit="pixel",
        lines=tuple(lines),
    )


def _page_text(element: ET.Element) -> str:
    """Return an element's own text: of several readings, the one with the lowest index."""
    readings = sorted(element.iterfind("{*}TextEquiv"), key=lambda reading: _number(reading, "index"))
    return next((text for text in (reading.findtext("{*}Unicode") for reading in readings) if text), "")


def _read_alto(root: ET.Element) -> list[Page]:
    unit = (root.findtext("{*}Description/{*}MeasurementUnit") or "pixel").strip()
    image = _file_name(root.findtext("{*}Description/{*}sourceImageInformation/{*}fileName"))
    return [
        Page(
            form="ALTO",
            image=image,
            width=_number(page, "WIDTH"),
            height=_number(page, "HEIGHT"),
            unit=unit,
            lines=tuple(_alto_line(line, number) for number, line in enumerate(page.iterfind(".//{*}TextLine"), 1)),
        )
        for page in root.iterfind("{*}Layout/{*}Page")
    ]


def _alto_line(line: ET.Element, number: int) -> PageLine:
    left, top = _number(line, "HPOS"), _number(line, "VPOS")
    right, bottom = left + _number(line, "WIDTH"), top + _number(line, "HEIGHT")
    polygon = line.find("{*}Shape/{*}Polygon")
    polygon_P2 = parse_points(None if polygon is None else polygon.get("POINTS"))
    if len(polygon_P2) < 3 and right > left and bottom > top:  # noqa: PLR2004
        polygon_P2 = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    numbers = NUMBER.findall(line.get("BASELINE") or "")
    baseline_B2 = parse_points(line.get("BASELINE"))
    if len(numbers) == 1:  # before version 4 it is the height of a level baseline
        baseline_B2 = np.array([(left, float(numbers[0])), (right, float(numbers[0]))], np.float64)
    return PageLine(line.get("ID") or str(number), _clean(_alto_text(line)), polygon_P2, baseline_B2)


def _alto_text(line: ET.Element) -> str:
    """Join a line's words; writers that leave out the blanks between them have none at all."""
    parts = [(_local(part), part.get("CONTENT") or "") for part in line]
    blank = "" if any(kind == "SP" for kind, _ in parts) else " "
    text = ""
    for kind, content in parts:
        if kind == "SP":
            text += " "
        elif kind == "String":
            text += (blank if text else "") + content
        elif kind == "HYP" and not text.endswith(content):  # some write the hyphen in both
            text += content
    return text


def _clean(text: str) -> str:
    return collapse(unicodedata.normalize("NFC", text))


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _number(element: ET.Element, name: str) -> float:
    found = NUMBER.search(element.get(name) or "")
    value = float(found[0]) if found else 0.0
    return value if np.isfinite(value) else 0.0


def _file_name(text: str | None) -> str:
    """Return a path's last part, whichever system wrote it: its folders are those of another machine."""
    return PurePosixPath((text or "").strip().replace("\\", "/")).name
