"""Reading the lines of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from htr_engines.pages.cut import SheetLine, cut_sheet
from htr_engines.pages.markup import WrittenLine, WrittenSpan
from htr_engines.pipeline import in_chunks, map_in_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from htr_engines.ctc import Reading
    from htr_engines.pages.sheets import Sheet
    from htr_engines.preprocess import Preprocessing


class LineReader(Protocol):
    """What reads grey lines, such as :class:`htr_engines.Recognizer`."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network wants its lines."""
        ...

    @property
    def streams(self) -> int:
        """How many batches may be read at the same time."""
        ...

    def read_grey(self, lines: list[NDArray[np.uint8]]) -> list[Reading]:
        """Read grey lines, each uint8 [H,W] with white = 255; places are in pixels of the line."""
        ...


@dataclass(frozen=True, eq=False)
class LineReading:
    """One line of a page: what was read on it, or why it was not."""

    index: int  # among the lines of its page, from 0
    name: str  # its id in the document
    reading: Reading | None
    error: str | None
    outline_P2: NDArray[np.float64]  # of what was read, in the page's units; [0,2] where nothing was
    words: tuple[WrittenSpan, ...]

    def written(self) -> WrittenLine | None:
        """Return the line as it is written into its document; None if it was not read."""
        if self.reading is None:
            return None
        return WrittenLine(self.reading.text, self.reading.confidence, self.outline_P2, self.words)


@dataclass(frozen=True, eq=False)
class PageReading:
    """What was read on one page."""

    sheet: Sheet
    lines: tuple[LineReading, ...]  # in the order of the document

    @classmethod
    def unread(cls, sheet: Sheet, reason: str) -> PageReading:
        """Return a page none of whose lines could be read."""
        nowhere = np.empty((0, 2))
        lines = (
            LineReading(index, line.name, None, reason, nowhere, ()) for index, line in enumerate(sheet.page.lines)
        )
        return cls(sheet, tuple(lines))

    def in_reading_order(self) -> list[LineReading]:
        """Return the lines as a reader goes through them."""
        return [self.lines[index] for index in self.sheet.page.order]

    @property
    def text(self) -> str:
        """The page's text in reading order, a line each; an unread line is empty."""
        return "\n".join(line.reading.text if line.reading else "" for line in self.in_reading_order())


def read_sheet(
    reader: LineReader, sheet: Sheet, batch_size: int = 1, advance: Callable[[int], None] | None = None
) -> PageReading:
    """Read the lines of a page; one that cannot be cut costs only itself.

    Raises:
        DataError: if the page does not belong to its image.
        ImageError: if the image cannot be read.
    """

    def read(batch: list[SheetLine]) -> list[LineReading]:
        images = [line.image_HW for line in batch if line.image_HW is not None]
        readings = iter(reader.read_grey(images) if images else [])
        return [_line_reading(line, None if line.image_HW is None else next(readings)) for line in batch]

    batches = in_chunks(cut_sheet(sheet, reader.preprocessing.height, reader.preprocessing.alpha), batch_size)
    lines: list[LineReading] = []
    for done in map_in_threads(read, batches, reader.streams, ahead=1):  # the next lines are cut meanwhile
        lines += done
        if advance:
            advance(len(done))
    return PageReading(sheet, tuple(lines))


def _line_reading(line: SheetLine, reading: Reading | None) -> LineReading:
    if reading is None or line.image_HW is None:
        return LineReading(line.index, line.line.name, None, line.reason, np.empty((0, 2)), ())
    words = tuple(
        WrittenSpan(word.text, word.confidence, line.polygon(word.start, max(word.end, word.start + 1)))
        for word in reading.words
    )
    outline_P2 = line.polygon(0, line.image_HW.shape[1])
    return LineReading(line.index, line.line.name, reading, None, outline_P2, words)
