"""Runs a command in a process of its own and holds what it took against what is promised."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from htr_engines.errors import EngineError
from htr_export.reporting import document, write_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EXPORT = (sys.executable, "-c", "from htr_export.cli import main; main()")
READ = (sys.executable, "-c", "from htr_engines.cli import main; main()")


@dataclass(frozen=True)
class Limits:
    """What a step may cost; None where nothing is promised."""

    seconds: float | None = None
    peak_bytes: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Step:
    """A command that was run in a process of its own."""

    name: str
    seconds: float  # until its first line of output or until its end
    peak_bytes: int  # resident memory at its highest
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether the step kept its limits."""
        measured = ((self.seconds, self.limits.seconds), (self.peak_bytes, self.limits.peak_bytes))
        return all(limit is None or value <= limit for value, limit in measured)


def run_step(name: str, command: Sequence[object], limits: Limits = NO_LIMITS, *, first_line: bool = False) -> Step:
    """Run a command and measure it until its end, or until its first line of output.

    Raises:
        EngineError: with the last line of its error output, if it fails.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
        assert process.stdout is not None
        with process.stdout as output:
            output.readline()
            until_first = time.perf_counter() - began
            output.read()
        _, status, usage = os.wait4(process.pid, 0)
        until_end = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        messages = errors.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode:
        last = messages[-1] if messages else "no message"
        raise EngineError(f"{name} ended with code {process.returncode}: {last}")
    # In kilobytes on Linux. It also covers this process at the time of the fork, which holds less than any step.
    return Step(name, until_first if first_line else until_end, usage.ru_maxrss * 1024, limits)


def write_results(
    path: Path | None, kind: str, content: dict[str, Any], units: dict[str, str], environment: dict[str, Any]
) -> None:
    """Write the figures as JSON; without a path nothing is written."""
    if path is None:
        return
    write_document(path, document(f"htr-bench {kind}", content, units=units, environment=environment))
    click.echo(f"Next: all figures are in {path}")
