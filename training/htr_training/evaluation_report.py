"""An evaluation as files: ``report.json`` for programs, ``lines.tsv`` for tables, ``report.html`` to see."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from htr_engines.files import write_text
from htr_engines.text import printable
from htr_export.reporting import compare_texts, data_uri, document, html_environment, write_document
from htr_training.readings import by_character, by_length, by_writer, calibration, confusions

if TYPE_CHECKING:
    from pathlib import Path

    from htr_training.data import FittedLines
    from htr_training.readings import Evaluation, ReadLine

SCHEMA_VERSION = 1
WORST = 20  # lines with pictures; lines.tsv has all
SHOWN = 15  # rows of the other tables; report.json has all


@dataclass(frozen=True)
class Source:
    """What was evaluated on what, for the record."""

    checkpoint: str  # file name
    sha256: str
    weights: str  # "ema" or "model"
    iteration: str  # empty if unknown
    data: str  # the list's file name


def to_document(evaluation: Evaluation, source: Source) -> dict[str, Any]:
    """Return everything that is known, rates as fractions."""
    lines = evaluation.lines
    content = {
        "source": asdict(source),
        "lines": len(lines),
        "cer": evaluation.counts.cer,
        "wer": evaluation.counts.wer,
        "loss": evaluation.loss,
        "counts": asdict(evaluation.counts),
        "by_writer": [{**asdict(group), "cer": group.counts.cer} for group in by_writer(lines)],
        "by_length": [{**asdict(group), "cer": group.counts.cer} for group in by_length(lines)],
        "by_character": [{**asdict(item), "rate": item.rate} for item in by_character(lines)],
        "confusions": [asdict(item) for item in confusions(lines)],
        "calibration": [asdict(item) for item in calibration(lines)],
        "readings": [{**asdict(line), "cer": line.counts.cer} for line in lines],
    }
    units = {"cer": "fraction", "wer": "fraction", "rate": "fraction", "loss": "nats per line"}
    return document("htr-train evaluation", content, units=units, schema_version=SCHEMA_VERSION)


def to_table(evaluation: Evaluation) -> str:
    """Return one row a line, tab-separated, the worst first."""
    rows = ["cer\tconfidence\tloss\tname\ttruth\tprediction"]
    for line in worst_first(evaluation):
        texts = (printable(text) for text in (line.name, line.truth, line.prediction))
        rows.append(f"{line.counts.cer:.4f}\t{line.confidence:.4f}\t{line.loss:.4f}\t" + "\t".join(texts))
    return "".join(f"{row}\n" for row in rows)


def worst_first(evaluation: Evaluation) -> list[ReadLine]:
    """Return the lines by falling character error rate, ties by falling loss."""
    return sorted(evaluation.lines, key=lambda line: (-line.counts.cer, -line.loss))


def write_report(folder: Path, evaluation: Evaluation, source: Source, lines: FittedLines) -> None:
    """Write the three files.

    Args:
        folder: made if it is missing.
        evaluation: of ``lines``.
        source: for the record.
        lines: where the pictures of the worst lines come from.
    """
    report = to_document(evaluation, source)
    write_document(folder / "report.json", report)
    write_text(folder / "lines.tsv", to_table(evaluation))
    numbers = {line.name: number for number, line in enumerate(lines.lines)}
    worst = [
        {
            "line": line,
            "picture": data_uri(lines[numbers[line.name]], lines.spec.height),
            "pieces": compare_texts(line.truth, line.prediction),
        }
        for line in worst_first(evaluation)[:WORST]
        if line.counts.char_edits
    ]
    page = html_environment("htr_training").get_template("evaluation.html.j2")
    html = page.render(document=report, worst=worst, shown=SHOWN)
    write_text(folder / "report.html", html)
