"""Reading line images with a bundle."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import Closeable, infer_lines
from htr_engines.bundle import Bundle, open_bundle
from htr_engines.decoder import DecoderOptions, Method, decode_lines, open_decoder
from htr_engines.errors import DataError, EngineError, ImageError
from htr_engines.host import physical_cores
from htr_engines.hub import SCHEME, fetch
from htr_engines.pipeline import in_chunks, map_in_threads
from htr_engines.preprocess import Alpha, fit_pixels, to_input
from htr_engines.selection import Selection, select
from htr_engines.sources import doubt, load_grey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from htr_engines.ctc import Reading
    from htr_engines.pages.reading import PageReading
    from htr_engines.sources import ImageSource


LOADED_TOGETHER = 8  # images a task: fewer, and threads wait for one another
LOADED_AHEAD = 8  # tasks


@dataclass(frozen=True)
class LineResult:
    """The result of one page of one image: a reading, or an error that affects only this line."""

    source: str
    page: int  # from 0; images other than TIFF have one
    reading: Reading | None
    error: str | None
    doubt: str | None = None  # why the image is probably no line


@dataclass(frozen=True, eq=False)
class _Fitted:
    pixels_HW: NDArray[np.uint8]  # as the network takes it
    shape: tuple[int, ...]  # of the image


@dataclass(frozen=True, eq=False)
class _Loaded:
    source: str
    page: int
    line: _Fitted | str  # or why there is none
    doubt: str | None = None


class Recognizer(Closeable):
    """Reads lines with a model of a bundle.

    Args:
        bundle: the folder that ``htr-export bundle`` wrote, or one on the Hub (``hf://OWNER/REPO``).
        engine: what runs the model; by default the fastest that fits, as :mod:`htr_engines.selection` says.
        threads: CPU threads; by default all physical cores.
        alpha: what shows through transparent images, ``white`` or ``ignore``; by default as the bundle says.
        decoder: ``greedy`` or ``beam``, or more about it; by default as the bundle says.
        streams: batches that :meth:`read_all` runs at the same time on a CPU, each on its share of the threads; None
            takes what reads most lines a second, one the fewest milliseconds a line.
        verify: check the SHA-256 of all files, not of the model that reads alone.

    Raises:
        BundleError: if the bundle is damaged or a file was changed.
        DecoderError: if the bundle has no such decoder.
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
        decoder: DecoderOptions | Method | None = None,
        *,
        streams: int | None = 1,
        verify: bool = True,
    ) -> None:
        self._open_again = functools.partial(
            Recognizer, str(bundle), engine, threads, alpha, decoder, streams=streams, verify=verify
        )
        self._closed = False
        folder = fetch(str(bundle)) if str(bundle).startswith(SCHEME) else Path(bundle)
        self.bundle: Bundle = open_bundle(folder)
        self.preprocessing = replace(self.bundle.preprocessing, alpha=alpha or self.bundle.preprocessing.alpha)
        options = decoder if isinstance(decoder, DecoderOptions) else DecoderOptions(decoder)
        self.decoder = open_decoder(self.bundle, options)
        self.selection: Selection = select(self.bundle, engine, threads, streams)
        self.engine = self.selection.engine
        if verify:
            with ExitStack() as stack:
                stack.callback(self.close)
                self.bundle.check_unchanged(apart_from=self.selection.candidate.model.file)
                stack.pop_all()

    def __reduce__(self) -> tuple[Callable[..., Recognizer], tuple[Any, ...]]:
        """Pickle as the arguments: the other process opens the bundle again."""
        return self._open_again, ()

    @property
    def identity(self) -> str:
        """The bundle's name and fingerprint, and the decoder where it is not the greedy one of the bundle."""
        decoder = f", {self.decoder.remark}" if self.decoder.remark else ""
        return f"{self.bundle.folder.resolve().name} sha256:{self.bundle.fingerprint}{decoder}"

    def read(self, image: ImageSource) -> Reading:
        """Read one line.

        Args:
            image: a path, bytes, an open file, a PIL image or an array, as :func:`htr_engines.sources.load_grey` says.

        Raises:
            ImageError: if it cannot be read, or holds several pages.
        """
        (result, *_) = self._results(self._load([("", image)], single=True))
        return _reading(result)

    def read_many(self, images: Iterable[ImageSource], batch_size: int = 1) -> Iterator[Reading]:
        """Read many lines in order, ``batch_size`` at a time; each as in :meth:`read`.

        Raises:
            ImageError: at the first one that cannot be read; :meth:`read_all` goes on instead.
        """
        return map(_reading, self._read_loaded((("", image) for image in images), batch_size, single=True))

    def read_page(self, xml: Path | str, images: Path | None = None, batch_size: int = 1) -> list[PageReading]:
        """Read the lines of a PAGE or ALTO file, whose image is beside it or in the folder ``images``.

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

    @property
    def streams(self) -> int:
        """How many batches the engine runs at the same time."""
        return self.engine.info.streams

    def read_grey(self, lines: list[NDArray[np.uint8]]) -> list[Reading]:
        """Read grey lines, each uint8 [H,W] with white = 255, as one batch."""
        spec = self.preprocessing
        return self._read_fitted([_Fitted(fit_pixels(line_HW, spec), line_HW.shape) for line_HW in lines])

    def read_all(self, sources: Iterable[tuple[str, ImageSource]], batch_size: int = 1) -> Iterator[LineResult]:
        """Read many images in order; one that cannot be read yields an error and the rest goes on. Each has a name.

        Images are decoded ahead of the engine, in threads, so some more than were read are taken from ``sources``.
        """
        return self._read_loaded(sources, batch_size, single=False)

    def _read_loaded(
        self, sources: Iterable[tuple[str, ImageSource]], batch_size: int, *, single: bool
    ) -> Iterator[LineResult]:
        load = functools.partial(self._load, single=single)
        chunks = map_in_threads(load, in_chunks(sources, LOADED_TOGETHER), physical_cores(), LOADED_AHEAD)
        batches = in_chunks(chain.from_iterable(chunks), batch_size)
        read = map_in_threads(self._results, batches, self.streams, ahead=1)
        return chain.from_iterable(read)

    def _load(self, sources: list[tuple[str, ImageSource]], *, single: bool) -> list[_Loaded]:
        loaded: list[_Loaded] = []
        for name, source in sources:
            try:
                pages = load_grey(source, self.preprocessing.alpha)
            except ImageError as error:
                loaded.append(_Loaded(name, 0, str(error)))
                continue
            if single and len(pages) > 1:
                loaded.append(_Loaded(name, 0, f"the image has {len(pages)} pages; read it with read_all"))
                continue
            for number, page_HW in enumerate(pages):
                fitted = _Fitted(fit_pixels(page_HW, self.preprocessing), page_HW.shape)
                loaded.append(_Loaded(name, number, fitted, doubt(page_HW)))
        return loaded

    def _results(self, batch: list[_Loaded]) -> list[LineResult]:
        fitted = [item.line for item in batch if isinstance(item.line, _Fitted)]
        readings = iter(self._read_fitted(fitted) if fitted else [])
        return [
            LineResult(item.source, item.page, None, item.line)
            if isinstance(item.line, str)
            else LineResult(item.source, item.page, next(readings), None, item.doubt)
            for item in batch
        ]

    def _read_fitted(self, lines: list[_Fitted]) -> list[Reading]:
        if self._closed:
            raise EngineError("the recognizer is closed; open the bundle again")
        logits_NTC = infer_lines(self.engine, to_input(np.stack([line.pixels_HW for line in lines])))
        return decode_lines(self.decoder.decode, logits_NTC, [line.shape for line in lines], self.preprocessing)

    def close(self) -> None:
        """Free the engine; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self.engine.close()


def _reading(result: LineResult) -> Reading:
    if result.reading is None:
        raise ImageError(str(result.error))
    return result.reading
