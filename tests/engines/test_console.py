"""Failures that a user can cure end in one line that says how."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from htr_engines.console import HtrCommand, echo
from htr_engines.errors import DataError, ParityError


def failing(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return HtrCommand("fail", callback=fail)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.onnx"), "a.onnx: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "b.pth"), "b.pth: Permission denied"),
        (MemoryError(), "memory ran out"),
        (ModuleNotFoundError("no", name="openvino.runtime"), "pip install 'htr-export[openvino]'"),
    ],
)
def test_foreseeable_failures(error, said):
    result = CliRunner().invoke(failing(error), [])
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("error", [ModuleNotFoundError("no", name="htr_export.typo"), ZeroDivisionError()])
def test_defects_are_not_hidden(error):
    assert CliRunner().invoke(failing(error), []).exception is error


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("htr_export", ["strip", "CHECKPOINT", "-o", "x.safetensors"], "export"),
        ("htr_training", ["evaluate", "CHECKPOINT", "--lines", "."], "train"),
    ],
)
def test_a_command_without_pytorch_names_the_extra(tmp_path, checkpoint, module, arguments, extra):
    code = f"import sys\nsys.modules['torch'] = None\nfrom {module}.cli import main\nmain()"
    given = [str(checkpoint) if each == "CHECKPOINT" else each for each in arguments]
    result = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    needed = f"Error: this needs the Python package 'torch'; install it with: pip install 'htr-export[{extra}]'\n"
    assert result.stderr == needed
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    from rich.console import Console

    from htr_engines import console

    for terminal in (True, False):
        shown = Console(file=io.StringIO(), force_terminal=terminal, width=100)
        monkeypatch.setattr(console, "stderr_console", lambda shown=shown: shown)
        with console.show_progress("opening") as progress:
            progress.step("reading lines")
            progress.total(4)
            progress.advance(3)
        assert ("reading lines" in shown.file.getvalue()) is terminal
        assert ("3/4" in shown.file.getvalue()) is terminal


@pytest.mark.parametrize("arguments", [["--help"], [], ["x.htr"]])
@pytest.mark.parametrize("how", ["full", "closed", "broken"])
def test_output_that_cannot_be_written_ends_in_a_sentence_and_not_in_0(arguments, how, tmp_path):
    command = [sys.executable, "-c", "from htr_engines.cli import main; main()", *arguments]
    if how == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        reader, writer = os.pipe()
        os.close(reader)
        stdout = {"full": full, "closed": None, "broken": writer}[how]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
        os.close(writer)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "Error: " in done.stderr


def test_text_from_outside_cannot_command_the_terminal_or_break_the_line():
    evil = "a\x1b]0;title\x07\nb\x9b31m\u202ec\u2028d\udce9"
    for error in (DataError(f"{evil} does not exist"), OSError(errno.EACCES, "no", evil), click.UsageError(evil)):
        result = CliRunner().invoke(failing(error), [])
        assert result.stderr.rstrip("\n").split("Error: ")[1].isprintable()
        assert "\\u001b" in result.stderr
    result = CliRunner().invoke(HtrCommand("say", callback=lambda: echo(evil)), [])
    assert result.stdout.count("\n") == 1
    assert result.stdout.rstrip("\n").isprintable()


def test_a_report_of_parity_keeps_its_lines():
    result = CliRunner().invoke(failing(ParityError("differs\n✗ one\n✗ two")), [])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 3


def test_what_is_nested_too_deeply_is_a_sentence():
    result = CliRunner().invoke(failing(RecursionError("maximum recursion depth exceeded")), [])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("library", ["pass", "raise ValueError('of its own') from None"])
def test_a_signal_ends_a_command_in_one_sentence_with_its_files_removed(tmp_path, number, library):
    code = (
        "import os, signal, sys, threading\n"
        "from pathlib import Path\n"
        "from htr_engines.console import HtrCommand\n"
        "from htr_engines.files import atomic_path\n"
        "def work():\n"
        "    with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "        temporary.write_text('half')\n"
        f"        threading.Timer(0.5, os.kill, (os.getpid(), {int(number)})).start()\n"
        "        try:\n"
        "            signal.pause()\n"
        "        except KeyboardInterrupt:\n"
        f"            {library}\n"
        "            raise\n"
        "HtrCommand('work', callback=work).main([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "Error: stopped before it was done; run the command again"
    assert list(tmp_path.iterdir()) == []


def test_text_does_not_land_on_the_bar_of_a_terminal():
    pty = pytest.importorskip("pty", reason="pseudo-terminals are of Unix")
    code = (
        "import sys, time\n"
        "from htr_engines.console import echo, show_progress\n"
        "with show_progress('working') as progress:\n"
        "    progress.total(3)\n"
        "    for number in range(3):\n"
        "        time.sleep(0.2)\n"
        "        progress.advance()\n"
        "        echo(f'result {number}')\n"
        "        echo(f'error {number}', err=True)\n"
    )
    process, terminal = pty.fork()
    if process == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "TERM": "xterm", "NO_COLOR": "1"})  # noqa: S606
    shown = b""
    with contextlib.suppress(OSError):  # at its end
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    os.waitpid(process, 0)
    assert b"working" in shown
    for number in range(3):
        for text in (f"result {number}", f"error {number}"):
            before, found, after = shown.partition(text.encode())
            assert found
            assert before.endswith((b"\n", b"\x1b[2K")), before[-60:]  # on a line that is empty or was emptied
            assert after.startswith(b"\r\n")
