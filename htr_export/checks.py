"""What a command checked, as its users read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check and its outcome."""

    passed: bool
    what: str

    def __str__(self) -> str:
        return f"-[{'✓' if self.passed else 'x'}] {self.what}"
