"""The command ``htr-export doctor``."""

from __future__ import annotations

import click

from htr_engines.console import HtrCommand

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
    from htr_export.doctor.report import to_json, to_lines

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
