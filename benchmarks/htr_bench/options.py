"""Options of the command line that hold several numbers."""

from __future__ import annotations

import click


def numbers(_context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Read a Click option that is a list of numbers above 0, separated by commas."""
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} should be numbers such as {parameter.default}") from None
    if not all(number > 0 for number in found):
        raise click.BadParameter(f"{value!r} should be numbers above 0")
    return found


def batch_sizes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Read a Click option that is a list of whole numbers above 0."""
    found = numbers(context, parameter, value)
    if not all(number.is_integer() for number in found):
        raise click.BadParameter(f"{value!r} should be whole numbers")
    return tuple(dict.fromkeys(int(number) for number in found))


def percentiles(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Read a Click option that is a list of percentiles."""
    found = numbers(context, parameter, value)
    if any(number > 100 for number in found):  # noqa: PLR2004
        raise click.BadParameter(f"{value!r} should be numbers up to 100")
    return tuple(dict.fromkeys(found))
