"""What was read on the pages of one document, as text, JSON lines, hOCR, or the document itself."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from htr_engines.pages.document import write_pages
from htr_engines.pages.markup import Stamp, WrittenSpan, bounding_box, xml_text
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from htr_engines.pages.reading import LineReading, PageReading

PageFormat = Literal["text", "jsonl", "xml", "hocr"]
FORMATS: tuple[PageFormat, ...] = get_args(PageFormat)
SUFFIXES: dict[PageFormat, str] = {"text": ".txt", "jsonl": ".jsonl", "xml": ".xml", "hocr": ".hocr"}


def to_text(pages: Sequence[PageReading]) -> str:
    """Return the text in reading order, pages parted by a form feed."""
    return "\n\f".join(page.text for page in pages) + "\n"


def to_jsonl(pages: Sequence[PageReading], source: str) -> str:
    """Return one JSON object a line of text, in reading order, places in the page's own units."""
    records = (_record(source, number, line) for number, page in enumerate(pages) for line in page.in_reading_order())
    return "".join(to_json_text(record) + "\n" for record in records)


def _record(source: str, page: int, line: LineReading) -> dict[str, Any]:
    record: dict[str, Any] = {"file": source, "page": page, "line": line.name}
    if line.reading is None:
        return {**record, "error": line.error}
    record |= {
        "text": line.reading.text,
        "confidence": round(line.reading.confidence, 4),
        "polygon": _corners(line.outline_P2),
        "words": [
            {"text": word.text, "confidence": round(word.confidence, 4), "polygon": _corners(word.polygon)}
            for word in line.words
        ],
    }
    if line.reading.alternatives:
        record["alternatives"] = [alternative.to_dict() for alternative in line.reading.alternatives]
    return record


def _corners(polygon_P2: NDArray[np.float64]) -> list[list[int]]:
    corners: list[list[int]] = np.rint(polygon_P2).astype(int).tolist()
    return corners


def to_document(xml: Path, pages: Sequence[PageReading], stamp: Stamp, *, words: bool, keep: bool) -> bytes:
    """Return the document with what was read in it; a line that was not read keeps its text."""
    lines = {}
    first = 0
    for page in pages:
        for line in page.lines:
            written = line.written()
            if written is not None:
                lines[first + line.index] = written
        first += len(page.sheet.page.lines)
    return write_pages(xml, lines, stamp, words=words, keep=keep)


def to_hocr(pages: Sequence[PageReading], stamp: Stamp) -> str:
    """Return hOCR 1.2: a page, its lines and words with their boxes, in the page's own units."""
    body = "\n".join(part for number, page in enumerate(pages, 1) for part in _hocr_page(page, number))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<title></title>\n'
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="{escape(f"{stamp.software} {stamp.version}")}"/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word"/>\n'
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _hocr_page(page: PageReading, number: int) -> Iterator[str]:
    facts = page.sheet.page
    image = escape(page.sheet.image.name.replace('"', "'"))
    title = f"image &quot;{image}&quot;; bbox 0 0 {round(facts.width)} {round(facts.height)}; ppageno {number - 1}"
    yield f'<div class="ocr_page" id="page_{number}" title="{title}">'
    for place, line in enumerate(page.in_reading_order(), 1):
        if line.reading is None:
            continue
        name = f"{number}_{place}"
        confidence = f"x_wconf {round(100 * line.reading.confidence)}"
        yield f'<span class="ocr_line" id="line_{name}" title="{_bbox(line.outline_P2)}; {confidence}">'
        for index, word in enumerate(line.words, 1):
            yield _hocr_word(word, f"word_{name}_{index}")
        yield "</span>"
    yield "</div>"


def _hocr_word(word: WrittenSpan, name: str) -> str:
    title = f"{_bbox(word.polygon)}; x_wconf {round(100 * word.confidence)}"
    return f'<span class="ocrx_word" id="{name}" title="{title}">{escape(xml_text(word.text))}</span>'


def _bbox(polygon_P2: NDArray[np.float64]) -> str:
    left, top, width, height = bounding_box(np.maximum(polygon_P2, 0))
    return f"bbox {left} {top} {left + width} {top + height}"
