"""Every name that the code takes from TensorRT exists in the releases that it is written for.

TensorRT itself cannot be loaded without a GPU's driver, and is too large for a test; its bindings can.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.trt_contract import ROOT, bindings, files_that_use_it, missing_names, used_names

RELEASES = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.16": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}
ENGINE = {"engine": "ICudaEngine", "_engine": "ICudaEngine", "context": "IExecutionContext", "runtime": "Runtime"}
# Of what class of the module the variables in each file are.
FILES = {
    "htr_export/trt/build.py": {
        "builder": "Builder",
        "network": "INetworkDefinition",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "parser": "OnnxParser",
        "error": "ParserError",
    },
    "htr_export/trt/options.py": {},
    "htr_export/trt/prepare.py": {},
    "htr_export/trt/make.py": {},
    "htr_export/trt/command.py": {},
    "htr_export/trt/trtexec.py": {},
    "engines/htr_engines/backends/tensorrt/library.py": {},
    "engines/htr_engines/backends/tensorrt/engine.py": ENGINE,
    "engines/htr_engines/backends/tensorrt/contexts.py": {**ENGINE, "_config": "IRuntimeConfig"},
    "engines/htr_engines/backends/tensorrt/rtx_cache.py": {"cache": "IRuntimeCache"},
}
# What the engine takes from TensorRT-RTX alone: how it compiles on the device, and what it keeps of that.
RTX_ONLY = (
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "CudaGraphStrategy",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IRuntimeCache",
)


@pytest.fixture(scope="session")
def wheels(request):
    return request.config.cache.mkdir("tensorrt-bindings")


@pytest.fixture(scope="module")
def names():
    found = set()
    for name, classes in FILES.items():
        found |= used_names(ROOT / name, classes)
    return found


def rtx_only(name):
    return any(name == own or name.startswith((f"{own}.", f"{own}(")) for own in RTX_ONLY)


def test_the_names_are_found_in_the_source(names):
    assert {
        "BuilderFlag.TF32",
        "Builder.build_serialized_network",
        "IBuilderConfig.set_timing_cache(ignore_mismatch)",
        "ILogger.log",
        "IProgressMonitor.step_complete",
        "OnnxParser.parse",
        "ParserError.node_name",
        "Runtime.deserialize_cuda_engine",
        "IExecutionContext.execute_async_v3",
    } <= names
    assert any(rtx_only(name) for name in names)


@pytest.mark.parametrize("folder", ["htr_export", "engines"])
def test_no_file_is_forgotten(folder):
    assert {str(path.relative_to(ROOT)) for path in files_that_use_it(ROOT / folder)} <= FILES.keys()


@pytest.mark.parametrize("release", RELEASES)
def test_tensorrt_has_every_name(release, names, wheels):
    environment = bindings(wheels, RELEASES[release])
    version, missing = missing_names("tensorrt_bindings", names, **environment)
    assert version.startswith(f"{release}.")
    assert {name for name in missing if not rtx_only(name)} == set()


def test_tensorrt_rtx_has_every_name(names):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'htr-export[rtx]'")
    _, missing = missing_names("tensorrt_rtx", names)
    assert missing == set()


def test_what_is_gone_is_noticed(wheels):
    """TensorRT 11 has no precision flags any more; the check sees that, as it would see a slip of the pen."""
    environment = bindings(wheels, RELEASES["11.4"])
    names = {
        "BuilderFlag.FP16",
        "Builder.platform_has_fast_fp16",
        "BuilderFlag.TF32",
        "IBuilderConfig.clear_flag(flog)",
    }
    assert missing_names("tensorrt_bindings", names, **environment)[1] == names - {"BuilderFlag.TF32"}


@pytest.mark.parametrize("release", RELEASES)
def test_our_classes_are_made_of_the_true_ones(release, wheels):
    """The logger and the monitor derive from the library's; without a GPU there is no builder, which is said."""
    code = """
import threading
from pathlib import Path
import tensorrt_bindings as trt
from htr_engines.errors import EngineError
from htr_engines.backends.tensorrt.library import logger_of
from htr_export.trt.build import parse
from htr_export.trt.build import make_monitor
stop = threading.Event()
monitor = make_monitor(trt, print, stop)
monitor.phase_start("Building", None, 3)
assert monitor.step_complete("Building", 0)
stop.set()
assert not monitor.step_complete("Building", 1)
logger = logger_of(trt)
logger.log(trt.ILogger.Severity.ERROR, "no driver")
assert list(logger.lines) == ["ERROR: no driver"]
try:
    parse(trt, Path("none.onnx"), Path("none.onnx"))
except EngineError as error:
    print(error)
"""
    environment = bindings(wheels, RELEASES[release])
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Building\ntensorrt_bindings ")
    assert "choose --runtime tensorrt-rtx" in result.stdout
