from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

import plans
from plans import PlanFigures

FIGURES = PlanFigures(
    onnx="m.onnx",
    precision="fp16",
    runtime="tensorrt-rtx 1.7.1",
    onnx_bytes=265_000_000,
    plan_bytes=145_400_000,
    build_seconds=12.0,
    build_cpu_seconds=11.0,
    command_seconds=20.0,
    peak_bytes=2_000_000_000,
    clock="wall",
)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"build_seconds": 31.0}, False),
        ({"build_seconds": 31.0, "clock": "cpu"}, True),
        ({"build_cpu_seconds": 31.0, "clock": "cpu"}, False),
        ({"plan_bytes": 151_000_000}, False),
        ({"precision": "int8"}, False),
        ({"precision": "fp32", "plan_bytes": 10**9}, True),
    ],
)
def test_limits(changes, passed):
    assert replace(FIGURES, **changes).passed is passed


def test_the_command_shows_and_judges(tmp_path, monkeypatch):
    model = tmp_path / "m.onnx"
    model.touch()
    monkeypatch.setattr(plans, "measure_plan", lambda *_arguments: replace(FIGURES, build_seconds=40.0))
    arguments = [str(model), "--json", str(tmp_path / "plans.json")]
    result = CliRunner().invoke(plans.main, arguments)
    assert result.exit_code == 0, result.output
    assert "-[✗] m.onnx: fp16 on tensorrt-rtx 1.7.1, build 40.0 s (11.0 s of CPU; limit 30 s)" in result.stdout
    document = json.loads((tmp_path / "plans.json").read_text(encoding="utf-8"))
    assert [plan["passed"] for plan in document["plans"]] == [False]
    strict = CliRunner().invoke(plans.main, [*arguments, "--strict"])
    assert strict.exit_code == 4
    assert "over the limit: m.onnx" in strict.stderr


def test_a_plan_is_measured_in_its_own_process(onnx_file, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'htr-export[rtx]'")
    figures = plans.measure_plan(onnx_file, "tensorrt-rtx", "cpu", tmp_path)
    assert figures.precision == "fp16"
    assert figures.plan_bytes == (tmp_path / "measured.plan").stat().st_size
    assert 0 < figures.build_seconds < figures.command_seconds
    assert figures.build_cpu_seconds > 0
    assert figures.peak_bytes > 100_000_000
