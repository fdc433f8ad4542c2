from __future__ import annotations

import itertools
import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import chain
import steps
from htr_engines.cli import main as read
from htr_engines.errors import EngineError
from htr_export.cli import main as export
from random_checkpoint import write_checkpoint
from steps import Limits, Step, run_step


def test_a_step_is_measured_in_its_own_process(monkeypatch):
    monkeypatch.setattr(steps, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    command = [sys.executable, "-c", "held = bytearray(150_000_000); print('first')"]
    whole = run_step("other", command)
    assert whole.peak_bytes > 150_000_000
    assert whole.seconds == 2  # the clock was read at the start, at the first line and at the end
    assert run_step("other", command, first_line=True).seconds == 1


def test_a_step_that_fails_says_why():
    with pytest.raises(EngineError, match="strip ended with code 3: it is so"):
        run_step("strip", [sys.executable, "-c", "import sys; print('it is so', file=sys.stderr); sys.exit(3)"])


@pytest.mark.parametrize(("seconds", "peak", "passed"), [(1, 1, True), (3, 1, False), (1, 3, False), (2, 2, True)])
def test_limits(seconds, peak, passed):
    assert Step("strip", seconds, peak, Limits(2, 2)).passed is passed
    assert Step("bundle", seconds, peak, Limits()).passed


def test_the_command_shows_and_judges(tmp_path, monkeypatch):
    (tmp_path / "line.png").write_bytes(b"")
    steps = [Step("strip", 1.5, 200_000_000, Limits(15, 1e9)), Step("read", 9.0, 100_000_000, Limits(3, 7e8))]
    monkeypatch.setattr(chain, "_write_random", lambda *_arguments: None)
    monkeypatch.setattr(chain, "run_chain", lambda *_arguments: steps)
    arguments = ["--lines", str(tmp_path), "--json", str(tmp_path / "chain.json")]
    result = CliRunner().invoke(chain.main, arguments)
    assert result.exit_code == 0, result.output
    assert "-[✓] strip        1.50 s (limit 15 s)        200 MB (limit 1000 MB)" in result.stdout
    assert "-[✗] read         9.00 s" in result.stdout
    document = json.loads((tmp_path / "chain.json").read_text(encoding="utf-8"))
    assert [step["passed"] for step in document["steps"]] == [True, False]
    strict = CliRunner().invoke(chain.main, [*arguments, "--strict"])
    assert strict.exit_code == 4
    assert "over the limit: read" in strict.stderr


def test_the_commands_of_the_chain_exist_with_their_options(lines_dir, workspace, tmp_path):
    commands = chain.chain_commands(tmp_path / "x.pth", lines_dir, workspace / "all.ln", 2, tmp_path)
    assert list(commands) == list(chain.LIMITS)
    for name, command in commands.items():
        program, arguments = (read, command[3:]) if name == "read" else (export.commands[name], command[4:])
        context = program.make_context(name, [str(part) for part in arguments])
        assert context.params


def test_a_random_checkpoint_can_be_read(tmp_path):
    from htr_export.model import load_any

    write_checkpoint(tmp_path / "random.pth", "abc", "tiny")
    assert load_any(tmp_path / "random.pth").charset.characters == "abc"
