"""What all commands share on the terminal: errors in one line, progress on stderr."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines.errors import HtrError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as Bars

    from htr_engines.progress import Progress

# The extra of the wheel that brings each package that the base install lacks.
EXPORT = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "rapidfuzz", "jinja2")
EXTRAS = {
    **dict.fromkeys(EXPORT, "export"),
    **dict.fromkeys(("fontTools", "tomli", "tensorboard"), "train"),
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "lxml": "pages",
    "huggingface_hub": "hub",
}


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


class HtrCommand(click.Command):
    """A command whose foreseeable failures end in one sentence on stderr and the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal's encoding lacks
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except HtrError as error:
            _fail(str(error), error.exit_code)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            _fail(_describe(error), 1)
        except ModuleNotFoundError as error:
            _fail(str(self._missing(error)), 1)
        except MemoryError:
            _fail("the memory ran out; give a smaller batch or free some memory", 1)

    def _missing(self, error: ModuleNotFoundError) -> MissingExtraError:
        """Return the error that names the extra which brings a package; a package of no extra is a defect."""
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise error
        training = (self.callback.__module__ if self.callback else "").startswith("htr_training")
        return MissingExtraError(package, "train" if training else EXTRAS[package])


class HtrGroup(click.Group):
    """A group of such commands."""

    command_class = HtrCommand
    group_class = type


def _fail(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


def _describe(error: OSError) -> str:
    import errno

    where = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{where}the disk is full; free some space and run the command again"
    return f"{where}{error.strerror or error}"


def stderr_console() -> Console:
    """Return a console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def progress(console: Console | None = None) -> Bars:
    """Return a progress display on stderr with elapsed and remaining time; silent where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = console or stderr_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[Progress]:
    """Show on stderr how far work is; silent where stderr is no terminal.

    Args:
        what: the first step.
    """
    with progress() as bars:
        yield _Bar(bars, what)


class _Bar:
    """One bar as a :class:`htr_engines.progress.Progress`."""

    def __init__(self, bars: Bars, what: str) -> None:
        self._bars, self._what = bars, what
        self._task = bars.add_task(what, total=None)

    def step(self, what: str) -> None:
        self._what = what
        self._bars.update(self._task, description=what)

    def total(self, amount: float | None) -> None:
        self._bars.remove_task(self._task)  # rich cannot make a known total unknown again
        self._task = self._bars.add_task(self._what, total=amount)

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)
