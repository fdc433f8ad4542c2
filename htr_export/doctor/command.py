"""The command ``htr-export doctor``: a diagnosis for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from htr_engines.checks import mark
from htr_engines.console import HtrCommand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from htr_export.doctor.examine import Ability, Diagnosis

SCHEMA_VERSION = 1
MARKS = {"ok": mark(passed=True), "warning": "!", "problem": mark(passed=False), "not there": mark(passed=None)}
STYLES = {"ok": "green", "warning": "yellow", "problem": "red", "not there": "dim", "cure": "cyan"}


@click.command("doctor", cls=HtrCommand)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """Say what this machine can build and run, and how to fix what is missing.

    Nothing is built or sent. Ends with exit code 1 only if no engine can run here.
    """
    from htr_export.doctor.examine import examine
    from htr_export.doctor.machine import Machine

    diagnosis = examine(Machine())
    if as_json:
        from htr_engines.host import describe_environment

        click.echo(to_json(diagnosis, describe_environment()), nl=False)
    else:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        for status, line in to_lines(diagnosis):
            console.print(line, style=STYLES.get(status), markup=False)
    if diagnosis.choice is None:
        ctx.exit(1)


def to_json(diagnosis: Diagnosis, environment: Mapping[str, Any]) -> str:
    """Return the diagnosis as JSON."""
    from htr_export import reporting

    content = {**asdict(diagnosis), "choice": diagnosis.choice}
    kind = "htr-export doctor"
    return reporting.to_json(reporting.document(kind, content, environment=environment, schema_version=SCHEMA_VERSION))


def to_lines(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Yield the status and the text of each line: a finding, or its cure under it, then what follows from them."""
    for finding in diagnosis.findings:
        yield finding.status, f"-[{MARKS[finding.status]}] {finding.topic}: {finding.text}"
        if finding.cure:
            yield "cure", f"      {finding.cure}"
    yield "", ""
    yield "", f"can build  {_possible(diagnosis.builds)}"
    yield "", f"can run    {_possible(diagnosis.engines)}"
    yield "", conclusion(diagnosis)


def conclusion(diagnosis: Diagnosis) -> str:
    """Return which engine htr-read takes, or what to install if there is none."""
    if diagnosis.choice is None:
        return "htr-read  finds no engine here; install one with: pip install 'htr-export[cpu]'"
    return f"htr-read   takes {diagnosis.choice} of a bundle that has a model for each of them"


def _possible(abilities: Sequence[Ability]) -> str:
    return ", ".join(ability.name for ability in abilities if ability.possible) or "nothing"
