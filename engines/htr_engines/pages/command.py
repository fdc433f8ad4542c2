"""Reading documents from files to files, as ``htr-read`` does: page by page, and on from where a run ended."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from htr_engines.console import echo
from htr_engines.errors import DataError, ImageError
from htr_engines.files import atomic_path, read_file
from htr_engines.pages.formats import SUFFIXES, PageFormat, to_document, to_hocr, to_jsonl, to_text
from htr_engines.pages.markup import Stamp
from htr_engines.pages.reading import LineReader, PageReading, read_sheet
from htr_engines.pages.sheets import Sheet, find_sheets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from htr_engines.shard import Shard

JOURNAL = ".htr-read.jsonl"  # in the output folder: which documents are done, and by which bundle
SOFTWARE = "htr-export"


@dataclass(frozen=True)
class PageOptions:
    """How documents are read and what is written of them."""

    sources: tuple[Path, ...]  # PAGE or ALTO files, and folders with such files
    output: Path | None = None  # the folder to write into; None writes to standard output
    format: PageFormat = "xml"
    images: Path | None = None  # where else the page images may be
    words: bool = False  # PAGE: write words with outlines too
    keep: bool = False  # leave the text that was there as a further alternative
    force: bool = False  # read again what is done already
    batch_size: int = 1  # lines per run of the engine
    shard: Shard | None = None  # of the documents; None for all


@dataclass
class Tally:
    """What became of the documents."""

    documents: int = 0
    skipped: int = 0  # done by an earlier run
    lines: int = 0
    errors: list[str] = field(default_factory=list)  # a sentence each


class Watcher(Protocol):
    """Reports how far a run is."""

    def __call__(self, *, total: int, advance: int) -> None:
        """Take note of the number of all lines, and of how many more are done."""
        ...


def read_documents(
    reader: LineReader,
    bundle: str,
    options: PageOptions,
    on_error: Callable[[str], None],
    on_lines: Watcher | None = None,
) -> Tally:
    """Read all lines of some documents, and write each document's result as soon as it is read.

    Args:
        reader: of lines.
        bundle: its name and fingerprint; a document that the same bundle read with the same options is skipped,
            unless the document or its image is newer than what was written of it.
        options: what to read and what to write.
        on_error: called for each line, page or document that could not be read, in one sentence.
        on_lines: called with the progress.

    Raises:
        DataError: if there is no document, or the output would replace one.
    """
    sheets, left_out = find_sheets(options.sources, options.images, unique=False)
    tally = Tally()

    def fail(sentence: str) -> None:
        tally.errors.append(sentence)
        on_error(sentence)

    for left in left_out:
        fail(f"{left.source}: {left.reason}" if left.source not in left.reason else left.reason)
    documents: Sequence[list[Sheet]] = [list(pages) for _, pages in groupby(sheets, key=lambda sheet: sheet.xml)]
    targets: Sequence[Path | None] = _targets(documents, options)
    if options.shard:
        documents, targets = options.shard.of(documents), options.shard.of(targets)
        sheets = [sheet for pages in documents for sheet in pages]
    journal = _Journal(options, bundle)
    total = sum(len(sheet.page.lines) for sheet in sheets)
    for pages, target in zip(documents, targets, strict=True):
        lines = sum(len(sheet.page.lines) for sheet in pages)
        if target and journal.is_done(target, pages):
            tally.skipped += 1
            if on_lines:
                on_lines(total=total, advance=lines)
            continue
        readings = [_read(reader, sheet, options, fail, total, on_lines) for sheet in pages]
        content = to_content(pages[0].xml, readings, bundle, options.format, words=options.words, keep=options.keep)
        tally.documents += 1
        tally.lines += sum(line.reading is not None for page in readings for line in page.lines)
        if target is None:
            _print(content.decode("utf-8"))
        else:
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
            journal.add(target)
    return tally


def _print(text: str) -> None:
    """Print text as it is, but in a terminal above the bar."""
    if sys.stdout.isatty():
        echo(text.removesuffix("\n"), several_lines=True)
    else:
        sys.stdout.write(text)
        sys.stdout.flush()


def _read(
    reader: LineReader,
    sheet: Sheet,
    options: PageOptions,
    fail: Callable[[str], None],
    total: int,
    on_lines: Watcher | None,
) -> PageReading:
    """Read one page; where that fails, say why and return a page without lines."""

    def advance(lines: int) -> None:
        if on_lines:
            on_lines(total=total, advance=lines)

    try:
        page = read_sheet(reader, sheet, options.batch_size, advance)
    except (DataError, ImageError) as error:
        advance(len(sheet.page.lines))
        fail(f"{sheet.xml}: {error}")
        return PageReading.unread(sheet, str(error))
    for line in page.lines:
        if line.error:
            fail(f"{sheet.xml}, line {line.name}: {line.error}")
    return page


def to_content(
    xml: Path,
    pages: Sequence[PageReading],
    bundle: str,
    wanted: PageFormat,
    *,
    words: bool = False,
    keep: bool = False,
) -> bytes:
    """Return what was read on the pages of a document in the format wanted, UTF-8.

    Args:
        xml: the document.
        pages: all of its pages.
        bundle: that read them: its name and fingerprint.
        wanted: the format.
        words: PAGE: write words with outlines too.
        keep: leave the text that was there as a further alternative.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    stamp = Stamp(SOFTWARE, version("htr-export"), bundle, now)
    if wanted == "xml":
        return to_document(xml, pages, stamp, words=words, keep=keep)
    if wanted == "hocr":
        return to_hocr(pages, stamp).encode()
    return (to_text(pages) if wanted == "text" else to_jsonl(pages, str(xml))).encode()


