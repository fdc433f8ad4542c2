"""The curves of a training as a page: losses and error rates over the iterations, drawn from its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from htr_engines.documents import parse_json
from htr_engines.errors import DataError
from htr_engines.files import read_file, write_text
from htr_export.plotting import Tick, draw_axis
from htr_export.reporting import html_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

WIDTH, HEIGHT = 720, 300  # of a drawing
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 40  # margins
PAGE = "report.html"
POINTS = 1000  # of a curve; more would not be seen


@dataclass(frozen=True)
class LogRow:
    """A row of ``log.jsonl``: of a stretch of training, or of a validation."""

    kind: str
    iteration: int
    total: float | None = None  # mean loss of a training line
    loss: float | None = None  # mean CTC loss of a validation line
    cer: float | None = None  # fractions
    wer: float | None = None


class Curve(NamedTuple):
    """One line of a drawing."""

    name: str
    points: str  # as SVG wants them
    last: str  # its last value


@dataclass(frozen=True)
class Drawing:
    """Curves over the iterations, in WIDTH x HEIGHT."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]


def parse_row(row: str) -> LogRow | None:
    """Read a row of the log; None if it is damaged, such as a last one cut short."""
    try:
        return parse_json(row, LogRow, "log.jsonl", "")
    except DataError:
        return None


def read_log(path: Path) -> list[LogRow]:
    """Read the rows of a log that are whole."""
    parsed = map(parse_row, read_file(path).decode("utf-8", "replace").splitlines())
    return [row for row in parsed if row is not None]


def write_page(folder: Path, title: str) -> None:
    """Draw a training's log; nothing while it has no validation.

    Args:
        folder: of the training, with ``log.jsonl``.
        title: of the page.
    """
    rows = read_log(folder / "log.jsonl")
    validations = [row for row in rows if row.cer is not None and row.wer is not None]
    if not validations:
        return
    losses = {"training": _points(rows, "total", 1), "validation, CTC": _points(rows, "loss", 1)}
    rates = {"CER": _points(rows, "cer", 100), "WER": _points(rows, "wer", 100)}
    drawings = [draw("Error rates on the validation lines, per cent", rates), draw("Loss of a line", losses)]
    best = min(validations, key=lambda row: row.cer or 0.0)
    page = (
        html_environment("htr_training")
        .get_template("curves.html.j2")
        .render(title=title, drawings=drawings, best=best, last=validations[-1], size=(WIDTH, HEIGHT))
    )
    write_text(folder / PAGE, page)


def draw(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Drawing:
    """Place curves of (iteration, value) on common axes; a curve without points is left out."""
    shown = {name: points for name, points in curves.items() if points}
    place_x, x_ticks = draw_axis([x for points in shown.values() for x, _ in points], LEFT, WIDTH - RIGHT)
    place_y, y_ticks = draw_axis([y for points in shown.values() for _, y in points], HEIGHT - BOTTOM, TOP)
    return Drawing(
        title,
        x_ticks,
        y_ticks,
        tuple(
            Curve(name, " ".join(f"{place_x(x)},{place_y(y)}" for x, y in points), f"{points[-1][1]:.4g}")
            for name, points in shown.items()
        ),
    )


def _points(rows: Sequence[LogRow], field: str, factor: float) -> list[tuple[float, float]]:
    points = [(row.iteration, factor * value) for row in rows if (value := getattr(row, field)) is not None]
    step = -(-len(points) // POINTS) or 1
    return [*points[:-1:step], *points[-1:]]
