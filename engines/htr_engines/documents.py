"""JSON and TOML from strangers, read with limits and checked against a dataclass.

msgspec checks types, since its errors name the path of a field; its wheel has 0.23 MB and needs nothing else, where
pydantic with its core has 2.5 MB and takes four times as long to import. The limits that msgspec lacks stand here.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from htr_engines.errors import DataError, FileError, HtrError
from htr_engines.files import read_file
from htr_engines.text import printable

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

MAX_BYTES = 32 << 20  # of a JSON document: a report on 50 000 lines has less
MAX_TOML_BYTES = 64 << 10
MAX_TOML_DOTS = 64  # on a line: tomllib takes memory that grows with the square of the parts of a key
MAX_DEPTH = 32
MAX_ITEMS = 2_000_000
MAX_INTEGER = 2**63

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


def load_json(path: Path, kind: type[T], cure: str, error: type[HtrError] = DataError, max_bytes: int = MAX_BYTES) -> T:
    """Read a JSON file.

    Args:
        path: a regular file.
        kind: what it should hold: a dataclass, or a plain type such as ``dict``.
        cure: ends the message of an error.
        error: the type to raise.
        max_bytes: of the file.

    Raises:
        HtrError: of the type ``error``, if the file cannot be read, is no JSON or something else than ``kind``.
    """
    return parse_json(_read(path, max_bytes, error), kind, str(path), cure, error)


def parse_json(content: bytes | str, kind: type[T], name: str, cure: str, error: type[HtrError] = DataError) -> T:
    """Read JSON from memory; ``name`` stands for it in messages, the rest is as for :func:`load_json`."""
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise error(f"{name} is not valid JSON ({_in_short(reason)}); {cure}") from None
    return convert(document, kind, name, cure, error)


def load_toml(path: Path, kind: type[T], cure: str, error: type[HtrError] = DataError) -> T:
    """Read a TOML file; as :func:`load_json`."""
    content = _read(path, MAX_TOML_BYTES, error)
    try:
        return parse_toml(content.decode("utf-8"), kind, str(path), cure, error)
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8 text ({reason}); {cure}") from None


def parse_toml(text: str, kind: type[T], name: str, cure: str, error: type[HtrError] = DataError) -> T:
    """Read TOML from memory; as :func:`parse_json`."""
    if any(line.count(".") > MAX_TOML_DOTS for line in text.split("\n") if not line.startswith("#")):
        raise error(f"{name} has a line of more than {MAX_TOML_DOTS} dots; {cure}")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{name} is not valid TOML ({_in_short(reason)}); {cure}") from None
    return convert(document, kind, name, cure, error)


def convert(document: Any, kind: type[T], name: str, cure: str, error: type[HtrError] = DataError) -> T:  # noqa: ANN401
    """Return plain lists, dictionaries and values as ``kind``; as :func:`parse_json`."""
    try:
        _check_limits(document)
        return msgspec.convert(document, kind)
    except (ValueError, RecursionError) as reason:
        what, _, place = str(reason).partition(" - at ")
        raise error(f"{name} is damaged ({printable(what)}{place and f' at {printable(place)}'}); {cure}") from None


def _read(path: Path, max_bytes: int, error: type[HtrError]) -> bytes:
    try:
        return read_file(path, max_bytes)
    except FileError as reason:
        raise error(str(reason)) from None


def _check_limits(document: Any) -> None:  # noqa: ANN401
    """Raise ``ValueError`` for what is too deep, too long, or a number that JSON cannot pass on."""
    items, level = 0, [document]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
                raise ValueError("it holds an integer of more than 64 bits")
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("it holds a number that is not finite")
        items += len(inner)
        if items > MAX_ITEMS:
            raise ValueError(f"it holds more than {MAX_ITEMS} values")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _in_short(reason: Exception) -> str:
    return "it is nested too deeply" if isinstance(reason, RecursionError) else printable(str(reason))
