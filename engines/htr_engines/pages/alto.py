"""ALTO (2 to 4): its lines, and their text written back.

Format: https://www.loc.gov/standards/alto/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htr_engines.pages.markup import (
    NUMBER,
    Page,
    PageLine,
    Stamp,
    WrittenLine,
    bounding_box,
    clean,
    file_name,
    insert,
    local_name,
    number,
    parse_points,
    remove,
    sibling,
    xml_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml import etree
    from numpy.typing import NDArray

_TEXT = {"String", "SP", "HYP"}
_STEP = "htr-read"  # the id of the processing step


def read_alto(root: etree._Element) -> list[Page]:
    """Read the pages of an ALTO document."""
    unit = (root.findtext("{*}Description/{*}MeasurementUnit") or "pixel").strip()
    image = file_name(root.findtext("{*}Description/{*}sourceImageInformation/{*}fileName"))
    return [_read_page(page, image, unit) for page in root.iterfind("{*}Layout/{*}Page")]


def _read_page(page: etree._Element, image: str, unit: str) -> Page:
    lines = tuple(_read_line(line, index) for index, line in enumerate(page.iterfind(".//{*}TextLine"), 1))
    return Page(
        form="ALTO",
        image=image,
        width=number(page, "WIDTH"),
        height=number(page, "HEIGHT"),
        unit=unit,
        lines=lines,
        order=tuple(range(len(lines))),
    )


def _read_line(line: etree._Element, index: int) -> PageLine:
    left, top = number(line, "HPOS"), number(line, "VPOS")
    right, bottom = left + number(line, "WIDTH"), top + number(line, "HEIGHT")
    polygon = line.find("{*}Shape/{*}Polygon")
    polygon_P2 = parse_points(None if polygon is None else polygon.get("POINTS"))
    if len(polygon_P2) < 3 and right > left and bottom > top:  # noqa: PLR2004
        polygon_P2 = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    numbers = NUMBER.findall(line.get("BASELINE") or "")
    baseline_B2 = parse_points(line.get("BASELINE"))
    if len(numbers) == 1:  # before version 4 it is the height of a level baseline
        baseline_B2 = np.array([(left, float(numbers[0])), (right, float(numbers[0]))], np.float64)
    return PageLine(line.get("ID") or str(index), clean(_text(line)), polygon_P2, baseline_B2)


def _text(line: etree._Element) -> str:
    """Join a line's words; writers that leave out the blanks between them have none at all."""
    parts = [(local_name(part), part.get("CONTENT") or "") for part in line]
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


def write_alto(root: etree._Element, lines: Mapping[int, WrittenLine], stamp: Stamp, *, keep: bool) -> None:
    """Put readings into an ALTO document: a ``String`` a word, with ``SP`` between.

    The arguments are those of :func:`htr_engines.pages.document.write_pages`; text that is kept becomes an
    ``ALTERNATIVE`` of the line's first ``String``.
    """
    names = {name for name in root.xpath("//@ID") if isinstance(name, str)}
    pages = root.iterfind("{*}Layout/{*}Page")
    elements = [line for page in pages for line in page.iterfind(".//{*}TextLine")]
    for index, written in lines.items():
        _write_line(elements[index], written, names, keep=keep)
    _stamp(root, stamp)


def _write_line(line: etree._Element, written: WrittenLine, names: set[str], *, keep: bool) -> None:
    former = _text(line)
    style = next((part.get("STYLEREFS") for part in line.iterfind("{*}String") if part.get("STYLEREFS")), None)
    for part in [part for part in line if local_name(part) in _TEXT]:
        names.discard(part.get("ID") or "")
        remove(part)
    made: list[etree._Element] = []
    outlines = [_box(word.polygon, line) for word in written.words]
    for index, (word, box) in enumerate(zip(written.words, outlines, strict=True), 1):
        if made:
            made.append(_space(line, outlines[index - 2], box))
        string = sibling(line, "String", ID=_name(line, index, names), CONTENT=xml_text(word.text), **_places(box))
        string.set("WC", f"{word.confidence:.4f}")
        if style:
            string.set("STYLEREFS", style)
        made.append(string)
    if not made:  # the schema wants a String in every line
        made = [sibling(line, "String", ID=_name(line, 1, names), CONTENT="", **_places(_box(np.empty((0, 2)), line)))]
        made[0].set("WC", f"{written.confidence:.4f}")
    if keep and former:
        alternative = sibling(line, "ALTERNATIVE", PURPOSE="text before htr-read")
        alternative.text = former
        made[0].append(alternative)
    shape = line.find("{*}Shape")
    insert(line, 0 if shape is None else line.index(shape) + 1, made)


def _name(line: etree._Element, index: int, names: set[str]) -> str:
    name = f"{line.get('ID') or 'line'}_s{index}"
    while name in names:
        name += "_"
    names.add(name)
    return name


def _box(polygon_P2: NDArray[np.float64], line: etree._Element) -> tuple[int, int, int, int]:
    """Return a word's box; where it has no outline, the line's."""
    if len(polygon_P2):
        return bounding_box(np.maximum(polygon_P2, 0))
    left, top, width, height = (round(number(line, name)) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return left, top, width, height


def _places(box: tuple[int, int, int, int]) -> dict[str, str]:
    return dict(zip(("HPOS", "VPOS", "WIDTH", "HEIGHT"), map(str, box), strict=True))


def _space(line: etree._Element, left: tuple[int, int, int, int], right: tuple[int, int, int, int]) -> etree._Element:
    """Return the blank between two words."""
    end = left[0] + left[2]
    return sibling(line, "SP", HPOS=str(end), VPOS=str(right[1]), WIDTH=str(max(0, right[0] - end)))


def _stamp(root: etree._Element, stamp: Stamp) -> None:
    """Set the processing step, in the form of the document's version."""
    description = root.find("{*}Description")
    if description is None:
        description = sibling(root, "Description")
        insert(root, 0, [description])
    for step in [step for step in description if local_name(step) in {"Processing", "OCRProcessing"}]:
        if step.get("ID") == _STEP:
            remove(step)
    modern = "ns-v4" in root.tag
    step = sibling(root, "Processing" if modern else "OCRProcessing", ID=_STEP)
    inner = step if modern else sibling(root, "ocrProcessingStep")
    if not modern:
        step.append(inner)
    software = sibling(root, "processingSoftware")
    for name, text in (("softwareName", stamp.software), ("softwareVersion", stamp.version)):
        software.append(_leaf(root, name, text))
    inner.append(_leaf(root, "processingDateTime", stamp.time))
    inner.append(_leaf(root, "processingStepDescription", "handwritten text recognition"))
    inner.append(_leaf(root, "processingStepSettings", stamp.model))
    inner.append(software)
    insert(description, len(description), [step])


def _leaf(root: etree._Element, name: str, text: str) -> etree._Element:
    element = sibling(root, name)
    element.text = xml_text(text)
    return element
