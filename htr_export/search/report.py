"""A search in words and figures: for the terminal, as JSON, as a page, and as the comment of the precision map."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from htr_engines.files import sha256_of, write_text
from htr_engines.text import printable
from htr_export.precision.precision_map import write_map
from htr_export.reporting import document, html_environment
from htr_export.search.plot import HEIGHT, WIDTH, draw_plot
from htr_export.search.search import describe_increase
from htr_export.search.timing import PROXY_COSTS
from htr_export.validation.summary import FEW_LINES

if TYPE_CHECKING:
    from htr_export.search.inputs import SearchRequest
    from htr_export.search.journal import Outcome, Trial
    from htr_export.search.search import SearchResult

SCHEMA_VERSION = 1
OPTIONS = ("calibration", "aim", "max_cer_increase", "judge", "limit", "groups", "threads", "seed")
UNITS = {
    "bytes": "B",
    "cer": "per cent",
    "cer_increase": "percentage points",
    "ratio": "time / time in float32",
}


def to_document(result: SearchResult) -> dict[str, Any]:
    """Return a search as its JSON document."""
    request, lines = result.request, result.lines
    content = {
        "passed": result.precision_map is not None,
        "verdict": verdict(result),
        "notes": notes(result),
        "options": {
            "for": request.target,
            "precisions": request.tried,
            **{name: getattr(request, name) for name in OPTIONS},
        },
        "inputs": {
            "model": {"file": printable(request.model.name), "sha256": sha256_of(request.model)},
            "list_file": printable(request.list_file.name) if request.list_file else None,
            "calibration_list": printable(request.calibration_list.name) if request.calibration_list else None,
            "key": result.key,
            "lines_listed": lines.listed,
            "calibration": asdict(lines.calibration),
            **{part.replace(" ", "_"): [line.name for line in chosen] for part, chosen in lines.parts.items()},
        },
        "float32_bytes": result.criteria.float32_bytes,
        "groups": [asdict(group) for group in result.groups],
        "alone": [_trial(trial, result) for trial in result.single_trials],
        "together": [_trial(trial, result) for trial in result.combined_trials],
        "held_back": [_trial(trial, result) for trial in result.confirmations],
        "precision_map": asdict(result.precision_map) if result.precision_map else None,
    }
    return document("htr-export search", content, units=UNITS, schema_version=SCHEMA_VERSION)


def _trial(trial: Trial, result: SearchResult) -> dict[str, Any]:
    return {**asdict(trial), "within_bound": result.criteria.holds(trial)}


def verdict(result: SearchResult) -> str:
    """Return the verdict in one sentence."""
    proof = result.confirmations[-1] if result.confirmations else None
    if result.precision_map is None or proof is None or proof.outcome is None:
        return f"FAILED: {result.reason}"
    lowered = f"{len(proof.lowered)} of {len(result.groups)} groups lowered"
    return f"PASSED: {lowered}; {_proof(result, proof.outcome)}"


def _proof(result: SearchResult, outcome: Outcome) -> str:
    before = outcome.cer - outcome.cer_increase.estimate
    return (
        f"CER {before:.3f} % -> {outcome.cer:.3f} % on {outcome.lines} held-back lines "
        f"({describe_increase(outcome)}); {_time(result, outcome)}; "
        f"file x{outcome.bytes / result.criteria.float32_bytes:.3f}"
    )


def _time(result: SearchResult, outcome: Outcome) -> str:
    latency = outcome.latency
    if result.request.target == "tensorrt":
        return f"weighted multiply-adds x{latency.ratio:.3f}, time not measured"
    spread = f"quartiles {latency.low:.3f} to {latency.high:.3f}, {latency.rounds} rounds"
    return f"processor time x{latency.score:.3f}, time x{latency.ratio:.3f} on {result.request.target} ({spread})"


def notes(result: SearchResult) -> list[str]:
    """Return what a reader of the figures has to know."""
    request, lines = result.request, result.lines
    parts = {part: len(chosen) for part, chosen in lines.parts.items()}
    said = [
        f"{parts['measuring']} lines chose the map, {parts['held back']} others proved it, by seed {request.seed}.",
        {
            "interval": "The upper end of the 95 % interval has to stay within the bound, as in 'htr-export validate'.",
            "estimate": "The estimate has to stay within the bound; its interval may reach beyond, and "
            "'htr-export validate' would then fail.",
        }[request.judge],
    ]
    if request.target == "tensorrt":
        costs = ", ".join(f"{cost:g} in {precision}" for precision, cost in PROXY_COSTS.items())
        said.append(
            f"No time was measured: for TensorRT the multiply-adds stand in for it, each counted {costs}. "
            "Lines were read on the CPU with each node's values rounded to its type, which leaves out in what "
            "precision a device sums up within a node: validate the engine on the device."
        )
    if len(result.confirmations) > 1:
        said.append(f"{len(result.confirmations)} maps were tried on the held-back lines, the best first.")
    if min(parts.values()) < FEW_LINES:
        said.append(f"An interval from fewer than {FEW_LINES} lines is rough.")
    if result.reused:
        said.append(f"{result.reused} trials were taken from the journal of an earlier run.")
    failed = [
        trial for trial in (*result.single_trials, *result.combined_trials, *result.confirmations) if trial.failure
    ]
    if failed:
        said.append(f"{len(failed)} maps could not be run, the first because {failed[0].failure}.")
    return said


def single_rows(result: SearchResult) -> list[tuple[str, ...]]:
    """Return a row for each group and precision that was tried alone."""
    work = {group.path: group.work for group in result.groups}
    rows = []
    for trial in result.single_trials:
        ((group, precision),) = trial.lowered.items()
        chosen = result.precision_map is not None and result.confirmations[-1].lowered.get(group) == precision
        row = (group, precision, f"{100 * work[group]:.1f}", *_figures(trial, result), "yes" if chosen else "")
        rows.append(row)
    return rows


def combined_rows(result: SearchResult) -> list[tuple[str, ...]]:
    """Return a row for each trial of several groups, and for each on the held-back lines."""
    return [
        (
            f"{len(trial.lowered)} group{'s' * (len(trial.lowered) > 1)}",
            trial.part,
            *_figures(trial, result),
            _status(trial, result),
        )
        for trial in (*result.combined_trials, *result.confirmations)
    ]


SINGLE_COLUMNS = (
    "group",
    "precision",
    "work %",
    "max |d|",
    "mean |d|",
    "changed",
    "CER",
    "time",
    "cost",
    "size",
    "in the map",
)
COMBINED_COLUMNS = ("lowered", "lines", "max |d|", "mean |d|", "changed", "CER", "time", "cost", "size", "")


def _figures(trial: Trial, result: SearchResult) -> tuple[str, ...]:
    outcome = trial.outcome
    if outcome is None:
        return ("-", "-", "-", "-", "-", "-", "failed")
    interval, latency = outcome.cer_increase, outcome.latency
    return (
        f"{outcome.max_abs:.2g}",
        f"{outcome.mean_abs:.2g}",
        str(outcome.changed),
        f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]",
        f"{latency.ratio:.3f} [{latency.low:.3f}, {latency.high:.3f}]" if latency.rounds else "-",
        f"{latency.score:.3f}",
        f"{outcome.bytes / result.criteria.float32_bytes:.3f}",
    )


def _status(trial: Trial, result: SearchResult) -> str:
    if trial.outcome is None:
        return "failed"
    if not result.criteria.holds(trial):
        return "breaks the bound"
    return "holds" if result.criteria.is_good(trial) else f"saves no {result.request.aim}"


def write_outputs(result: SearchResult, report: dict[str, Any]) -> None:
    """Write the page and, where one was found, the precision map."""
    request = result.request
    plot = draw_plot(
        [
            *(("alone", trial) for trial in result.single_trials),
            *(("together", trial) for trial in result.combined_trials),
            *(("proof", trial) for trial in result.confirmations),
        ],
        result.criteria,
    )
    values = {
        "document": report,
        "plot": plot,
        "size": (WIDTH, HEIGHT),
        "proxy": request.target == "tensorrt",
        "axis": _axis_of(request),
        "alone": single_rows(result),
        "together": combined_rows(result),
        "alone_columns": SINGLE_COLUMNS,
        "together_columns": COMBINED_COLUMNS,
    }
    page = html_environment("htr_export.search").get_template("search.html.j2").render(values)
    write_text(request.page, page)
    if result.precision_map is not None:
        write_map(result.precision_map, request.output, _comment(result, report))


def _axis_of(request: SearchRequest) -> str:
    if request.aim == "size":
        return "the size of the file"
    return "weighted multiply-adds, a stand-in for time" if request.target == "tensorrt" else "processor time"


def _comment(result: SearchResult, report: dict[str, Any]) -> str:
    model = report["inputs"]["model"]
    proof = result.confirmations[-1].outcome
    assert proof is not None
    paragraphs = [
        f"Found by: {printable(report['command'])}",
        f"for {model['file']}, SHA-256 {model['sha256']}, {report['created']}.",
        _proof(result, proof),
        *map(printable, report["notes"]),
    ]
    return "\n".join(line for paragraph in paragraphs for line in textwrap.wrap(paragraph, 110))
