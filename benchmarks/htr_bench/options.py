"""Options of the command line that hold several numbers."""

from __future__ import annotations

import click


def batch_sizes(_context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Read a Click option that is a list of whole numbers above 0, separated by commas."""
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} should be whole numbers such as {parameter.default}") from None
    if min(found) < 1:
        raise click.BadParameter(f"{value!r} should be numbers above 0")
    return tuple(dict.fromkeys(found))
