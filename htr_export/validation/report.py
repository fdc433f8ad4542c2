"""The report folder: ``report.json`` for programs, ``report.md`` and ``report.html`` for people, samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from htr_engines.checks import mark
from htr_engines.documents import Sha256, convert, load_json
from htr_engines.errors import DataError
from htr_engines.files import atomic_path, is_file, sha256_of, write_text
from htr_engines.preprocess import load_page
from htr_engines.text import printable
from htr_export.reporting import (
    compare_texts,
    data_uri,
    document,
    encode_png,
    html_environment,
    write_document,
)
from htr_export.validation.result import Rates  # noqa: TC001 - msgspec reads the annotations
from htr_export.validation.statistics import Interval  # noqa: TC001 - likewise
from htr_export.validation.summary import fact_rows, notes, rate_rows, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from htr_engines.backends.base import EngineInfo, ModelFile
    from htr_engines.lines import Line
    from htr_engines.preprocess import Alpha
    from htr_export.validation.result import LineRecord, ValidationResult

SCHEMA_VERSION = 1
UNITS = {"rates": "per cent", "increases": "percentage points", "seconds": "s", "bytes": "B"}
SAMPLES = 3  # lines saved for the golden vectors of a bundle
SHOWN = 300  # changed lines that the page shows, which keeps it under some 10 MB
IMAGE_HEIGHT = 64  # pixels, on the page


@dataclass(frozen=True)
class Side:
    """One of the two that were compared."""

    file: str
    sha256: str
    bytes: int
    engine: str
    version: str
    device: str
    threads: int
    precision: str


@dataclass(frozen=True)
class Inputs:
    """What went into a validation."""

    reference: Side
    candidate: Side
    list_file: str | None
    list_sha256: str | None
    lines_listed: int
    lines_sha256: str  # over the names, images and transcripts of the lines that were read
    decoding: dict[str, Any] | None = None  # that both were read with; None: greedy
    decoder: str = "greedy"  # the same in words


@dataclass(frozen=True)
class EngineVerdict:
    """What came of the candidate on one engine."""

    engine: str
    passed: bool | None  # None: it was not tried
    verdict: str  # or why it was not tried


@dataclass(frozen=True)
class _Candidate:
    file: str
    sha256: Sha256
    engine: str


@dataclass(frozen=True)
class _ReportInputs:
    candidate: _Candidate
    lines_sha256: str
    decoding: Any = None  # None: greedy


@dataclass(frozen=True)
class _Options:
    max_cer_increase: float


@dataclass(frozen=True)
class _Result:
    mode: str
    lines: int
    changed: int
    options: _Options
    reference_rates: Rates | None
    candidate_rates: Rates
    cer_increase: Interval
    wer_increase: Interval


@dataclass(frozen=True)
class _Sample:
    file: str


@dataclass(frozen=True)
class _Report:
    """What others read of a report."""

    passed: bool
    verdict: str
    created: str
    inputs: _ReportInputs
    result: _Result
    samples: tuple[_Sample, ...]
    engines: tuple[EngineVerdict, ...] = ()


def describe_side(model: ModelFile, info: EngineInfo, precision: str) -> Side:
    """Return the facts of a model file and of the engine that ran it."""
    return Side(
        file=printable(model.path.name),
        sha256=model.sha256,
        bytes=model.path.stat().st_size if model.loaded is None else len(model.loaded),
        engine=info.engine,
        version=info.version,
        device=info.device,
        threads=info.threads,
        precision=precision,
    )


def to_document(result: ValidationResult, inputs: Inputs, engines: Sequence[EngineVerdict] = ()) -> dict[str, Any]:
    """Return a validation as the JSON document of the report."""
    content = {
        "passed": result.passed,
        "verdict": verdict(result),
        "notes": notes(result, inputs.lines_listed, inputs.decoder),
        "inputs": asdict(inputs),
        "engines": [asdict(one) for one in engines],
        "result": asdict(result),
        "samples": [],
    }
    return document("htr-export validation", content, units=UNITS, schema_version=SCHEMA_VERSION)


def write_report(
    folder: Path,
    result: ValidationResult,
    report: dict[str, Any],
    lines: Sequence[Line],
    *,
    alpha: Alpha = "white",
) -> None:
    """Write the report; other files in the folder stay as they are.

    ``report.json`` comes last: where it is, the rest is.
    """
    prepare_folder(folder)
    images = {line.name: line.image for line in lines}
    samples = _write_samples(folder, result.records[:SAMPLES], images, alpha)
    report = {**report, "samples": samples}
    changed = sorted((record for record in result.records if record.changed), key=_worsening, reverse=True)
    values = {
        "document": report,
        "result": result,
        "rate_rows": rate_rows(result),
        "fact_rows": fact_rows(result),
        "mark": mark,
        "changed": [_changed_line(record, images[record.name], alpha) for record in changed[:SHOWN]],
        "not_shown": len(changed) - len(changed[:SHOWN]),
    }
    templates = html_environment("htr_export.validation")
    write_text(folder / "report.html", templates.get_template("report.html.j2").render(values))
    write_text(folder / "report.md", templates.get_template("report.md.j2").render(values))
    write_document(folder / "report.json", report)


def engine_folder(folder: Path, engine: str) -> Path:
    """Return the folder of the report on a further engine, beside that on the first."""
    return folder.with_name(f"{folder.name}-{engine}")


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report, so that a wrong path is found before the long work."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give a folder for the report")
    folder.mkdir(parents=True, exist_ok=True)


def load_report(folder: Path) -> dict[str, Any]:
    """Read the document of a report.

    Raises:
        DataError: if there is none, or none that this release knows.
    """
    path, cure = folder / "report.json", "run htr-export validate again"
    if not is_file(path):
        raise DataError(f"{folder} holds no report.json; make it with: htr-export validate --report {folder}")
    report = load_json(path, dict[str, Any], cure)
    if report.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{path} is no validation report of schema version {SCHEMA_VERSION}; validate again")
    convert(report, _Report, str(path), cure)
    return report


def _write_samples(
    folder: Path, records: Sequence[LineRecord], images: dict[str, Path], alpha: Alpha
) -> list[dict[str, str]]:
    samples = []
    for number, record in enumerate(records, 1):
        target = folder / "samples" / f"line-{number}.png"
        with atomic_path(target) as temporary:
            temporary.write_bytes(encode_png(load_page(images[record.name], alpha)))
        file = f"samples/{target.name}"
        samples.append({"file": file, "sha256": sha256_of(target), "name": record.name, "text": record.candidate})
    return samples


def _worsening(record: LineRecord) -> tuple[int, float]:
    """Order the lines that lost most first."""
    reference, candidate = record.reference_errors, record.candidate_errors
    return (candidate.char_edits - reference.char_edits if reference and candidate else 0, record.max_abs)


def _changed_line(record: LineRecord, image: Path, alpha: Alpha) -> dict[str, Any]:
    truth = record.truth
    return {
        "record": record,
        "image": data_uri(load_page(image, alpha), IMAGE_HEIGHT),
        "reference": compare_texts(record.reference if truth is None else truth, record.reference),
        "candidate": compare_texts(record.reference if truth is None else truth, record.candidate),
        "change": compare_texts(record.reference, record.candidate),
    }
