"""The command ``htr-export triton``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from htr_engines.console import HtrCommand, echo, hint
from htr_engines.options import ANY_PATH, ModelPath

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=HtrCommand)
@click.argument("bundle", type=ModelPath())
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The folder to write.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Of the network.")
@click.option("--python", is_flag=True, help="Run the network on an engine of htr-export, such as OpenVINO.")
@click.option(
    "--max-batch", type=click.IntRange(1, 1024), default=16, show_default=True, help="Lines per run, at most."
)
@click.option("--queue", type=click.IntRange(min=1), default=256, show_default=True, help="Requests that may wait.")
@click.option("--instances", type=click.IntRange(min=1), help="Of the network.  [default: as measured by the bundle]")
def triton_command(
    bundle: Path,
    output: Path,
    device: str,
    python: bool,
    max_batch: int,
    queue: int,
    instances: int | None,
) -> None:
    """Write BUNDLE as a model repository of NVIDIA Triton, with a README that starts it by one docker run."""
    from htr_export.preflight import check_output
    from htr_export.triton.repository import TritonOptions, write_repository

    check_output(output, force=False)
    what = write_repository(bundle, output, TritonOptions(device, python, max_batch, queue, instances))
    echo(f"wrote    {output}: {what}")
    hint("cat", str(output / "README.md"), prefix="next     ")
