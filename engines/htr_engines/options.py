"""Options of the command line and the kinds of their values, which several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from htr_engines.errors import HtrError

ANY_PATH = click.Path(path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
figures_option = click.option("--json", "json_file", type=ANY_PATH, help="File for all figures.")
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all physical cores]"
)

engine_option = click.option(
    "--engine", help="What runs the model: tensorrt, openvino, ...  [default: the fastest that fits]"
)


class ModelPath(click.Path):
    """A file or a folder on this machine, or one on the Hub (``hf://OWNER/REPO``), which is downloaded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the path on this machine."""
        from htr_engines import hub

        if not str(value).startswith(hub.SCHEME):
            return super().convert(value, param, ctx)
        try:
            return hub.fetch(str(value))
        except HtrError as error:
            raise click.ClickException(str(error)) from None


class Streams(click.IntRange):
    """A number of streams, or ``auto``, which is None."""

    name = "auto|N"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Return the number."""
        return None if value == "auto" else super().convert(value, param, ctx)


streams_option = click.option(
    "--streams",
    type=Streams(),
    help="Batches at the same time, each on its share of the threads.  [default: auto, the most lines a second]",
)
