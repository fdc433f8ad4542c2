"""Ctrl-C and SIGTERM while a network trains: acted on where nothing is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals(contextlib.ExitStack):
    """Notes the signals that come within a block, in place of their usual effect.

    Attributes:
        requested: whether one has come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False
        self._at_once = False
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.callback(signal.signal, number, signal.signal(number, self._note))

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block with :class:`KeyboardInterrupt`; it must change nothing that lasts."""
        if self.requested:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, *_: object) -> None:
        self.requested = True
        if self._at_once:
            raise KeyboardInterrupt


def ignore_signals(_worker: int = 0) -> None:
    """Leave the signals to the main process: a terminal sends them to its workers too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
