"""What all commands share on the terminal: errors in one line, progress on stderr."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import click

from htr_engines.errors import HtrError, MissingExtraError, ParityError, StoppedError, one_line
from htr_engines.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as Bars

    from htr_engines.progress import Progress

HELP = {"help_option_names": ["-h", "--help"]}
_VERBOSITY = "htr_engines.verbosity"  # in the context that a command and its callbacks share
# The extra of the wheel that brings each package that the base install lacks.
EXPORT = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "rapidfuzz", "jinja2")
EXTRAS = {
    **dict.fromkeys(EXPORT, "export"),
    **dict.fromkeys(("fontTools", "tomli", "tensorboard"), "train"),
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "lxml": "pages",
    "huggingface_hub": "hub",
    **dict.fromkeys(("ray", "pyarrow"), "ray"),
    **dict.fromkeys(("starlette", "uvicorn", "prometheus_client", "multipart"), "serve"),
}


@contextlib.contextmanager
def _told_of_closed_output() -> Iterator[None]:
    """Click ends without a word where the reader of its output has gone."""
    try:
        yield
    except BrokenPipeError:
        raise OSError(errno.EIO, "the standard output was closed before all was written") from None


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, its temporary files removed, whatever a library makes of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except StoppedError:
        raise
    except Exception:
        if received:
            raise click.Abort from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Guarded(click.Command):
    """Ends every foreseeable failure in one sentence on stderr and the exit code of its kind."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401
        settings["context_settings"] = HELP | (settings.get("context_settings") or {})
        super().__init__(*arguments, **settings)

    def main(self, *args: Any, **settings: Any) -> Any:  # noqa: ANN401
        """Run the command line and exit."""
        if sys.stdout is None:
            _fail("the standard output is closed; leave it open, or redirect it to a file", 1)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names of files may hold what the terminal's encoding lacks
                stream.reconfigure(errors="backslashreplace")
        warnings.filterwarnings("ignore", module=r"PIL\b")  # of damaged images, which get a sentence of ours
        try:
            with _signals_as_interrupts():
                code = self._run(args, settings)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _fail_usage(error)
        except HtrError as error:
            _fail(str(error), error.exit_code, several_lines=isinstance(error, ParityError))
        except click.Abort:
            _fail("stopped before it was done; run the command again", StoppedError.exit_code)
        except (OSError, ModuleNotFoundError, MemoryError, RecursionError) as error:
            _fail(self._describe(error), 1)
        sys.exit(code if isinstance(code, int) else 0)

    def _run(self, args: Any, settings: Any) -> Any:  # noqa: ANN401
        try:
            return super().main(*args, **{**settings, "standalone_mode": False})
        finally:
            sys.stdout.flush()  # here, where a failure can still be reported

    def make_context(self, *args: Any, **settings: Any) -> click.Context:  # noqa: ANN401
        """Read the arguments; ``--help`` prints here."""
        with _told_of_closed_output():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command."""
        with _told_of_closed_output():
            return super().invoke(ctx)

    def _describe(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return _describe_system_error(error)
        if isinstance(error, ModuleNotFoundError):
            return str(self._missing(error))
        if isinstance(error, MemoryError):
            return "the memory ran out; give a smaller batch or free some memory"
        return "a file is nested too deeply to be read; leave it out"

    def _missing(self, error: ModuleNotFoundError) -> MissingExtraError:
        """Return the error that names the extra which brings a package; a package of no extra is a defect."""
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise error
        training = (self.callback.__module__ if self.callback else "").startswith("htr_training")
        return MissingExtraError(package, "train" if training else EXTRAS[package])


class HtrCommand(_Guarded):
    """A command whose foreseeable failures end in one sentence on stderr and the exit code of their kind.

    All have ``-h``, ``-q`` (results and errors only) and ``-v`` (more, and tracebacks of errors).
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **settings)
        for names, level, text in (
            (["-q", "--quiet"], -1, "Print results and errors only."),
            (["-v", "--verbose"], 1, "Say more: why an engine was chosen, where an error comes from."),
        ):
            self.params.append(_verbosity_option(names, level, text))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run the command."""
        try:
            return super().invoke(ctx)
        except HtrError:
            if verbosity() > 0:
                traceback.print_exc()
            raise


class HtrGroup(_Guarded, click.Group):
    """A group of such commands."""

    command_class = HtrCommand
    group_class = type


def verbosity() -> int:
    """Return -1 under ``--quiet``, 1 under ``--verbose``, else 0."""
    context = click.get_current_context(silent=True)
    level: int = context.meta.get(_VERBOSITY, 0) if context else 0
    return level


def hint(*words: str, prefix: str = "next  ") -> None:
    """Print a command to go on with, quoted for the shell; nothing under ``--quiet``."""
    if verbosity() >= 0:
        echo(f"{prefix}{shlex.join(words)}")


def _verbosity_option(names: list[str], level: int, text: str) -> click.Option:
    def remember(context: click.Context, _option: click.Parameter, given: bool) -> None:
        if given:
            context.meta[_VERBOSITY] = level

    return click.Option(names, is_flag=True, expose_value=False, callback=remember, help=text)


def echo(message: object, *, err: bool = False, several_lines: bool = False) -> None:
    """Print a line in which nothing from outside can break the line or reach the terminal as a command.

    Line breaks become spaces unless there are to be ``several_lines``.
    """
    rows = str(message).split("\n") if several_lines else [str(message)]
    text = "\n".join(map(printable, rows))
    if stderr_console.cache_info().currsize and (sys.stderr if err else sys.stdout).isatty():
        console = stderr_console()
        if console.is_terminal:  # the one that may show a bar, above which the text then goes
            console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
            return
    click.echo(text, err=err)


def _fail_usage(error: click.ClickException) -> NoReturn:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context:
        click.echo(f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n", err=True)
    _fail(error.format_message(), error.exit_code)


def _fail(message: str, code: int, *, several_lines: bool = False) -> NoReturn:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # what is left in the buffer would be tried again at the end, with a traceback
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    echo(f"Error: {message}", err=True, several_lines=several_lines)
    sys.exit(code)


def _describe_system_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{where}the disk is full; free some space and run the command again"
    if error.errno == errno.EPIPE:
        return "the standard output was closed before all was written"
    return f"{where}{error.strerror or one_line(error)}"


@functools.cache
def stderr_console() -> Console:
    """Return the console on stderr; there is one, so that a bar and what is printed know of each other."""
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
        disable=not console.is_terminal or verbosity() < 0,
        redirect_stdout=False,  # results go there, or by echo above the bar
        transient=True,
    )


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[Progress]:
    """Show on stderr how far work is; silent where stderr is no terminal."""
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
