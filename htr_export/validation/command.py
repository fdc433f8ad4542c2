"""The command ``htr-export validate``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, echo, show_progress
from htr_engines.options import ANY_PATH, threads_option
from htr_export.preflight import check_lines, lm_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from htr_export.validation.run import Validation, ValidationRequest

MIN_CHARACTERS = 400  # of the lines, below which a pass means little: one edit is a quarter point of CER
LISTED = 10  # left-out lines named on the terminal; the report names all


def lines_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say on which lines to validate, and how much may be lost."""
    for option in (
        click.option("--accept-few", is_flag=True, help=f"Judge by fewer than {MIN_CHARACTERS} characters too."),
        click.option("--limit", type=click.IntRange(min=1), help="Use only the first N lines."),
        click.option(
            "--max-cer-increase",
            type=click.FloatRange(min=0),
            default=0.1,
            show_default=True,
            help="Percentage points of CER that the 95 % interval may reach.",
        ),
        click.option("--list", "list_file", type=ANY_PATH, help="Their list: .ln, .tsv, .csv, .jsonl."),
        click.option("--lines", "lines_dir", required=True, type=ANY_PATH, help="Folder of line images."),
    ):
        command = option(command)
    return command


@click.command("validate", cls=HtrCommand)
@click.option("--reference", required=True, type=ANY_PATH, help="What is right: MODEL.safetensors.")
@click.option("--candidate", required=True, type=ANY_PATH, help="What to judge, such as MODEL.onnx.")
@lines_options
@lm_option
@click.option("--report", type=ANY_PATH, help="Folder for the report.")
@threads_option
@click.option("--engine", help="What runs the candidate: openvino, onnxruntime-cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of the tables.")
@click.pass_context
def validate_command(
    ctx: click.Context,
    /,
    lines_dir: Path,
    list_file: Path | None,
    max_cer_increase: float,
    *,
    accept_few: bool,
    as_json: bool,
    **settings: Any,  # noqa: ANN401 - the options that ValidationRequest holds under the same names
) -> None:
    """Prove on your own lines that an artefact still reads what its reference reads.

    Passes (exit code 0) when the upper end of the 95 % interval of the increase in CER is at most the bound,
    all logits are finite and no line's logits depend on its batch. With --lm a beam search that reads worse than
    greedy decoding does not pass either. Fails with exit code 3, also on too few lines.

    The engine 'rounding' runs fp16 and bf16 graphs on the CPU with every value rounded, as a device rounds it.
    """
    check_lines(lines_dir, list_file)
    from htr_export.validation.parity import ValidationOptions
    from htr_export.validation.run import ValidationRequest, validate_files

    options = ValidationOptions(max_cer_increase, min_characters=0 if accept_few else MIN_CHARACTERS)
    request = ValidationRequest(lines_dir=lines_dir, list_file=list_file, options=options, **settings)
    with show_progress("opening the engines") as progress:
        validation = validate_files(request, progress)
    if as_json:
        from htr_export.reporting import to_json

        click.echo(to_json(validation.document), nl=False)
    else:
        print_summary(validation, request)
    if not validation.result.passed:
        ctx.exit(3)


def print_summary(validation: Validation, request: ValidationRequest) -> None:
    """Print the tables, the checks, the verdict and what to do next."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from htr_engines.text import printable
    from htr_export.validation.summary import fact_rows, rate_rows, verdict

    result = validation.result
    rates = Table(box=box.SIMPLE)
    for column in ("", "reference", "candidate", "difference [95 % interval]"):
        rates.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in rate_rows(result):
        rates.add_row(*map(printable, row))
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    for fact in fact_rows(result):
        facts.add_row(*map(printable, fact))
    console = Console(highlight=False)
    console.print(rates, facts, "", sep="\n")
    for line in result.skipped[:LISTED]:
        echo(f"skipped: {printable(line.reason)}")
    if len(result.skipped) > LISTED:
        echo(f"skipped: {len(result.skipped) - LISTED} more")
    for note in validation.document["notes"]:
        echo(f"Note: {note}")
    for check in result.checks:
        echo(check)
    echo(verdict(result))
    echo(_next_step(result.passed, request))


def _next_step(passed: bool, request: ValidationRequest) -> str:
    if request.report is None:
        return "Next: add --report DIR to see the changed lines and to let a bundle carry the proof"
    if not passed or request.candidate.suffix not in {".onnx", ".plan"}:
        return f"Next: look at {request.report / 'report.html'}"
    bundle = f"{request.candidate.name.split('.')[0]}.htr"
    arguments = ["bundle", str(request.candidate), "-o", bundle, "--report", str(request.report)]
    return f"Next: {shlex.join(['htr-export', *arguments])}"
