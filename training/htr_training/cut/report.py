"""What was cut, and one page of HTML to see at a glance whether it is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from htr_engines.files import write_text
from htr_engines.pages.sheets import LeftOut  # noqa: TC001 - msgspec reads the annotations
from htr_engines.preprocess import load_page
from htr_export.reporting import data_uri, html_environment

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINES_SHOWN = 300  # lines, spread over all pages; more would make the page slow to open
MAX_SKIPPED_SHOWN = 300
HEIGHT = 48  # pixels of a line on the sheet


@dataclass(frozen=True)
class CutLine:
    """A line that was cut."""

    name: str  # of the image, in the data set's ``lines``
    text: str
    source: str  # the XML file


@dataclass(frozen=True)
class CutPage:
    """What was cut out of one page, and what was not."""

    lines: tuple[CutLine, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class CutReport:
    """What was cut, and what was not."""

    train: tuple[CutLine, ...]
    val: tuple[CutLine, ...]
    left_out: tuple[LeftOut, ...]
    pages: int
    contact_sheet: Path

    @cached_property
    def reasons(self) -> dict[str, int]:
        """Reason -> number of lines skipped for it."""
        return dict(Counter(left.reason for left in self.left_out if left.line).most_common())

    @cached_property
    def lost_pages(self) -> tuple[LeftOut, ...]:
        """The pages that were skipped whole."""
        return tuple(left for left in self.left_out if not left.line)


def write_contact_sheet(report: CutReport, lines_dir: Path) -> None:
    """Write the sheet of ``report``; it holds its pictures and needs no other file."""
    lines = [*report.train, *report.val]
    shown = lines[:: -(-len(lines) // MAX_LINES_SHOWN)]
    pictures = [(line, data_uri(load_page(lines_dir / line.name), HEIGHT)) for line in shown]
    template = html_environment("htr_training.cut").get_template("contact_sheet.html.j2")
    page = template.render(
        report=report, pictures=pictures, total=len(lines), left_out=report.left_out[:MAX_SKIPPED_SHOWN]
    )
    write_text(report.contact_sheet, page)
