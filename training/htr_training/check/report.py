"""Show what a check found: as tables on the terminal, or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.checks import mark
from htr_engines.text import printable
from htr_export import reporting
from htr_training.check.check import ERRORS, WARNINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from htr_training.check.check import CheckReport

SCHEMA_VERSION = 1
BAR_WIDTH = 40  # characters of the longest bar of the histogram
MAX_ROWS = 15  # of the histogram, at most
MAX_EXAMPLES = 3  # lines named for each kind of finding
RARE_BELOW = 5  # characters seen fewer times are named


def to_json(report: CheckReport) -> str:
    """Return the whole report as JSON."""
    content = {
        "passed": not report.errors,
        "lines": dict(report.lines),
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [
            {"kind": found.kind, "list": found.list_name, "name": found.name, "detail": found.detail}
            for found in report.findings
        ],
        "lengths": {str(length): count for length, count in report.lengths.items()},
        "characters": dict(report.characters),
        "outside_charset": dict(report.outside),
    }
    return reporting.to_json(reporting.document("htr-train check", content, schema_version=SCHEMA_VERSION))


def show(report: CheckReport, console: Console) -> None:
    """Print the report."""
    from rich.markup import escape
    from rich.table import Table

    for name, count in report.lines.items():
        console.print(f"{count:7d} lines{' in ' + escape(printable(name)) if name else ''}")
    rare = {character: count for character, count in report.characters.items() if count < RARE_BELOW}
    for counts, text in (
        (report.characters, "different characters"),
        (rare, f"of them seen fewer than {RARE_BELOW} times: {_spell(rare)}"),
        (report.outside, f"of them outside the character set: {_spell(report.outside)}"),
    ):
        if counts:
            console.print(f"{len(counts):7d} {text}", markup=False, highlight=False)
    if report.findings:
        table = Table("", "lines", "what", "for example")
        for sign, kinds in ((f"[red]{mark(passed=False)}", ERRORS), ("[yellow]!", WARNINGS)):
            for kind, text in kinds.items():
                found = [finding for finding in report.findings if finding.kind == kind]
                if found:
                    examples = "\n".join(printable(f"{one.name}: {one.detail}") for one in found[:MAX_EXAMPLES])
                    table.add_row(sign, str(len(found)), text, escape(examples))
        console.print(table)
    console.print("characters per line")
    for label, count, bar in histogram(report.lengths):
        console.print(f"{label:>9} {count:7d} {bar}", highlight=False)


def histogram(lengths: Mapping[int, int]) -> list[tuple[str, int, str]]:
    """Return rows of (range of lengths, number of lines, bar), at most :data:`MAX_ROWS`."""
    if not lengths:
        return []
    step = -(-(max(lengths) + 1) // MAX_ROWS)
    counts = [0] * (max(lengths) // step + 1)
    for length, count in lengths.items():
        counts[length // step] += count
    rows = []
    for number, count in enumerate(counts):
        start, stop = number * step, number * step + step - 1
        label = str(start) if start == stop else f"{start}-{stop}"
        rows.append((label, count, "█" * round(BAR_WIDTH * count / max(counts))))
    return rows


def _spell(characters: Mapping[str, int]) -> str:
    return ", ".join(f"{character!r} {count}" for character, count in characters.items())
