"""htr-bench gpu, tried on the CPU: what runs there is measured, what does not leaves its reason."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from htr_bench.cli import main
from htr_bench.torch_device import DTYPES, TorchDevice
from htr_export.model import load_model


def bench(*arguments):
    return CliRunner().invoke(main, ["gpu", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Threads that wait for each other make short runs long on a busy machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def short(safetensors, lines_dir, workspace, tmp_path, monkeypatch):
    """Arguments for the shortest run."""
    monkeypatch.setattr("htr_bench.gpu.DURATION_S", 0)
    monkeypatch.setattr("htr_bench.gpu.CALLS", 2)
    return [
        safetensors,
        "--lines",
        lines_dir,
        "--list",
        workspace / "all.ln",
        *("--limit", 3, "--batch", "1,2"),
        "--json",
        tmp_path / "gpu.json",
    ]


def results(tmp_path):
    document = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    return {part["name"]: part for part in document["parts"]}


def test_on_a_cpu_every_part_is_measured_or_leaves_its_reason(short, onnx_file, tmp_path, monkeypatch):
    # What takes long on a CPU: compiling, and half precision, which a test of its own runs on one line.
    monkeypatch.setattr("htr_bench.gpu.TORCH_VARIANTS", (("fp32", False),))
    (tmp_path / "x.plan").write_bytes(b"x")
    result = bench(*short, "--device", "cpu", onnx_file, tmp_path / "x.plan", "openvino:none.onnx")
    assert result.exit_code == 0, result.output
    parts = results(tmp_path)
    assert [peak["precision"] for peak in parts["peak"]["peaks"]] == ["fp32", "fp16"]
    reference, exported = parts["torch-fp32"], parts["onnxruntime:model.onnx"]
    assert reference["network"]["flops_per_line"] > 1e6
    assert reference["accuracy"]["changed"] == reference["accuracy"]["cer_increase"] == 0
    assert exported["accuracy"]["lines"] == 3
    assert exported["accuracy"]["changed"] == 0
    assert 0 < exported["accuracy"]["max_abs"] < 1e-2
    for part in (reference, exported):
        assert part["failure"] is None
        assert [timing["batch"] for timing in part["timings"]] == [1, 2]
        assert all(timing["share_of_peak"] > 0 for timing in part["timings"])
    assert "x.plan.json" in parts["x.plan"]["failure"]
    assert "does not exist" in parts["openvino:none.onnx"]["failure"]
    assert "-[✗] x.plan: " in result.output


def test_half_precision_reads_as_float32_does_but_for_rounding(safetensors):
    image_N1HW = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    logits = {}
    for precision in DTYPES:
        with TorchDevice(load_model(safetensors), "cpu", precision) as engine:
            assert engine.info.engine == f"torch-{precision}"
            logits[precision] = engine.infer(image_N1HW)
    spread = logits["fp32"].std()
    for precision in ("fp16", "bf16"):
        assert 0 < np.abs(logits[precision] - logits["fp32"]).max() < 0.5 * spread


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_each_part_says_so(short, tmp_path, monkeypatch):
    monkeypatch.setattr("htr_bench.gpu.TORCH_VARIANTS", (("fp32", False),))
    result = bench(*short)
    assert result.exit_code == 1
    assert "nothing could be measured" in result.stderr
    parts = results(tmp_path)
    assert set(parts) == {"peak", "torch-fp32"}
    assert all(part["failure"].startswith("no GPU") for part in parts.values())


def test_a_part_that_outlasts_its_share_is_stopped_and_the_rest_goes_on(short, tmp_path, monkeypatch):
    monkeypatch.setattr("htr_bench.gpu.TORCH_VARIANTS", (("fp32", False),))
    result = bench(*short, "--device", "cpu", "--budget", 0.001)
    assert result.exit_code == 1
    assert all("stopped after its share" in part["failure"] for part in results(tmp_path).values())
