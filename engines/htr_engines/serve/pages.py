"""A page that is sent as a form: its PAGE or ALTO document and its image."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile

from htr_engines.errors import DataError
from htr_engines.pages.command import to_content
from htr_engines.pages.reading import read_sheet
from htr_engines.pages.sheets import find_sheets
from htr_engines.preprocess import SUFFIXES
from htr_engines.serve.batching import WaitingReader

if TYPE_CHECKING:
    from starlette.requests import Request

    from htr_engines.pages.formats import PageFormat
    from htr_engines.recognizer import Recognizer
    from htr_engines.serve.batching import Batcher

FORMATS: dict[PageFormat, str] = {
    "xml": "application/xml",
    "text": "text/plain",
    "jsonl": "application/x-ndjson",
    "hocr": "application/xhtml+xml",
}
CURE = "send the form's files 'page' (PAGE or ALTO) and 'image'"


@dataclass(frozen=True)
class PageAnswer:
    """What was read on a page."""

    content: bytes
    format: PageFormat
    lines: int  # that were read
    unread: int  # that were not

    @property
    def headers(self) -> dict[str, str]:
        """The HTTP headers that say how much was read."""
        return {"htr-lines": str(self.lines), "htr-unread-lines": str(self.unread)}


async def read_upload(request: Request, batcher: Batcher, recognizer: Recognizer) -> PageAnswer:
    """Read the page of a form with the files ``page`` and ``image``.

    Raises:
        DataError: if the form lacks one of them, or they do not belong together.
        ImageError: if the image cannot be read.
    """
    wanted = request.query_params.get("format", "xml")
    if wanted not in FORMATS:
        raise DataError(f"there is no format {wanted!r}; ask for one of {', '.join(FORMATS)}")
    async with request.form(max_files=2, max_fields=2) as form:
        page, image = form.get("page"), form.get("image")
        if not isinstance(page, UploadFile) or not isinstance(image, UploadFile):
            raise DataError(f"the form should hold a page and its image; {CURE}")
        document, picture = await page.read(), await image.read()
        suffix = Path(image.filename or "").suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"the image's file name should end in one of {', '.join(sorted(SUFFIXES))}; {CURE}")
    reader = WaitingReader(batcher, recognizer.preprocessing, asyncio.get_running_loop())
    return await asyncio.to_thread(_read, reader, recognizer.identity, document, picture, suffix, wanted)


def _read(
    reader: WaitingReader, bundle: str, document: bytes, picture: bytes, suffix: str, wanted: PageFormat
) -> PageAnswer:
    with tempfile.TemporaryDirectory(prefix="htr-serve-") as name:
        xml = Path(name) / "page.xml"
        xml.write_bytes(document)
        xml.with_suffix(suffix).write_bytes(picture)
        sheets, left_out = find_sheets([xml], unique=False)
        if left_out:
            raise DataError(left_out[0].reason.replace(f"{name}/", ""))
        pages = [
            read_sheet(reader, sheet, batch_size=sum(len(sheet.page.lines) for sheet in sheets)) for sheet in sheets
        ]
        content = to_content(xml, pages, bundle, wanted)
    lines = [line for page in pages for line in page.lines]
    read = sum(line.reading is not None for line in lines)
    return PageAnswer(content, wanted, read, len(lines) - read)
