"""A check and its mark, the same in every command and report: ✓ passed, ✗ failed, a dash where not checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARKS = {True: "✓", False: "✗", None: "\N{EN DASH}"}


def mark(passed: bool | None) -> str:
    """Return the mark of an outcome; None means that it was not checked."""
    return _MARKS[passed]


@dataclass(frozen=True)
class Check:
    """One check and its outcome."""

    passed: bool | None  # None: not checked, and so neither passed nor failed
    detail: str  # what was found, with the figures and their bound
    name: str = ""  # for checks that programs look up

    def __str__(self) -> str:
        return f"-[{mark(self.passed)}] {f'{self.name}: ' if self.name else ''}{self.detail}"


def failures(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that failed; what was not checked has not failed."""
    return [check for check in checks if check.passed is False]
