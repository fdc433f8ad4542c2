"""``htr-bench``: how fast, and how steadily, each engine reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htr_bench.gpu import gpu
from htr_bench.options import batch_sizes
from htr_engines.console import HtrGroup, echo, show_progress
from htr_engines.errors import EngineError, UnstableError
from htr_engines.options import EXISTING_FILE, EXISTING_FOLDER, figures_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from htr_bench.latency import LatencyOptions, TargetResult
    from htr_bench.targets import Target


@click.group(cls=HtrGroup)
@click.version_option(package_name="htr-export")
def main() -> None:
    """Measure models on this machine."""


main.add_command(gpu)


@main.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--reference", type=EXISTING_FILE, help="Compare the others with this MODEL.safetensors.")
@click.option("--batch", default="1,8", show_default=True, callback=batch_sizes, help="Lines in a call.")
@click.option("--duration", type=click.FloatRange(0), default=3.0, show_default=True, help="Least seconds of calls.")
@click.option("--iterations", type=click.IntRange(1), default=10, show_default=True, help="Least number of calls.")
@threads_option
@click.option("--lines", "lines_dir", type=EXISTING_FOLDER, help="Folder of line images.  [default: a drawn line]")
@click.option("--report", "reports", multiple=True, type=EXISTING_FOLDER, help="Validation report, for the CER.")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True, help="Which time.")
@figures_option
@click.option("--strict", is_flag=True, help="Exit with code 4 if a measurement is unstable.")
def latency(
    targets: tuple[str, ...],
    reference: Path | None,
    reports: tuple[Path, ...],
    json_file: Path | None,
    strict: bool,
    batch: tuple[int, ...],
    **settings: Any,  # noqa: ANN401 - the options that LatencyOptions holds under the same names
) -> None:
    """Measure TARGETs against each other: FILE or ENGINE:FILE, such as openvino:model.onnx.

    All are opened in one process and called in turns, so that a busy machine slows all alike; before that, each runs
    alone in its own process for its peak memory. The engine alone and the whole way from image file to text are
    measured separately. --duration and --iterations both have to be reached.

    --clock cpu counts this process's processor time, for a machine in use; give --threads 1 with it, since the times
    of all threads add up.

    Exit codes: 1 if a target failed, 4 with --strict if a measurement stayed unstable.
    """
    from htr_bench.latency import LatencyOptions
    from htr_bench.targets import parse_targets
    from htr_export.validation.report import load_report

    options = LatencyOptions(batches=batch, **settings)
    found = parse_targets(targets, reference)
    documents = [load_report(folder) for folder in reports]
    results = _measure(found, options, documents, json_file)
    _judge(results, strict)


def _measure(
    targets: Sequence[Target],
    options: LatencyOptions,
    reports: Sequence[dict[str, Any]],
    json_file: Path | None,
) -> list[TargetResult]:
    from htr_bench.latency import measure
    from htr_bench.table import to_document
    from htr_engines.host import describe_environment
    from htr_export.reporting import write_document

    environment = describe_environment()
    with show_progress("opening the files") as progress:
        results = measure(targets, options, progress)
    after = describe_environment()
    environment["after"] = {name: after[name] for name in ("clock_mhz", "load_average", "gpus")}
    if json_file:
        write_document(json_file, to_document(results, options, reports, environment))
    _print(results, options, reports, environment)
    if json_file:
        echo(f"Next: all figures, with every call's time, are in {json_file}")
    return results


def _print(
    results: Sequence[TargetResult],
    options: LatencyOptions,
    reports: Sequence[dict[str, Any]],
    environment: dict[str, Any],
) -> None:
    from rich.console import Console

    from htr_bench.table import glossary, make_tables
    from htr_engines.text import printable

    console = Console(highlight=False)
    for table in make_tables(results, options, reports):
        # A table that is wider than the terminal wraps, which is better than columns that are cut.
        width = console.measure(table).maximum if console.is_terminal else 250
        Console(width=max(console.width, width), highlight=False).print(table)
    for result in results:
        if result.failure is not None:
            echo(f"failed: {printable(result.target.label)}: {printable(result.failure)}")
    echo(_machine(environment))
    echo(glossary(options), several_lines=True)


def _machine(environment: dict[str, Any]) -> str:
    cores, load = environment["physical_cores"], environment["load_average"]
    text = f"Machine: {environment['cpu']}, {cores} cores, {environment['os']}"
    if load and load[0] > cores / 2:
        text += f"; it was busy before (load {load[0]:.1f}), so the times are higher than on a quiet one"
    return text


def _judge(results: Sequence[TargetResult], strict: bool) -> None:
    failed = sum(result.failure is not None for result in results)
    if failed:
        raise EngineError(f"{failed} of {len(results)} targets failed; the reasons are under the table")
    if strict and not all(item.stable for result in results for item in result.measurements):
        raise UnstableError("some measurements are unstable; run again on a quieter machine, or for longer")


if __name__ == "__main__":
    main()
