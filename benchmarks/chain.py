"""Seconds and memory of each step from a checkpoint to the first line that is read.

python benchmarks/chain.py --lines data/dhsd/lines --list data/dhsd/val.ln --limit 100 --json chain.json
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from htr_engines.checks import mark
from htr_engines.console import HtrCommand, stderr_console
from htr_engines.errors import UnstableError
from htr_engines.options import EXISTING_FILE, EXISTING_FOLDER, figures_option
from steps import EXPORT, NO_LIMITS, READ, Limits, Step, run_step, write_results

RANDOM_CHECKPOINT = Path(__file__).with_name("random_checkpoint.py")
# At the published size, on two cores.
LIMITS = {
    "strip": Limits(15, 1e9),
    "onnx": Limits(180, 4e9),
    "validate": NO_LIMITS,  # its seconds are limited by those of its two engines
    "bundle": NO_LIMITS,
    "read": Limits(3, 7e8),
}


def chain_commands(
    checkpoint: Path, lines_dir: Path, list_file: Path | None, limit: int | None, work: Path
) -> dict[str, list[object]]:
    """Return the command of each step, whose files are in ``work``."""
    from htr_engines.lines import read_lines

    model, onnx, report, bundle = (work / name for name in ("m.safetensors", "m.onnx", "report", "m.htr"))
    first_line = read_lines(lines_dir, list_file)[0].image
    lines: list[object] = ["--lines", lines_dir]
    lines += ["--list", list_file] if list_file else []
    lines += ["--limit", limit] if limit else []
    validate = ["validate", "--reference", model, "--candidate", onnx, *lines, "--report", report, "--accept-few"]
    return {
        "strip": [*EXPORT, "strip", checkpoint, "-o", model],
        "onnx": [*EXPORT, "onnx", model, "-o", onnx],
        "validate": [*EXPORT, *validate],
        "bundle": [*EXPORT, "bundle", onnx, "-o", bundle, "--report", report],
        "read": [*READ, bundle, first_line],
    }


def run_chain(checkpoint: Path, lines_dir: Path, list_file: Path | None, limit: int | None, work: Path) -> list[Step]:
    """Run all steps, each in a process of its own; of ``read``, the time until the first line of text counts."""
    from htr_export.validation.report import load_report

    commands = chain_commands(checkpoint, lines_dir, list_file, limit, work)
    steps = {
        name: run_step(name, command, LIMITS[name], first_line=name == "read") for name, command in commands.items()
    }
    engines = load_report(work / "report")["result"]["seconds"]
    limits = Limits(seconds=2 * (engines["reference"] + engines["candidate"]))
    steps["validate"] = replace(steps["validate"], limits=limits)
    return list(steps.values())


@click.command(cls=HtrCommand)
@click.option("--checkpoint", type=EXISTING_FILE, help="[default: a random one of the published size]")
@click.option("--lines", "lines_dir", required=True, type=EXISTING_FOLDER, help="Folder of line images.")
@click.option("--list", "list_file", type=EXISTING_FILE, help="Their list.")
@click.option("--limit", type=click.IntRange(min=1), help="Validate on the first N lines only.")
@figures_option
@click.option("--strict", is_flag=True, help="Exit with code 4 if a limit is missed.")
def main(
    checkpoint: Path | None,
    lines_dir: Path,
    list_file: Path | None,
    limit: int | None,
    json_file: Path | None,
    *,
    strict: bool,
) -> None:
    """Measure strip, onnx, validate, bundle and read against their limits.

    The limits are those of the published size (base) on two cores.
    """
    from htr_engines.host import describe_environment

    environment = describe_environment()
    with tempfile.TemporaryDirectory() as scratch, stderr_console().status("running the chain"):
        if checkpoint is None:
            checkpoint = Path(scratch) / "random.pth"
            _write_random(checkpoint, lines_dir, list_file)
        steps = run_chain(checkpoint, lines_dir, list_file, limit, Path(scratch))
    for step in steps:
        click.echo(_row(step))
    content = {"steps": [{**asdict(step), "passed": step.passed} for step in steps]}
    write_results(json_file, "chain", content, {"seconds": "s", "peak_bytes": "B"}, environment)
    missed = [step.name for step in steps if not step.passed]
    if strict and missed:
        raise UnstableError(f"over the limit: {', '.join(missed)}; run again on a quiet machine")


def _write_random(path: Path, lines_dir: Path, list_file: Path | None) -> None:
    """Write the random checkpoint in another process, so that this one stays small."""
    from htr_engines.lines import read_lines

    texts = (line.text or "" for line in read_lines(lines_dir, list_file))
    characters = "".join(sorted(set().union(*texts))) or "ab"
    run_step("random checkpoint", [sys.executable, RANDOM_CHECKPOINT, path, characters])


def _row(step: Step) -> str:
    seconds, memory = step.limits.seconds, step.limits.peak_bytes
    return (
        f"-[{mark(step.passed)}] {step.name:9}"
        f"{step.seconds:8.2f} s {f'(limit {seconds:.0f} s)' if seconds else '':16}"
        f"{step.peak_bytes / 1e6:7.0f} MB {f'(limit {memory / 1e6:.0f} MB)' if memory else ''}"
    ).rstrip()


if __name__ == "__main__":
    main()
