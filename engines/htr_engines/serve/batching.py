"""Lines of many requests, read together: what waits when an engine is free is its next batch."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from htr_engines.host import physical_cores
from htr_engines.sources import load_grey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.ctc import Reading
    from htr_engines.preprocess import Preprocessing
    from htr_engines.recognizer import Recognizer
    from htr_engines.serve.metrics import Metrics


class BusyError(Exception):
    """More lines wait than may; try again later."""


class Batcher:
    """Reads lines for requests on one event loop, as many batches at a time as the engine has streams.

    Args:
        recognizer: what reads.
        batch_size: lines per run of the engine, at most.
        limit: lines that may wait.
        metrics: told of each batch.
    """

    def __init__(self, recognizer: Recognizer, batch_size: int, limit: int, metrics: Metrics) -> None:
        self._recognizer = recognizer
        self._batch_size = batch_size
        self._metrics = metrics
        self._waiting: asyncio.Queue[tuple[NDArray[np.uint8], asyncio.Future[Reading]]] = asyncio.Queue(limit)
        self._streams = recognizer.streams
        self._engines = ThreadPoolExecutor(self._streams, thread_name_prefix="engine")
        self._loaders = ThreadPoolExecutor(physical_cores(), thread_name_prefix="loader")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read while the block runs; what waits at its end is still read."""
        tasks = [asyncio.create_task(self._work()) for _ in range(self._streams)]
        try:
            yield
            await self._waiting.join()
        finally:
            for task in tasks:
                task.cancel()
            self._engines.shutdown()
            self._loaders.shutdown()

    @property
    def size(self) -> int:
        """The number of lines that wait."""
        return self._waiting.qsize()

    async def load(self, content: bytes) -> list[NDArray[np.uint8]]:
        """Decode an image into grey pages, each uint8 [H,W].

        Raises:
            ImageError: if it cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._loaders, load_grey, content, self._recognizer.preprocessing.alpha)

    async def read(self, lines: Sequence[NDArray[np.uint8]], *, patient: bool = False) -> list[Reading]:
        """Read grey lines, each uint8 [H,W] with white = 255.

        Args:
            lines: of one request; they may be read in several batches.
            patient: wait for a place in the queue.

        Raises:
            BusyError: if there is no place in the queue.
        """
        if not patient and self._waiting.qsize() + len(lines) > self._waiting.maxsize:
            raise BusyError
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Reading]] = []
        try:
            for line_HW in lines:
                futures.append(loop.create_future())
                await self._waiting.put((line_HW, futures[-1]))
            return list(await asyncio.gather(*futures))
        finally:
            for future in futures:  # those of a request that was given up are not read
                future.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._batch_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            wanted = [(line_HW, future) for line_HW, future in batch if not future.done()]
            lines = [line_HW for line_HW, _ in wanted]
            try:
                readings = await loop.run_in_executor(self._engines, self._recognizer.read_grey, lines) if lines else []
                self._metrics.batch_size.observe(len(lines))
                for (_, future), reading in zip(wanted, readings, strict=True):
                    if not future.done():
                        future.set_result(reading)
            except Exception as error:  # noqa: BLE001 - each request says it; the server goes on
                for _, future in wanted:
                    if not future.done():
                        future.set_exception(error)
            finally:
                for _ in batch:
                    self._waiting.task_done()


class WaitingReader:
    """Reads the lines of a page from another thread, with those of all other requests."""

    streams = 1

    def __init__(self, batcher: Batcher, preprocessing: Preprocessing, loop: asyncio.AbstractEventLoop) -> None:
        self.preprocessing = preprocessing
        self._batcher = batcher
        self._loop = loop

    def read_grey(self, lines: list[NDArray[np.uint8]]) -> list[Reading]:
        """Read grey lines, each uint8 [H,W] with white = 255."""
        return asyncio.run_coroutine_threadsafe(self._batcher.read(lines, patient=True), self._loop).result()
