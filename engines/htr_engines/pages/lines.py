"""The lines of pages as files: cut once, kept in the user's cache folder, and read like any other line images."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from PIL import Image

from htr_engines.errors import DataError, ImageError
from htr_engines.files import atomic_folder
from htr_engines.host import cache_folder
from htr_engines.pages.cut import cut_sheet
from htr_engines.pages.sheets import find_sheets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from htr_engines.pages.sheets import Sheet

HEIGHT = 64  # pixels of a line, as the published training has them
MAX_PAGES = 20_000  # in the cache; some 500 MB
_VERSION = 1  # of what is cut; counted up when the same page gives other pixels


def page_lines(sources: Sequence[Path]) -> Iterator[tuple[str, Path, str]]:
    """Yield the lines of PAGE and ALTO files that have a transcript: a name, an image file and the transcript.

    Raises:
        DataError: if a file, a page or its image cannot be used; nothing is left out in silence.
        ImageError: if an image cannot be read.
    """
    sheets, left_out = find_sheets(sources)
    twins = "describes the same image"
    if damaged := [left for left in left_out if twins not in left.reason]:
        raise DataError(damaged[0].reason)
    for sheet in sheets:
        folder = _cut_to_cache(sheet)
        for index, line in enumerate(sheet.page.lines):
            image = folder / f"{index:05d}.png"
            if line.text and image.is_file():
                yield f"{sheet.place.as_posix()}#{line.name}", image, line.text


def _cut_to_cache(sheet: Sheet) -> Path:
    """Return the folder with the page's lines, each named by its number; what cannot be cut is not there."""
    folder = cache_folder() / "pages" / _key(sheet)
    if folder.is_dir():
        folder.touch()  # the oldest are removed first
        return folder
    try:
        with atomic_folder(folder) as temporary:
            for line in cut_sheet(sheet, HEIGHT):
                if line.image_HW is not None:
                    Image.fromarray(line.image_HW).save(temporary / f"{line.index:05d}.png", compress_level=1)
    except (DataError, ImageError) as error:
        raise type(error)(f"{sheet.xml}: {error}") from None
    _keep_newest(folder.parent)
    return folder


def _key(sheet: Sheet) -> str:
    """Return a name for what is cut: it changes with the page's lines and with its image."""
    status = sheet.image.stat()
    lines = [(line.polygon.tolist(), line.baseline.tolist()) for line in sheet.page.lines]
    page = (sheet.page.width, sheet.page.height, sheet.page.unit, sheet.frame, lines)
    image = (str(sheet.image.resolve()), status.st_size, status.st_mtime_ns)
    return hashlib.sha256(json.dumps([_VERSION, HEIGHT, page, image]).encode()).hexdigest()[:32]


def _keep_newest(folder: Path) -> None:
    pages = [page for page in folder.iterdir() if not page.name.startswith(".")]
    if len(pages) > MAX_PAGES:
        pages.sort(key=lambda page: page.stat().st_mtime)
        for page in pages[: len(pages) - MAX_PAGES]:
            shutil.rmtree(page, ignore_errors=True)
