"""Engines are opened by name, and none takes another's place."""

from __future__ import annotations

import sys

import onnxruntime
import pytest
from helpers.bench_fakes import write_onnx
from helpers.cuda_fakes import Gpu
from helpers.trt_fakes import install, profile, write_plan

from htr_engines.backends import backends, open_engine
from htr_engines.errors import EngineError
from htr_export.open_model import open_any

PROVIDERS = {
    "onnxruntime-cuda": ("CUDAExecutionProvider", "nvidia-smi"),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", r"libnvinfer\.so\.10"),
    "onnxruntime-tensorrt-rtx": ("NvTensorRTRTXExecutionProvider", "TensorRT-RTX libraries"),
}


@pytest.fixture
def onnx_file(tmp_path):
    return write_onnx(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("engine", PROVIDERS)
def test_a_provider_that_is_not_built_in_is_refused(onnx_file, engine):
    provider, _ = PROVIDERS[engine]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(EngineError, match=rf"has no {provider}; install"):
        open_engine(onnx_file, engine)


@pytest.mark.parametrize("engine", PROVIDERS)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_whose_library_is_missing_is_not_replaced_by_the_cpu(onnx_file, monkeypatch, engine):
    """ONNX Runtime itself only warns and takes the CPU."""
    provider, cure = PROVIDERS[engine]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    with pytest.raises(EngineError, match=rf"fell back from {provider} to CPUExecutionProvider; .*{cure}"):
        open_engine(onnx_file, engine)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_libraries_of_pypi_are_loaded_first_and_quietly(onnx_file, monkeypatch, capfd):
    loaded = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    preload = lambda: sys.stdout.write("Failed") and loaded.append("cuda")  # noqa: E731
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)  # from 1.21 on
    with pytest.raises(EngineError):
        open_engine(onnx_file, "onnxruntime-cuda")
    assert loaded == ["cuda"]
    assert "Failed" not in capfd.readouterr().out


def test_unknown_engines_and_threads_are_refused(onnx_file, tmp_path):
    with pytest.raises(EngineError, match=f"no engine is called 'tpu'; choose one of {', '.join(backends())}"):
        open_engine(onnx_file, "tpu")
    with pytest.raises(EngineError, match="at least 1"):
        open_engine(onnx_file, threads=0)
    with pytest.raises(EngineError, match="does not exist"):
        open_engine(tmp_path / "none.plan", "tensorrt")


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_a_plan_is_opened_with_the_runtime_of_its_sidecar(monkeypatch, tmp_path, onnx_file, runtime):
    gpu = Gpu()
    install(monkeypatch, gpu)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = write_plan(tmp_path / "x.plan", onnx_file, [profile(1, 1, 1)], runtime=runtime)
    with open_any(plan) as engine:
        assert engine.info.engine == runtime
    other = {"tensorrt": "tensorrt-rtx", "tensorrt-rtx": "tensorrt"}[runtime]
    with pytest.raises(EngineError, match=f"built with {runtime}, not with {other}"):
        open_any(plan, other)
    with pytest.raises(EngineError, match="cannot be run by openvino; choose one of tensorrt, tensorrt-rtx"):
        open_any(plan, "openvino")
    plan.with_name("x.plan.json").unlink()
    with pytest.raises(EngineError, match=r"x\.plan\.json"):
        open_any(plan)
    assert gpu.leaks() == {}
