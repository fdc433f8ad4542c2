"""Fields of a JSON object that somebody else wrote, each of the type that it should have.

All raise ``KeyError`` if a field is missing and ``TypeError`` or ``ValueError`` if it is something else.
"""

from __future__ import annotations

import re
from typing import Any

SHOWN = 80  # characters of a wrong value


def typed(document: dict[str, Any], key: str, *kinds: type) -> Any:  # noqa: ANN401
    """Return a field whose type is exactly one of ``kinds``."""
    value = document[key]
    if type(value) not in kinds:  # True is an int to isinstance
        raise TypeError(f"{key!r} is not of type {' or '.join(kind.__name__ for kind in kinds)}")
    return value


def matching(document: dict[str, Any], key: str, pattern: str) -> str:
    """Return a text that the whole of ``pattern`` describes."""
    value: str = typed(document, key, str)
    if not re.fullmatch(pattern, value, re.ASCII):
        raise ValueError(f"{key!r} is {value[:SHOWN]!r}")
    return value


def choice(document: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """Return a text that is one of ``choices``."""
    value: str = typed(document, key, str)
    if value not in choices:
        raise ValueError(f"{key!r} is {value[:SHOWN]!r}, not one of {', '.join(choices)}")
    return value


def texts(document: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of texts."""
    values = typed(document, key, list)
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{key!r} does not hold texts alone")
    return tuple(values)


def texts_by_name(document: dict[str, Any], key: str) -> dict[str, str]:
    """Return an object whose values are texts."""
    values: dict[str, str] = typed(document, key, dict)
    if not all(isinstance(value, str) for value in values.values()):
        raise TypeError(f"{key!r} does not hold texts alone")
    return values


def numbers(document: dict[str, Any], key: str) -> list[int]:
    """Return a list of whole numbers."""
    values: list[int] = typed(document, key, list)
    if not all(type(value) is int for value in values):
        raise TypeError(f"{key!r} does not hold whole numbers alone")
    return values
