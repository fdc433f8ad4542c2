"""``htr-bench chain``: seconds and memory of each step from a checkpoint to the first line that is read."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from htr_engines.checks import mark
from htr_engines.console import HtrCommand, stderr_console
from htr_engines.errors import EngineError, UnstableError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION = 1
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXPORT = (sys.executable, "-c", "from htr_export.cli import main; main()")
READ = (sys.executable, "-c", "from htr_engines.cli import main; main()")


@dataclass(frozen=True)
class Limits:
    """What a step may cost; None where nothing is promised."""

    seconds: float | None = None
    peak_bytes: float | None = None


# At the published size, on two cores.
LIMITS = {
    "strip": Limits(15, 1e9),
    "onnx": Limits(180, 4e9),
    "validate": Limits(),  # its seconds are limited by those of its two engines
    "bundle": Limits(),
    "read": Limits(3, 7e8),
}


@dataclass(frozen=True)
class Step:
    """A command that was run in a process of its own."""

    name: str
    seconds: float  # until the end; of ``read`` until the first line of text
    peak_bytes: int  # resident memory at its highest
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether the step kept its limits."""
        measured = ((self.seconds, self.limits.seconds), (self.peak_bytes, self.limits.peak_bytes))
        return all(limit is None or value <= limit for value, limit in measured)


def run_step(name: str, command: Sequence[str], limits: Limits | None = None) -> Step:
    """Run a command and measure it.

    Raises:
        EngineError: with what it said, if it does not end well.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
        assert process.stdout is not None
        with process.stdout as output:
            output.readline()
            first = time.perf_counter() - began
            output.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode:
        raise EngineError(f"{name} ended with code {process.returncode}: {said[-1] if said else 'no message'}")
    # In kilobytes on Linux. It also covers this process at the time of the fork, which holds less than any step.
    peak_bytes = usage.ru_maxrss * 1024
    return Step(name, first if name == "read" else seconds, peak_bytes, limits or LIMITS[name])


def write_checkpoint(path: Path, size: str, characters: str, width: int) -> None:
    """Write a checkpoint of the training's layout, AdamW's moments included, with random weights."""
    import torch

    from htr_export.network import PRESETS, HTRConvText, NetworkConfig

    torch.manual_seed(2512)
    config = NetworkConfig(len(characters) + 1, **PRESETS[size], image_width=width)
    state = HTRConvText(config).state_dict()
    moments = {
        number: {"step": torch.tensor(1.0), "exp_avg": tensor.clone(), "exp_avg_sq": tensor.clone()}
        for number, tensor in enumerate(state.values())
    }
    content = {
        "model": state,
        "state_dict_ema": {name: tensor.clone() for name, tensor in state.items()},
        "optimizer": {"state": moments, "param_groups": []},
        "charset": characters,
        "network": config.to_dict(),
        "nb_iter": 1,
    }
    torch.save(content, path)


def run_chain(checkpoint: Path, lines_dir: Path, list_file: Path | None, limit: int | None, work: Path) -> list[Step]:
    """Run all steps, each in a process of its own."""
    from htr_engines.lines import read_lines
    from htr_export.validation.report import load_report

    model, onnx, report, bundle = (work / name for name in ("m.safetensors", "m.onnx", "report", "m.htr"))
    first_line = read_lines(lines_dir, list_file)[0].image
    chosen = ["--list", list_file] if list_file else []
    fewer = ["--limit", limit] if limit else []
    commands: dict[str, list[object]] = {
        "strip": [*EXPORT, "strip", checkpoint, "-o", model],
        "onnx": [*EXPORT, "onnx", model, "-o", onnx],
        "validate": [
            *EXPORT,
            "validate",
            "--reference",
            model,
            "--candidate",
            onnx,
            "--lines",
            lines_dir,
            *chosen,
            *fewer,
            "--report",
            report,
        ],
        "bundle": [*EXPORT, "bundle", onnx, "-o", bundle, "--report", report],
        "read": [*READ, bundle, first_line],
    }
    steps = []
    for name, command in commands.items():
        step = run_step(name, [str(part) for part in command])
        if name == "validate":
            engines = load_report(report)["result"]["seconds"]
            limits = Limits(seconds=2 * (engines["reference"] + engines["candidate"]))
            step = Step(name, step.seconds, step.peak_bytes, limits)
        steps.append(step)
    return steps


@click.command("chain", cls=HtrCommand)
@click.option("--checkpoint", type=EXISTING_FILE, help="[default: a random one]")
@click.option("--size", type=click.Choice(["base", "small", "tiny"]), default="base", show_default=True)
@click.option("--lines", "lines_dir", required=True, type=EXISTING_FOLDER, help="Folder of line images.")
@click.option("--list", "list_file", type=EXISTING_FILE, help="Their list.")
@click.option("--limit", type=click.IntRange(min=1), help="Validate on the first N lines only.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="File for all the figures.")
@click.option("--strict", is_flag=True, help="Exit with code 4 if a limit is missed.")
def chain(
    checkpoint: Path | None,
    size: str,
    lines_dir: Path,
    list_file: Path | None,
    limit: int | None,
    json_file: Path | None,
    *,
    strict: bool,
) -> None:
    """Measure strip, onnx, validate, bundle and read against what is promised of them.

    The promises hold for the published size (base) on two cores.
    """
    from htr_engines.host import describe_environment
    from htr_export.reporting import document, write_document

    environment = describe_environment()
    with tempfile.TemporaryDirectory() as scratch, stderr_console().status("running the chain"):
        if checkpoint is None:
            checkpoint = Path(scratch) / "random.pth"
            _write_apart(checkpoint, size, lines_dir, list_file)
        steps = run_chain(checkpoint, lines_dir, list_file, limit, Path(scratch))
    for step in steps:
        click.echo(_row(step))
    if json_file:
        content = {"steps": [{**asdict(step), "passed": step.passed} for step in steps]}
        units = {"seconds": "s", "peak_bytes": "B"}
        report = document(
            "htr-bench chain", content, units=units, environment=environment, schema_version=SCHEMA_VERSION
        )
        write_document(json_file, report)
        click.echo(f"Next: all figures are in {json_file}")
    missed = [step.name for step in steps if not step.passed]
    if strict and missed:
        raise UnstableError(f"over the limit: {', '.join(missed)}; run again on a quiet machine")


def _write_apart(path: Path, size: str, lines_dir: Path, list_file: Path | None) -> None:
    """Write the random checkpoint in another process, so that this one stays small."""
    from htr_engines.lines import read_lines

    texts = (line.text or "" for line in read_lines(lines_dir, list_file))
    characters = "".join(sorted(set().union(*texts))) or "ab"
    code = "import sys, pathlib; from htr_bench.chain import write_checkpoint as w; "
    code += "w(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], 512)"
    run_step("random checkpoint", [sys.executable, "-c", code, str(path), size, characters], Limits())


def _row(step: Step) -> str:
    seconds, memory = step.limits.seconds, step.limits.peak_bytes
    return (
        f"-[{mark(step.passed)}] {step.name:9}"
        f"{step.seconds:8.2f} s {f'(limit {seconds:.0f} s)' if seconds else '':16}"
        f"{step.peak_bytes / 1e6:7.0f} MB {f'(limit {memory / 1e6:.0f} MB)' if memory else ''}"
    ).rstrip()