def _targets(documents: Sequence[Sequence[Sheet]], options: PageOptions) -> list[Path | None]:
    """Return where each document's result is written, having made sure that none replaces another file's."""
    if options.output is None:
        return [None] * len(documents)
    sources = {pages[0].xml.resolve() for pages in documents}
    targets: list[Path | None] = []
    for pages in documents:
        target = options.output / pages[0].place.with_suffix(SUFFIXES[options.format])
        if target in targets:  # of another source folder
            target = target.with_name(f"{pages[0].xml.resolve().parent.name}_{target.name}")
        if target.resolve() in sources:
            raise DataError(f"{target} would replace a document that is read; give another folder with -o")
        if target in targets:
            raise DataError(f"{target} would be written twice; read the folders one after the other")
        targets.append(target)
    return targets


class _Journal:
    """Which documents are done, in a file that survives the end of a run: one JSON record a line."""

    def __init__(self, options: PageOptions, bundle: str) -> None:
        self._folder = options.output
        self._force = options.force
        self._facts = {"bundle": bundle, "format": options.format, "words": options.words, "keep": options.keep}
        self._done: dict[str, dict[str, Any]] = {}
        path = self._folder / JOURNAL if self._folder else None
        if path and path.is_file():
            for row in read_file(path).decode("utf-8", "replace").splitlines():
                try:
                    record = json.loads(row)
                    self._done[record.pop("output")] = record
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    continue  # the last row of a run that was killed

    def is_done(self, target: Path, pages: Sequence[Sheet]) -> bool:
        """Tell whether a result is there, of this bundle and these options, and newer than what it was read from."""
        if self._force or self._done.get(self._name(target)) != self._facts or not target.is_file():
            return False
        newest = max(path.stat().st_mtime_ns for sheet in pages for path in (sheet.xml, sheet.image))
        return target.stat().st_mtime_ns >= newest

    def add(self, target: Path) -> None:
        """Take note of a result that was written."""
        assert self._folder is not None
        with (self._folder / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"output": self._name(target), **self._facts}) + "\n")

    def _name(self, target: Path) -> str:
        assert self._folder is not None
        return target.relative_to(self._folder).as_posix()
