"""The command ``htr-export search``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, echo, show_progress
from htr_engines.errors import StoppedError
from htr_engines.options import ANY_PATH, threads_option
from htr_export.precision.precision_map import DEFAULT_METHOD, METHODS
from htr_export.preflight import check_output, force_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_export.precision.precision_map import Precision
    from htr_export.search.inputs import SearchRequest
    from htr_export.search.search import SearchResult

ON_PAGE_ONLY = ("work %", "mean |d|", "time")  # columns for which a terminal has no room
COLUMNS = 130  # characters that the tables need


@click.command("search", cls=HtrCommand)
@click.argument("model", type=ANY_PATH)
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The precision map to write, MAP.toml.")
@click.option("--lines", "lines_dir", required=True, type=ANY_PATH, help="Folder of line images.")
@click.option("--list", "list_file", type=ANY_PATH, help="Their list: .ln, .tsv, .csv, .jsonl.")
@click.option("--calibration-list", type=ANY_PATH, help="Other lines to calibrate on.  [default: half of the list]")
@click.option(
    "--calibration",
    type=click.Choice(METHODS),
    default=DEFAULT_METHOD,
    show_default=True,
    help="How int8 chooses where to clip.",
)
@click.option(
    "--for",
    "target",
    type=click.Choice(["onnxruntime", "openvino", "tensorrt"]),
    default="onnxruntime",
    show_default=True,
    help="Engine to be fast on.",
)
@click.option("--aim", type=click.Choice(["time", "size"]), default="time", show_default=True, help="What to save.")
@click.option(
    "--precision",
    "precisions",
    metavar="P,P...",
    callback=lambda _context, parameter, value: precisions_of(value, parameter),
    help="Precisions to try: int8, fp16, bf16.  [default: int8; for tensorrt fp16,int8]",
)
@click.option(
    "--max-cer-increase",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    help="Percentage points of CER that may be lost.",
)
@click.option(
    "--judge",
    type=click.Choice(["interval", "estimate"]),
    default="interval",
    show_default=True,
    help="What has to stay within: the 95 % interval, as in 'validate', or the estimate.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use only N lines, drawn at random.")
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    default=48,
    show_default=True,
    help="Groups of modules at most; each is tried alone.",
)
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of the tables.")
@force_option
@click.pass_context
def search_command(
    ctx: click.Context,
    /,
    output: Path,
    as_json: bool,
    force: bool,
    **settings: Any,  # noqa: ANN401 - the options that SearchRequest holds under the same names
) -> None:
    """Find which modules of MODEL (.safetensors, or .onnx in fp32) can be lowered, and write their precision map.

    Each group of modules is lowered alone, to see what that does to readings, time and size; then as many together as
    stay within the bound. The map is proven on lines that had no say in it, and not written (exit code 3) if it breaks
    the bound there. MAP.search.jsonl keeps every trial, so that the same command continues where it was stopped;
    MAP.html shows CER against time.

    'onnx --precision MAP.toml' builds the very graph that was proven, on the same lines; it refuses others.
    """
    if output.suffix != ".toml" or output.is_dir():
        raise click.UsageError(f"{output} should be a file that ends in .toml")
    check_output(output, force=force)
    from htr_export.reporting import to_json
    from htr_export.search.inputs import SearchRequest
    from htr_export.search.report import to_document, verdict, write_outputs

    result = _search(SearchRequest(output=output, **settings))
    document = to_document(result)
    write_outputs(result, document)
    if as_json:
        click.echo(to_json(document), nl=False)
    else:
        print_tables(result, document["notes"])
        echo(verdict(result))
        echo(_next_step(result), several_lines=True)
    if result.precision_map is None:
        ctx.exit(3)


def precisions_of(value: str | None, parameter: click.Parameter) -> tuple[Precision, ...]:
    """Read the option ``--precision``, such as ``fp16,int8``."""
    from htr_export.precision.precision_map import PRECISIONS

    names = [name.strip() for name in value.split(",")] if value else []
    lower: dict[str, Precision] = {precision: precision for precision in PRECISIONS if precision != "fp32"}
    for name in names:
        if name not in lower:
            raise click.BadParameter(f"{name!r} is none of {', '.join(lower)}", param=parameter)
    return tuple(dict.fromkeys(lower[name] for name in names))


def _search(request: SearchRequest) -> SearchResult:
    """Search under a progress bar on stderr."""
    from htr_export.search.search import search

    try:
        with show_progress("reading the lists") as progress:
            return search(request, progress)
    except KeyboardInterrupt:
        raise StoppedError(
            f"stopped; {request.journal} keeps what was measured, and the same command goes on from there"
        ) from None


def print_tables(result: SearchResult, notes: Sequence[str]) -> None:
    """Print the effect of each group alone and of groups together, and the notes."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from htr_engines.text import printable
    from htr_export.search.report import COMBINED_COLUMNS, SINGLE_COLUMNS, combined_rows, single_rows

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, COLUMNS)
    for columns, rows in ((SINGLE_COLUMNS, single_rows(result)), (COMBINED_COLUMNS, combined_rows(result))):
        table = Table(box=box.SIMPLE)
        shown = [number for number, column in enumerate(columns) if column not in ON_PAGE_ONLY]
        for number in shown:
            table.add_column(columns[number], justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(printable(row[number]) for number in shown))
        console.print(table)
    for note in notes:
        echo(f"Note: {printable(note)}")


def _next_step(result: SearchResult) -> str:
    request = result.request
    if result.precision_map is None:
        return f"Next: look at {request.page}"
    model = request.model if request.model.suffix == ".safetensors" else Path("MODEL.safetensors")
    listed = request.calibration_list or request.list_file
    arguments = [model, "-o", f"{request.model.stem}.mixed.onnx", "--precision", request.output]
    arguments += ["--lines", request.lines_dir, *(["--list", listed] if listed else [])]
    command = shlex.join(["htr-export", "onnx", *map(str, arguments)])
    return f"Wrote {request.output} and {request.page}\nNext: {command}"
