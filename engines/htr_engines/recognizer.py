"""Reading line images with a bundle."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import Closeable, infer_lines
from htr_engines.bundle import Bundle, open_bundle
from htr_engines.ctc import Reading, decode_greedy
from htr_engines.errors import DataError, EngineError, ImageError
from htr_engines.hub import SCHEME, fetch
from htr_engines.preprocess import Alpha, fit_line, scaled_width
from htr_engines.selection import Selection, select
from htr_engines.sources import doubt, load_grey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from htr_engines.pages.reading import PageReading
    from htr_engines.sources import ImageSource


@dataclass(frozen=True)
class LineResult:
    """The result of one page of one image: a reading, or an error that affects only this line."""

    source: str
    page: int  # from 0; images other than TIFF have one
    reading: Reading | None
    error: str | None
    doubt: str | None = None  # why the image is probably no line


class Recognizer(Closeable):
    """Reads lines with a model of a bundle.

    Args:
        bundle: the folder that ``htr-export bundle`` wrote, or one on the Hub (``hf://OWNER/REPO``).
        engine: what runs the model; by default the fastest that fits, as :mod:`htr_engines.selection` says.
        threads: CPU threads; by default all physical cores.
        alpha: what shows through transparent images, ``white`` or ``ignore``; by default as the bundle says.
        verify: check the SHA-256 of all files, not of the model that reads alone.

    Raises:
        BundleError: if the bundle is damaged or a file was changed.
        EngineError: if no engine can run a model of the bundle.

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
        self._arguments = (str(bundle), engine, threads, alpha, verify)
        self._closed = False
        folder = fetch(str(bundle)) if str(bundle).startswith(SCHEME) else Path(bundle)
        self.bundle: Bundle = open_bundle(folder)
        self.preprocessing = replace(self.bundle.preprocessing, alpha=alpha or self.bundle.preprocessing.alpha)
        self.selection: Selection = select(self.bundle, engine, threads)
        self.engine = self.selection.engine
        if verify:
            with ExitStack() as stack:
                stack.callback(self.close)
                self.bundle.check_unchanged(apart_from=self.selection.candidate.model.file)
                stack.pop_all()

    def __reduce__(self) -> tuple[Callable[..., Recognizer], tuple[Any, ...]]:
        """Pickle as the arguments: the other process opens the bundle again."""
        bundle, engine, threads, alpha, verify = self._arguments
        return functools.partial(Recognizer, verify=verify), (bundle, engine, threads, alpha)

    def read(self, image: ImageSource) -> Reading:
        """Read one line.

        Args:
            image: a path, bytes, an open file, a PIL image or an array, as :func:`htr_engines.sources.load_grey` says.

        Raises:
            ImageError: if it cannot be read, or holds several pages.
        """
        return next(self.read_many([image]))

    def read_many(self, images: Iterable[ImageSource], batch_size: int = 1) -> Iterator[Reading]:
        """Read many lines in order.

        Args:
            images: each as in :meth:`read`.
            batch_size: lines per run of the engine.

        Raises:
            ImageError: at the first one that cannot be read; :meth:`read_all` goes on instead.
        """
        waiting: list[NDArray[np.uint8]] = []
        for image in images:
            pages = load_grey(image, self.preprocessing.alpha)
            if len(pages) != 1:
                raise ImageError(f"the image has {len(pages)} pages; read it with read_all")
            waiting += pages
            if len(waiting) == batch_size:
                yield from self.read_grey(waiting)
                waiting = []
        if waiting:
            yield from self.read_grey(waiting)

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
        if self._closed:
            raise EngineError("the recognizer is closed; open the bundle again")
        spec = self.preprocessing
        logits_NTC = infer_lines(self.engine, np.stack([fit_line(grey_HW, spec) for grey_HW in lines]))
        readings = decode_greedy(logits_NTC, self.bundle.charset)
        columns_per_frame = spec.width / logits_NTC.shape[1]
        return [
            reading.scaled(columns_per_frame * grey_HW.shape[1] / scaled_width(grey_HW, spec), float(grey_HW.shape[1]))
            for reading, grey_HW in zip(readings, lines, strict=True)
        ]

    def read_all(self, sources: Iterable[tuple[str, ImageSource]], batch_size: int = 1) -> Iterator[LineResult]:
        """Read many images in order; one that cannot be read yields an error and the rest goes on.

        Args:
            sources: names, and the images that they stand for, as in :meth:`read`.
            batch_size: lines per run of the engine.
        """
        waiting: list[tuple[str, int, NDArray[np.uint8] | str]] = []
        for name, source in sources:
            try:
                waiting.extend(
                    (name, number, page) for number, page in enumerate(load_grey(source, self.preprocessing.alpha))
                )
            except ImageError as error:
                waiting.append((name, 0, str(error)))
            while sum(not isinstance(item, str) for _, _, item in waiting) >= batch_size:
                batch, waiting = _split(waiting, batch_size)
                yield from self._results(batch)
        yield from self._results(waiting)

    def _results(self, batch: list[tuple[str, int, NDArray[np.uint8] | str]]) -> Iterator[LineResult]:
        pages = [item for _, _, item in batch if not isinstance(item, str)]
        readings = iter(self.read_grey(pages) if pages else [])
        for name, page, item in batch:
            if isinstance(item, str):
                yield LineResult(name, page, None, item)
            else:
                yield LineResult(name, page, next(readings), None, doubt(item))

    def close(self) -> None:
        """Free the engine; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self.engine.close()


def _split(
    waiting: list[tuple[str, int, NDArray[np.uint8] | str]], batch_size: int
) -> tuple[list[tuple[str, int, NDArray[np.uint8] | str]], list[tuple[str, int, NDArray[np.uint8] | str]]]:
    """Return the first entries, up to ``batch_size`` pages, and the rest."""
    pages = 0
    for index, (_, _, item) in enumerate(waiting, 1):
        pages += not isinstance(item, str)
        if pages == batch_size:
            return waiting[:index], waiting[index:]
    return waiting, []
