"""Measuring, with engines that need no model and with a model of four nodes. No test asserts a time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.bench_fakes import write_onnx
from helpers.recorded_progress import RecordedProgress
from helpers.validation_fakes import FakeEngine, make_lines

from htr_bench import alone, latency
from htr_bench.alone import Peak, Request, run_alone
from htr_bench.cli import main
from htr_bench.latency import LatencyOptions, measure
from htr_bench.targets import Target
from htr_bench.workload import draw_line, prepare_workload
from htr_engines.errors import DataError, EngineError
from htr_engines.preprocess import Preprocessing

QUICK = LatencyOptions(batches=(1, 3), warmup=0, duration=0, iterations=6, max_variation=1e9)


@pytest.fixture
def fakes(monkeypatch):
    """Replace the engines by fakes and the processes by nothing; return the log of their calls."""
    calls: list[str] = []

    class Logged(FakeEngine):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def infer(self, image_N1HW):
            calls.append(self.name)
            if self.name == "tires" and len(calls) > 40:
                raise EngineError("it is tired")
            return super().infer(image_N1HW)

    def open_fake(self: Target, _threads: int | None) -> FakeEngine:
        if self.path.name == "absent":
            raise EngineError("it does not open")
        return Logged(self.path.name)

    monkeypatch.setattr(Target, "open", open_fake)
    monkeypatch.setattr(latency, "run_alone", lambda _request: Peak(2, 1))
    monkeypatch.setattr(latency, "TURN_S", 0)
    return calls


def targets(*names):
    return [Target(Path(name)) for name in names]


def test_every_cell_reaches_both_minimums(fakes):
    results = measure(targets("a", "b"), QUICK)
    assert fakes
    for result in results:
        assert result.failure is None
        assert [(item.batch, item.scope) for item in result.measurements] == [
            (1, "engine"),
            (1, "end to end"),
            (3, "engine"),
            (3, "end to end"),
        ]
        assert all(len(item.seconds) >= 6 for item in result.measurements)
        assert all(item.stable for item in result.measurements)
        assert result.peaks == {1: Peak(2, 1), 3: Peak(2, 1)}


def test_turns_are_interleaved(fakes):
    measure(targets("a", "b"), QUICK)
    measured = fakes[2 + 2 * 4 :]  # after opening and warming up
    assert len(measured) >= 2 * 4 * 6
    longest = max(len(run) for run in "".join(measured).replace("ab", "a b").replace("ba", "b a").split())
    assert longest <= 8  # at most the four cells of a at the end of a round and again at the start of the next


def test_a_target_that_does_not_open_costs_its_own_row(fakes):
    results = measure(targets("a", "absent", "b"), QUICK)
    assert fakes
    assert [result.failure for result in results] == [None, "it does not open", None]
    assert results[1].measurements == ()
    assert len(results[2].measurements) == 4


def test_a_target_that_fails_on_the_way_costs_its_own_row(fakes):
    results = measure(targets("tires", "b"), QUICK)
    assert fakes
    assert [result.failure for result in results] == ["it is tired", None]
    assert all(len(item.seconds) >= 6 for item in results[1].measurements)


def test_a_target_that_crashes_alone_is_never_opened(fakes, monkeypatch):
    def crash(_request: Request) -> Peak:
        raise EngineError("the process died of signal 11")

    monkeypatch.setattr(latency, "run_alone", crash)
    results = measure(targets("a"), QUICK)
    assert results[0].failure == "the process died of signal 11"
    assert fakes == []


def test_what_scatters_gets_twice_the_time_and_is_marked(fakes):
    assert not fakes
    options = LatencyOptions(batches=(1,), warmup=0, duration=0, iterations=6, max_variation=0)
    [result] = measure(targets("a"), options)
    assert all(len(item.seconds) >= 12 for item in result.measurements)
    assert not any(item.stable for item in result.measurements)


def test_progress_goes_from_nothing_to_all(fakes):
    assert not fakes
    progress = RecordedProgress()
    measure(targets("a"), QUICK, progress)
    assert progress.steps == ["a in a process of its own", "opening a", "warming up", "measuring in turns"]
    assert (progress.totals, progress.done) == ([100], 100)


def test_lines_are_those_given_without_the_unreadable(tmp_path):
    lines = make_lines(tmp_path / "lines", ["ab", "c", "d"])
    lines[0].image.write_bytes(b"")
    workload = prepare_workload(tmp_path / "lines", tmp_path, 8, Preprocessing(width=64))
    assert [path.name for path in workload.paths] == ["line-01.png", "line-02.png"]
    assert workload.batch(5).shape == (5, 1, 64, 64)
    np.testing.assert_array_equal(workload.batch(5)[0], workload.batch(5)[2])


def test_no_readable_line_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 line images can be read"):
        prepare_workload(tmp_path, tmp_path, 1, Preprocessing())


def test_the_drawn_line_is_always_the_same(tmp_path):
    draw_line(tmp_path / "a.png")
    draw_line(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    workload = prepare_workload(None, tmp_path, 8, Preprocessing())
    assert workload.images.shape == (1, 1, 64, 512)
    assert 0.1 < workload.images.std() < 0.5


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (-11, "", "died of signal 11"),
        (1, "warning\nError: it is so\n\n", "^it is so$"),
        (7, "", "ended with code 7"),
    ],
)
def test_the_reason_of_a_fall_is_told(monkeypatch, code, stderr, reason):
    done = subprocess.CompletedProcess([], code, "", stderr)
    monkeypatch.setattr(alone.subprocess, "run", lambda *_arguments, **_options: done)
    with pytest.raises(EngineError, match=reason):
        run_alone(Request("model", None, None, None, 1, 64, 64))


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return write_onnx(tmp_path_factory.mktemp("bench") / "tiny.onnx")


def run(*arguments):
    settings = ["--duration", 0, "--iterations", 5, "--batch", 2, "--threads", 1]
    return CliRunner().invoke(main, ["latency", *(str(value) for value in (*arguments, *settings))])


@pytest.fixture
def max_variation(monkeypatch):
    """Return a function that sets which scatter the command takes for stable."""

    def limit(variation):
        monkeypatch.setattr(latency, "LatencyOptions", partial(LatencyOptions, warmup=0, max_variation=variation))

    return limit


def test_the_command_measures_and_writes_json(onnx_file, tmp_path, max_variation):
    max_variation(1000)
    result = run(onnx_file, "--json", tmp_path / "latency.json", "--strict")
    assert result.exit_code == 0, result.output
    assert "Engine only" in result.stdout
    assert "End to end" in result.stdout
    assert "x ref" in result.stdout
    document = json.loads((tmp_path / "latency.json").read_text(encoding="utf-8"))
    [target] = document["targets"]
    assert target["precision"] == "fp32"
    assert target["peak_memory"]["2"]["bytes"] > target["peak_memory"]["2"]["before"] > 0
    assert [item["scope"] for item in target["measurements"]] == ["engine", "end to end"]
    assert document["environment"]["libraries"]["numpy"]


def test_strict_exits_4_on_what_is_unstable(onnx_file, max_variation):
    max_variation(0)
    assert run(onnx_file).exit_code == 0
    result = run(onnx_file, "--strict")
    assert result.exit_code == 4
    assert "unstable" in result.stderr


def test_one_bad_target_exits_1_and_the_others_are_measured(onnx_file, tmp_path):
    result = run(tmp_path / "absent.onnx", onnx_file)
    assert result.exit_code == 1
    assert "does not exist" in result.stdout
    assert "1 of 2 targets failed" in result.stderr
    assert "tiny.onnx" in result.stdout


@pytest.mark.parametrize("when", ["before it runs alone", "after"])
def test_a_file_that_is_swapped_after_it_was_hashed_is_not_measured(onnx_file, tmp_path, monkeypatch, when):
    def swap(request):
        peak = run_alone(request) if when == "after" else None
        copy.write_bytes(onnx_file.read_bytes() + b"\0")
        return peak or run_alone(request)

    copy = tmp_path / "copy.onnx"
    copy.write_bytes(onnx_file.read_bytes())
    monkeypatch.setattr(latency, "run_alone", swap)
    [result] = measure([Target(copy)], replace(QUICK, batches=(1,), threads=1))
    assert "was changed" in str(result.failure)


@pytest.mark.parametrize("options", [["--batch", "1,x"], ["--batch", "0"], ["--batch", "1.5"], []])
def test_wrong_use_exits_2(options):
    arguments = ["latency", *(["model.onnx"] if options else []), *options]
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_help_is_quick_since_nothing_heavy_is_imported():
    heavy = "('torch', 'jinja2', 'rich', 'onnxruntime')"
    code = f"import htr_bench.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.usefixtures("fakes")
def test_the_clock_of_the_processor_is_read(monkeypatch):
    def count():
        ticks.append(None)
        return len(ticks) * 1e-3

    ticks: list[None] = []
    monkeypatch.setitem(latency.CLOCKS, "cpu", count)
    result = measure(targets("a"), replace(QUICK, clock="cpu"))[0]
    assert all(seconds == pytest.approx(1e-3) for item in result.measurements for seconds in item.seconds)
