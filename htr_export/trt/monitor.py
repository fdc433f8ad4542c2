"""Watching a build: which phase it is in, and stopping it."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")
INTERRUPTED = 130  # the exit code of a process that Ctrl-C ended


def make_monitor(trt: Any, on_phase: Callable[[str], None], stop: threading.Event) -> Any:  # noqa: ANN401
    """Return an ``IProgressMonitor`` that tells each phase by its name and ends the build once ``stop`` is set.

    It counts nothing: TensorRT reports steps during a small part of a build only.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            on_phase(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002
            return not stop.is_set()

    return Monitor()


def run_stoppable(work: Callable[[], T], stop: threading.Event, on_stop: Callable[[], None]) -> T:
    """Run ``work`` beside the main thread, so that Ctrl-C is heard while a library computes.

    The first Ctrl-C sets ``stop``, calls ``on_stop`` and waits for ``work`` to end; a second one ends the process.

    Raises:
        KeyboardInterrupt: after ``work`` has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            stop.set()
            on_stop()
            before = signal.signal(signal.SIGINT, _end)
            future.exception()
            signal.signal(signal.SIGINT, before)
            raise


def _end(_signal: int, _frame: object) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the spinner hid the cursor
        sys.stderr.flush()
    os._exit(INTERRUPTED)
