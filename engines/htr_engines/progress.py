"""How long work says how far it is; :func:`htr_engines.console.show_progress` shows it to people."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What work reports to. Steps and counts are independent: a count may run through several steps."""

    def step(self, what: str) -> None:
        """Say what is being done now."""

    def total(self, amount: float | None) -> None:
        """Begin to count towards ``amount``; None where it is not known."""

    def advance(self, amount: float = 1) -> None:
        """Count what has been done since the last call."""


class _Silent:
    def step(self, what: str) -> None:
        pass

    def total(self, amount: float | None) -> None:
        pass

    def advance(self, amount: float = 1) -> None:
        pass


SILENT: Progress = _Silent()
