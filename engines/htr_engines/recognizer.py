"""Reading line images with a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import Closeable, infer_lines
from htr_engines.bundle import Bundle, open_bundle, open_verified
from htr_engines.ctc import Reading, Span, decode_greedy
from htr_engines.errors import DataError, ImageError
from htr_engines.preprocess import Alpha, fit_line, load_pages, scaled_width
from htr_engines.selection import Selection, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from htr_engines.pages.reading import PageReading


@dataclass(frozen=True)
class LineResult:
    """What became of one page of one image: a reading, or an error that cost only this line."""

    source: str
    page: int  # from 0; images other than TIFF have one
    reading: Reading | None
    error: str | None


class Recognizer(Closeable):
    """Reads lines with a model of a bundle.

    Args:
        bundle: the folder that ``htr-export bundle`` wrote.
        engine: what runs the model; by default the fastest that fits, as :mod:`htr_engines.selection` says.
        threads: CPU threads; by default all physical cores.
        alpha: what shows through transparent images, ``white`` or ``ignore``; by default as the bundle says.
        verify: check every file's SHA-256 first.

    Raises:
        BundleError: if the bundle is damaged or a file was changed.
        EngineError: if no engine serves the bundle.

    Example:
        >>> with Recognizer(Path("model.htr")) as recognizer:  # doctest: +SKIP
        ...     print(recognizer.read(Path("line.png")).text)
    """

    def __init__(
        self,
        bundle: Path | str,
        engine: str | None = None,
        threads: int | None = None,
        alpha: Alpha | None = None,
        *,
        verify: bool = True,
    ) -> None:
        self.bundle: Bundle = open_verified(Path(bundle)) if verify else open_bundle(Path(bundle))
        self.preprocessing = replace(self.bundle.preprocessing, alpha=alpha or self.bundle.preprocessing.alpha)
        self.selection: Selection = select(self.bundle, engine, threads)
        self.engine = self.selection.engine

    def read(self, image: Path | str | bytes | NDArray[np.uint8]) -> Reading:
        """Read one line.

        Args:
            image: a file, its content, or a grey array uint8 [H,W] with white = 255.

        Raises:
            ImageError: if it cannot be read, or holds several pages.
        """
        pages = [image] if isinstance(image, np.ndarray) else self._pages(image)
        if len(pages) != 1:
            raise ImageError(f"the image has {len(pages)} pages; read it with read_all")
        return self.read_grey(pages)[0]

    def read_page(self, xml: Path | str, images: Path | None = None, batch_size: int = 1) -> list[PageReading]:
        """Read the lines of a PAGE or ALTO file.

        Args:
            xml: the file; its image is found beside it by the name that it gives, or by its own.
            images: another folder in which the image may be.
            batch_size: lines per run of the engine.

        Returns:
            The pages of the file; most have one.

        Raises:
            DataError: if the file or its image cannot be used.
            ImageError: if the image cannot be read.
        """
        from htr_engines.pages.reading import read_sheet
        from htr_engines.pages.sheets import find_sheets

        sheets, left_out = find_sheets([Path(xml)], images, unique=False)
        if left_out:
            raise DataError(left_out[0].reason)
        return [read_sheet(self, sheet, batch_size) for sheet in sheets]

    def read_grey(self, lines: list[NDArray[np.uint8]]) -> list[Reading]:
        """Read grey lines, each uint8 [H,W] with white = 255, as one batch."""
        spec = self.preprocessing
        logits_NTC = infer_lines(self.engine, np.stack([fit_line(grey_HW, spec) for grey_HW in lines]))
        readings = decode_greedy(logits_NTC, self.bundle.charset)
        columns_per_frame = spec.width / logits_NTC.shape[1]
        return [
            _in_pixels(reading, columns_per_frame * grey_HW.shape[1] / scaled_width(grey_HW, spec), grey_HW.shape[1])
            for reading, grey_HW in zip(readings, lines, strict=True)
        ]

    def read_all(self, sources: Iterable[tuple[str, Path | bytes]], batch_size: int = 1) -> Iterator[LineResult]:
        """Read many images in order; one that cannot be read yields an error and the rest goes on.

        Args:
            sources: names, and the files or contents that they stand for.
            batch_size: lines per run of the engine.
        """
        waiting: list[tuple[str, int, NDArray[np.uint8] | str]] = []
        for name, source in sources:
            try:
                waiting.extend((name, number, page) for number, page in enumerate(self._pages(source)))
            except ImageError as error:
                waiting.append((name, 0, str(error)))
            while sum(not isinstance(item, str) for _, _, item in waiting) >= batch_size:
                batch, waiting = _split(waiting, batch_size)
                yield from self._results(batch)
        yield from self._results(waiting)

    def _pages(self, source: Path | str | bytes) -> list[NDArray[np.uint8]]:
        return load_pages(Path(source) if isinstance(source, str) else source, self.preprocessing.alpha)

    def _results(self, batch: list[tuple[str, int, NDArray[np.uint8] | str]]) -> Iterator[LineResult]:
        pages = [item for _, _, item in batch if not isinstance(item, str)]
        readings = iter(self.read_grey(pages) if pages else [])
        for name, page, item in batch:
            if isinstance(item, str):
                yield LineResult(name, page, None, item)
            else:
                yield LineResult(name, page, next(readings), None)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


def _split(
    waiting: list[tuple[str, int, NDArray[np.uint8] | str]], batch_size: int
) -> tuple[list[tuple[str, int, NDArray[np.uint8] | str]], list[tuple[str, int, NDArray[np.uint8] | str]]]:
    """Split off the first entries that hold ``batch_size`` pages."""
    pages = 0
    for index, (_, _, item) in enumerate(waiting, 1):
        pages += not isinstance(item, str)
        if pages == batch_size:
            return waiting[:index], waiting[index:]
    return waiting, []


def _in_pixels(reading: Reading, pixels_per_frame: float, width: int) -> Reading:
    def place(span: Span) -> Span:
        start, end = (min(frame * pixels_per_frame, width) for frame in (span.start, span.end))
        return replace(span, start=start, end=end)

    return replace(reading, words=tuple(map(place, reading.words)), characters=tuple(map(place, reading.characters)))
