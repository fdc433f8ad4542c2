"""PAGE XML (2013 to 2019): its lines, and their text written back.

Format: https://ocr-d.de/en/spec/page and the schemas of PRImA Research Lab.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.pages.markup import (
    Page,
    PageLine,
    Stamp,
    WrittenLine,
    WrittenSpan,
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
    from collections.abc import Iterator, Mapping

    from lxml import etree
    from numpy.typing import NDArray

_BEFORE_TEXT = {"AlternativeImage", "Coords", "Baseline", "Word"}  # the schema's order of children
_STEPS_SINCE = 2018  # earlier schemas have no MetadataItem


def read_page_xml(root: etree._Element) -> list[Page]:
    """Read the pages of a PAGE document."""
    return [_read_page(page) for page in root.iterfind("{*}Page")]


def _read_page(page: etree._Element) -> Page:
    elements = list(page.iterfind(".//{*}TextLine"))
    return Page(
        form="PAGE",
        image=file_name(page.get("imageFilename")),
        width=number(page, "imageWidth"),
        height=number(page, "imageHeight"),
        unit="pixel",
        lines=tuple(_read_line(line, index) for index, line in enumerate(elements, 1)),
        order=_reading_order(page, elements),
    )


def _read_line(line: etree._Element, index: int) -> PageLine:
    coords, baseline = line.find("{*}Coords"), line.find("{*}Baseline")
    return PageLine(
        name=line.get("id") or str(index),
        text=clean(_text(line) or " ".join(map(_text, line.iterfind("{*}Word")))),
        polygon=parse_points(None if coords is None else coords.get("points")),
        baseline=parse_points(None if baseline is None else baseline.get("points")),
    )


def _text(element: etree._Element) -> str:
    """Return an element's own text: of several readings, the one with the lowest index."""
    readings = sorted(element.iterfind("{*}TextEquiv"), key=lambda reading: number(reading, "index"))
    return next((text for text in (reading.findtext("{*}Unicode") for reading in readings) if text), "")


def _reading_order(page: etree._Element, lines: list[etree._Element]) -> tuple[int, ...]:
    """Order lines by their regions' place in ``ReadingOrder``; regions that it leaves out follow in document order."""
    order = page.find("{*}ReadingOrder")
    if order is None:
        return tuple(range(len(lines)))
    ranks = {name: rank for rank, name in reversed(list(enumerate(_region_names(order))))}

    def rank(index: int) -> tuple[int, int]:
        regions = (parent.get("id") for parent in lines[index].iterancestors())
        return next((ranks[name] for name in regions if name in ranks), len(ranks)), index

    return tuple(sorted(range(len(lines)), key=rank))


def _region_names(group: etree._Element) -> Iterator[str]:
    """Yield the regions of a group: children of an ordered one by their index, of others as they stand."""
    children = [child for child in group if local_name(child)]
    if local_name(group).startswith("Ordered"):
        children.sort(key=lambda child: number(child, "index"))
    for child in children:
        if reference := child.get("regionRef"):
            yield reference
        yield from _region_names(child)


def write_page_xml(
    root: etree._Element, lines: Mapping[int, WrittenLine], stamp: Stamp, *, words: bool, keep: bool
) -> None:
    """Put readings into a PAGE document; arguments as for :func:`htr_engines.pages.document.write_pages`."""
    names = {name for name in root.xpath("//@id") if isinstance(name, str)} if words else set()
    elements = [line for page in root.iterfind("{*}Page") for line in page.iterfind(".//{*}TextLine")]
    for index, written in lines.items():
        _write_line(elements[index], written, names, words=words, keep=keep)
    _stamp(root, stamp)


def _write_line(line: etree._Element, written: WrittenLine, names: set[str], *, words: bool, keep: bool) -> None:
    former = list(line.iterfind("{*}TextEquiv"))
    for element in [*([] if keep else former), *line.iterfind("{*}Word")]:
        remove(element)  # words of another reading contradict the new one
    if words:
        made = [_word(line, word, number, names) for number, word in enumerate(written.words, 1)]
        insert(line, _place(line, _BEFORE_TEXT - {"Word"}), made)
    equivalent = _text_equiv(line, written)
    insert(line, _place(line, _BEFORE_TEXT), [equivalent])
    kept = [element for element in former if keep]
    if kept:
        for index, element in enumerate([equivalent, *sorted(kept, key=lambda old: number(old, "index"))]):
            element.set("index", str(index))


def _place(line: etree._Element, before: set[str]) -> int:
    """Return the index behind the last child whose name is among ``before``."""
    return max((index + 1 for index, child in enumerate(line) if local_name(child) in before), default=0)


def _text_equiv(parent: etree._Element, span: WrittenSpan) -> etree._Element:
    element = sibling(parent, "TextEquiv", conf=f"{span.confidence:.4f}")
    unicode = sibling(parent, "Unicode")
    unicode.text = xml_text(span.text)
    element.append(unicode)
    return element


def _word(line: etree._Element, word: WrittenSpan, index: int, names: set[str]) -> etree._Element:
    name = f"{line.get('id') or 'line'}_w{index}"
    while name in names:
        name += "_"
    names.add(name)
    element = sibling(line, "Word", id=name)
    element.append(sibling(line, "Coords", points=_points(word.polygon)))
    element.append(_text_equiv(line, word))
    return element


def _points(polygon_P2: NDArray[np.float64]) -> str:
    return " ".join(f"{x},{y}" for x, y in np.maximum(np.rint(polygon_P2), 0).astype(int).tolist())


def _stamp(root: etree._Element, stamp: Stamp) -> None:
    """Set creator, last change and, where the schema has it, the processing step."""
    metadata = root.find("{*}Metadata")
    if metadata is None:
        metadata = sibling(root, "Metadata")
        insert(root, 0, [metadata])
    software = f"{stamp.software} {stamp.version}"
    creator = _child(metadata, "Creator", 0)
    others = [part for part in (creator.text or "").split("; ") if part and not part.startswith(stamp.software)]
    creator.text = "; ".join([*others, software])
    created = _child(metadata, "Created", 1)
    created.text = created.text or stamp.time
    _child(metadata, "LastChange", 2).text = stamp.time
    year = re.search(r"/pagecontent/(\d{4})", root.tag)
    if year is not None and int(year[1]) < _STEPS_SINCE:
        return
    for item in metadata.iterfind("{*}MetadataItem"):
        if item.get("type") == "processingStep" and item.get("name") == stamp.software:
            remove(item)
    step = sibling(root, "MetadataItem", type="processingStep", name=stamp.software, value=stamp.model, date=stamp.time)
    insert(metadata, len(metadata), [step])


def _child(metadata: etree._Element, name: str, place: int) -> etree._Element:
    child = metadata.find(f"{{*}}{name}")
    if child is None:
        child = sibling(metadata, name)
        insert(metadata, min(place, len(metadata)), [child])
    return child
