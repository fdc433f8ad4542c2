"""One page of HTML with the lines that were cut, to see at a glance whether they are the right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.files import write_text
from htr_engines.preprocess import load_pages
from htr_export.reporting import data_uri, html_environment

if TYPE_CHECKING:
    from pathlib import Path

    from htr_training.cut.command import CutReport

SHOWN = 300  # lines, spread over all pages; more would make the page slow to open
SHOWN_LEFT_OUT = 300
HEIGHT = 48  # pixels of a line on the sheet


def write_contact_sheet(report: CutReport, lines_dir: Path) -> None:
    """Write the sheet of ``report``; it holds its pictures and needs no other file."""
    lines = [*report.train, *report.val]
    shown = lines[:: -(-len(lines) // SHOWN)]
    pictures = [(line, data_uri(load_pages(lines_dir / line.name)[0], HEIGHT)) for line in shown]
    template = html_environment("htr_training.cut").get_template("contact_sheet.html.j2")
    page = template.render(
        report=report, pictures=pictures, total=len(lines), left_out=report.left_out[:SHOWN_LEFT_OUT]
    )
    write_text(report.contact_sheet, page)
