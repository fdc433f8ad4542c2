"""Versions of libraries, drivers and releases as numbers that compare."""

from __future__ import annotations

from packaging.version import InvalidVersion, Version


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: ``2.13.0+cpu`` -> (2, 13, 0). Empty if it is not a version."""
    try:
        return Version(version).release
    except InvalidVersion:
        return ()


def short(version: str) -> str:
    """Return the first three numbers of a version: ``10.3.0.26`` -> ``10.3.0``."""
    return ".".join(map(str, release(version)[:3])) or version
