"""Work in threads, in order: while a model reads some lines, the next are decoded and the last are written."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int
) -> Iterator[Result]:
    """Apply a function to items in threads, and yield the results in order.

    Args:
        function: is called in several threads at once; what it raises is raised where its result would come.
        items: taken in the caller's thread, as they are needed.
        workers: threads.
        ahead: results that may wait for their turn beside those being worked on, so that memory stays bounded.

    Yields:
        One result an item. Nothing more is begun once the caller stops asking.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="htr")
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers + ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of ``size``; the last one may be shorter."""
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
