"""The latency tables for people, with a glossary, and the document for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from htr_bench.rows import Row, make_rows
from htr_bench.timing import PERCENTILES
from htr_engines.text import printable
from htr_export.reporting import document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from htr_bench.latency import LatencyOptions, TargetResult

SCHEMA_VERSION = 1
TITLES = {
    "engine": "Engine only: a batch in memory to logits",
    "end to end": "End to end: image files to texts",
}
UNITS = {
    "seconds": "s per call",
    "percentiles": "s per call",
    "mean": "s per call",
    "std": "s per call",
    "variation": "std / mean after trimming",
    "lines_per_second": "1/s",
    "bytes": "B",
    "before": "B",
    "memory_bytes": "B",
    "cer": "per cent",
    "cer_increase": "percentage points",
    "ratio": "median of the reference / median",
}


def make_tables(
    results: Sequence[TargetResult], options: LatencyOptions, reports: Sequence[dict[str, Any]]
) -> list[Table]:
    """Return one table for the engines alone and one from end to end."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    tables = []
    for scope in options.scopes:
        table = Table(title=f"{TITLES[scope]} (times in ms per call)", box=box.SIMPLE_HEAD, title_justify="left")
        names = [f"p{percentile}" for percentile in PERCENTILES]
        left = ("#", "engine", "file", "precision")
        right = ("batch", *names, "mean", "std", "lines/s", "x ref", "peak MB", "size MB")
        quality = ("CER %", "ΔCER") if reports else ()
        for column in (*left, *right, *quality, "status"):
            table.add_column(column, justify="left" if column in (*left, "status") else "right", no_wrap=True)
        for row in make_rows(results, scope, reports):
            cells = [*_left(row), *_right(row, names), *(_quality(row) if reports else ()), row.status]
            table.add_row(*(Text(cell) for cell in cells))
        tables.append(table)
    return tables


def _left(row: Row) -> list[str]:
    result = row.result
    engine = result.info.engine if result.info else result.target.engine or "-"
    reference = " (ref)" if result.target.is_reference else ""
    return [
        str(row.rank or "-"),
        engine + reference,
        printable(result.target.path.name),
        result.artefact.precision or "-",
    ]


def _right(row: Row, names: list[str]) -> list[str]:
    size = _number(row.result.artefact.bytes, 1e-6, 1)
    if row.measurement is None:
        return ["-"] * (len(names) + 6) + [size]
    timing, batch = row.measurement.timing, row.measurement.batch
    times = [timing.percentiles[name] for name in names] + [timing.mean, timing.std]
    peak = row.result.peaks.get(batch)
    return [
        str(batch),
        *(_number(value, 1e3, 2) for value in times),
        _number(timing.lines_per_second, 1, 1),
        _number(row.ratio, 1, 2),
        _number(peak.bytes if peak else None, 1e-6, 0),
        size,
    ]


def _quality(row: Row) -> list[str]:
    found = row.quality
    if found is None or found.cer is None or found.cer_increase is None:
        return ["-", "-"]
    return [f"{found.cer:.2f}", f"{found.cer_increase:+.3f}"]


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"


def glossary(options: LatencyOptions) -> str:
    """Return what the columns mean, one a line."""
    return f"""\
#              rank by the median within a batch size; what is unstable or failed has none
p50, p90, p99  percentiles over the calls; of fewer than 100 calls p99 is near the slowest
lines/s        batch / median
x ref          how many times as fast as the reference, by the medians
peak MB        resident memory at its highest in a process of its own, Python and libraries included
CER %, ΔCER    per cent and percentage points, from the validation reports given
unstable       the middle 80 % of calls scatter (std / mean) by more than {100 * options.max_variation:g} %, \
even in twice the time
clock          {options.clock}; wall is the time that passes, cpu that of the processor, of all threads together
not validated  no report given of this file on this engine
MB             10^6 bytes"""


def to_document(
    results: Sequence[TargetResult],
    options: LatencyOptions,
    reports: Sequence[dict[str, Any]],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Return the JSON document: raw values, units, the environment and the command."""
    rows = [row for scope in options.scopes for row in make_rows(results, scope, reports)]
    places = {id(row.measurement): row for row in rows}
    content = {
        "options": {**asdict(options), "lines_dir": options.lines_dir and str(options.lines_dir)},
        "targets": [_target(result, places) for result in results],
    }
    return document("htr-bench latency", content, units=UNITS, environment=environment, schema_version=SCHEMA_VERSION)


def _target(result: TargetResult, places: dict[int, Row]) -> dict[str, Any]:
    info = asdict(result.info) if result.info else None
    if info:
        info.pop("metadata")
    return {
        "target": printable(result.target.label),
        "file": printable(result.target.path.name),
        "is_reference": result.target.is_reference,
        "sha256": result.artefact.sha256,
        "bytes": result.artefact.bytes,
        "precision": result.artefact.precision,
        "engine": info,
        "failure": result.failure,
        "peak_memory": {str(batch): asdict(peak) for batch, peak in result.peaks.items()},
        "measurements": [{**asdict(item), **_place(places.get(id(item)))} for item in result.measurements],
    }


def _place(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {"rank": None, "ratio": None, "status": "failed", "quality": None}
    quality = asdict(row.quality) if row.quality else None
    return {"rank": row.rank, "ratio": row.ratio, "status": row.status, "quality": quality}
