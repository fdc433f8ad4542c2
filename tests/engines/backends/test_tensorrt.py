"""TensorRT and TensorRT-RTX plans on a GPU that is played by the CPU, and on a real one where there is one."""

from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import trt_fakes
from helpers.bench_fakes import write_onnx
from helpers.cuda_fakes import Gpu
from helpers.trt_fakes import profile, write_plan
from hypothesis import given
from hypothesis import strategies as st

from htr_engines.backends import open_engine
from htr_engines.backends.base import ModelFile, infer_lines
from htr_engines.backends.tensorrt.cuda import open_cuda
from htr_engines.backends.tensorrt.cuda_python_memory import CudaPythonMemory
from htr_engines.backends.tensorrt.engine import MAX_CONTEXTS, TensorRtEngine
from htr_engines.backends.tensorrt.profiles import split_batch
from htr_engines.errors import EngineError, MissingExtraError
from htr_engines.host import Host


@pytest.fixture(autouse=True)
def _cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def gpu(monkeypatch) -> Gpu:
    gpu = Gpu()
    trt_fakes.install(monkeypatch, gpu)
    return gpu


@pytest.fixture
def tiny(tmp_path):
    return write_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def plan(tmp_path, tiny):
    return write_plan(tmp_path / "tiny.plan", tiny, [profile(1, 4, 8)])


def lines(count: int, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 1, 64, width), np.float32)


def expected(tiny, image_N1HW):
    with open_engine(tiny) as engine:
        return engine.infer(image_N1HW)


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("pycuda", [False, True])
def test_reads_as_onnx_runtime_does_and_leaves_nothing_behind(monkeypatch, tmp_path, tiny, runtime, pycuda):
    gpu = Gpu()
    trt_fakes.install(monkeypatch, gpu, pycuda=pycuda)
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], runtime=runtime)
    with open_engine(plan, runtime) as engine:
        for count in (1, 3, 8, 3, 3, 8, 1):
            image_N1HW = lines(count, seed=count)
            assert np.array_equal(engine.infer(image_N1HW), expected(tiny, image_N1HW))
        assert (engine.info.engine, engine.info.device) == (runtime, "cuda:0")
        assert engine.info.metadata["precision"] == "fp16"
        assert engine.info.metadata["charset"] == "abcdefg"
    assert gpu.leaks() == {}
    engine.close()  # twice does no harm


def test_a_result_stays_when_the_next_batch_runs(gpu, plan, tiny):
    with open_engine(plan, "tensorrt") as engine:
        first = engine.infer(lines(2, seed=1))
        engine.infer(lines(2, seed=2))
        assert np.array_equal(first, expected(tiny, lines(2, seed=1)))
    assert gpu.leaks() == {}


@pytest.mark.parametrize("count", [1, 3, 8, 9, 20])
def test_batches_outside_the_profile_are_filled_up_or_split(gpu, tmp_path, tiny, count):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(4, 4, 8)])
    image_N1HW = lines(count)
    with open_engine(plan, "tensorrt") as engine:
        assert np.array_equal(infer_lines(engine, image_N1HW), expected(tiny, image_N1HW))
    assert gpu.leaks() == {}


def test_a_plan_of_fixed_batch_has_no_profiles_to_ask_for(gpu, tmp_path, tiny):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(4, 4, 4)])
    with open_engine(plan, "tensorrt") as engine:
        for count in (1, 4, 9):
            assert np.array_equal(infer_lines(engine, lines(count)), expected(tiny, lines(count)))
    assert gpu.leaks() == {}


def test_what_fills_a_batch_up_is_white_not_the_lines_before(gpu, tmp_path, tiny):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(4, 4, 8)])
    with open_engine(plan, "tensorrt") as engine:
        engine.infer(lines(8))
        engine.infer(lines(1))
        assert np.array_equal(gpu.last_input[0], lines(1)[0])
        assert (gpu.last_input[1:] == 1).all()


@given(st.lists(st.tuples(*[st.integers(1, 40)] * 3).map(sorted), min_size=1, max_size=4), st.integers(1, 200))
def test_every_line_runs_once_within_a_profile(batches, count):
    profiles = [profile(*batch) for batch in batches]
    sub_batches = split_batch(profiles, (count, 1, 64, 64))
    assert sum(sub_batch.lines for sub_batch in sub_batches) == count
    for sub_batch in sub_batches:
        chosen = profiles[sub_batch.profile]
        assert chosen.min[0] <= sub_batch.shape[0] <= chosen.max[0]
        assert 1 <= sub_batch.lines <= sub_batch.shape[0]
        assert sub_batch.lines == sub_batch.shape[0] or sub_batch.shape[0] == chosen.min[0]
    if any(p.min[0] <= count <= p.max[0] for p in profiles):
        assert len(sub_batches) == 1


def test_the_profile_tuned_nearest_is_chosen():
    profiles = [profile(1, 1, 32), profile(1, 8, 32), profile(16, 32, 32), profile(1, 1, 4, width=128)]
    assert [split_batch(profiles, (count, 1, 64, 64))[0].profile for count in (1, 2, 7, 16, 24, 33)] == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
    assert split_batch(profiles, (9, 1, 64, 128))[-1].shape == (1, 1, 64, 128)


def test_several_profiles_run_in_their_own_contexts(gpu, tmp_path, tiny):
    profiles = [profile(1, 1, 1), profile(2, 8, 16), profile(1, 1, 4, width=128, widest=256)]
    plan = write_plan(tmp_path / "x.plan", tiny, profiles)
    with open_engine(plan, "tensorrt") as engine:
        for count, width in [(1, 64), (17, 64), (5, 192), (1, 64), (17, 64), (5, 192), (1, 256), (1, 64)]:
            image_N1HW = lines(count, width, seed=count)
            assert np.array_equal(engine.infer(image_N1HW), expected(tiny, image_N1HW))
    assert gpu.leaks() == {}


def test_a_width_outside_all_profiles_is_refused_with_the_cure(gpu, plan):
    with open_engine(plan, "tensorrt") as engine:
        with pytest.raises(EngineError, match=r"takes lines of 64 x 64 pixels, these have 64 x 96; .*image:Nx1x64x96"):
            engine.infer(lines(1, 96))
        with pytest.raises(EngineError, match="N at least 1"):
            engine.infer(lines(0))
        with pytest.raises(EngineError, match="float32, not uint8"):
            engine.infer(np.zeros((1, 1, 64, 64), np.uint8))
    assert gpu.leaks() == {}


def test_a_graph_is_captured_once_for_each_shape_on_its_second_run(gpu, plan):
    with open_engine(plan, "tensorrt") as engine:
        engine.infer(lines(8))  # so that the buffers grow no more
        assert gpu.captures == 0
        for _ in range(4):
            engine.infer(lines(2))
        assert (gpu.captures, gpu.launches) == (1, 3)
        for _ in range(3):
            engine.infer(lines(8))
            engine.infer(lines(2))
        assert gpu.captures == 2
    assert gpu.leaks() == {}


def test_buffers_grow_and_are_used_again_and_graphs_follow(gpu, plan, tiny):
    with open_engine(plan, "tensorrt") as engine:
        for _ in range(3):
            engine.infer(lines(2))
        held = gpu.allocations
        for count in (2, 1, 2):
            engine.infer(lines(count))
        assert gpu.allocations == held
        engine.infer(lines(8))
        assert gpu.allocations == held + 2  # input and output
        assert gpu.graphs == []  # they held the old addresses
        for seed in range(3):
            image_N1HW = lines(2, seed=seed)
            assert np.array_equal(engine.infer(image_N1HW), expected(tiny, image_N1HW))
        assert gpu.captures == 2
        assert gpu.allocations == held + 2
    assert gpu.leaks() == {}


def test_the_number_of_contexts_is_bounded(gpu, tmp_path, tiny):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 32)])
    with open_engine(plan, "tensorrt") as engine:
        for count in [32, *range(1, 20), 3, 4]:
            for _ in range(2):
                assert np.array_equal(engine.infer(lines(count)), expected(tiny, lines(count)))
        assert gpu.contexts == len(gpu.graphs) == MAX_CONTEXTS
    assert gpu.leaks() == {}


def test_without_graphs_all_goes_on_with_the_reason(gpu, tmp_path, tiny, caplog):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], uncapturable=True)
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt") as engine:
        assert engine.no_graphs is None
        for seed in range(4):
            image_N1HW = lines(2, seed=seed)
            assert np.array_equal(engine.infer(image_N1HW), expected(tiny, image_N1HW))
        assert "cannot be captured" in engine.no_graphs
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert gpu.leaks() == {}


def test_pycuda_and_rtx_say_why_they_capture_no_graphs(monkeypatch, tmp_path, tiny):
    gpu = Gpu()
    trt_fakes.install(monkeypatch, gpu, pycuda=True)
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)])
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt") as engine:
        engine.infer(lines(1))
        engine.infer(lines(1))
        assert "install cuda-python" in engine.no_graphs
    trt_fakes.install(monkeypatch, gpu)
    plan = write_plan(tmp_path / "y.plan", tiny, [profile(1, 4, 8)], runtime="tensorrt-rtx")
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt-rtx") as engine:
        engine.infer(lines(1))
        engine.infer(lines(1))
        assert "captures its own" in engine.no_graphs
    assert gpu.captures == 0
    assert gpu.leaks() == {}


def rtx_kernels(plan) -> bytes:
    """Run a plan and return the one cache file there is."""
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt-rtx") as engine:
        engine.infer(lines(1))
    (file,) = (plan.parent / "cache" / "htr-export").iterdir()
    return file.read_bytes()


def test_rtx_keeps_its_compiled_kernels(gpu, tmp_path, tiny, caplog):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], runtime="tensorrt-rtx")
    assert rtx_kernels(plan) == b"RTX:k"
    (file,) = (tmp_path / "cache" / "htr-export").iterdir()
    for part in ("rtx1.7.1.116", "Fake_GPU", "sm8.6", "cuda13.0"):
        assert part in file.name or "driver" in file.name
    assert rtx_kernels(plan) == b"RTX:kk"  # those of the file and the new one
    assert caplog.records == []
    file.write_bytes(b"damaged")
    assert rtx_kernels(plan) == b"RTX:k"
    assert ["TensorRT-RTX refused it" in record.getMessage() for record in caplog.records] == [True]
    gpu.name = "Another GPU"
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt-rtx") as engine:
        engine.infer(lines(1))
    assert len(list(file.parent.iterdir())) == 2
    assert gpu.leaks() == {}


def test_a_cache_that_cannot_be_written_costs_a_warning_only(gpu, tmp_path, tiny, caplog):
    (tmp_path / "cache").write_text("in the way")
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], runtime="tensorrt-rtx")
    with TensorRtEngine(ModelFile(plan), 1, "tensorrt-rtx") as engine, caplog.at_level(logging.WARNING):
        assert engine.infer(lines(1)).shape == (1, 16, 8)
    assert "could not be written" in caplog.text
    assert gpu.leaks() == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute_capability": "8.7"}, r"built for compute capability 8\.7, this GPU has compute capability 8\.6"),
        ({"runtime_version": "10.3.0"}, r"built with tensorrt 10\.3\.0, here is 10\.16\.1\.11"),
        ({"plan_sha256": "0" * 64}, "its SHA-256 is"),
        ({"dtype": "HALF"}, "does not take and give float32"),
        ({"input": trt_fakes.TensorInfo("x", "float32", ("batch", 1, 64, 64))}, "has the tensors image, logits"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(gpu, tmp_path, tiny, changes, message):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], **changes)
    with pytest.raises(EngineError, match=message) as caught:
        open_engine(plan, "tensorrt")
    assert "htr-export trt" in str(caught.value) or "one output" in str(caught.value)
    assert gpu.leaks() == {}


def test_a_plan_that_tensorrt_cannot_read_is_refused_with_its_reason(gpu, tmp_path, tiny):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)])
    plan.write_bytes(b"\0" * 10)
    digest = trt_fakes.sha256_of(plan)
    sidecar = tmp_path / "x.plan.json"
    text = sidecar.read_text(encoding="utf-8")
    facts = trt_fakes.json.loads(text)
    sidecar.write_text(trt_fakes.json.dumps({**facts, "plan": {"sha256": digest, "bytes": 10}}), encoding="utf-8")
    with pytest.raises(EngineError, match=r"magic tag does not match; build it again: htr-export trt"):
        open_engine(plan, "tensorrt")
    assert gpu.leaks() == {}


def test_a_version_compatible_plan_may_bring_its_own_code(gpu, tmp_path, tiny):
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], version_compatible=True, runtime_version="10.3.0")
    with open_engine(plan, "tensorrt") as engine:
        assert engine.infer(lines(1)).shape == (1, 16, 8)
    assert gpu.leaks() == {}


@pytest.mark.parametrize("call", ["cudaMalloc", "cudaMallocHost", "cudaStreamSynchronize", "cudaMemcpyAsync"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_cuda_errors_are_named_and_leave_nothing_behind(gpu, plan, call, after):
    gpu.failing[call] = after
    with pytest.raises(EngineError, match=rf"CUDA's {call} failed: out of memory"), open_engine(plan, "tensorrt") as e:
        for count in (1, 2, 8):
            e.infer(lines(count))
    assert gpu.leaks() == {}


def test_pycuda_errors_are_named(monkeypatch, plan):
    gpu = Gpu()
    trt_fakes.install(monkeypatch, gpu, pycuda=True)
    gpu.failing["mem_alloc"] = 0
    with pytest.raises(EngineError, match="cuMemAlloc failed: out of memory"):
        open_engine(plan, "tensorrt")
    assert gpu.leaks() == {}


@pytest.mark.parametrize("pycuda", [False, True])
def test_no_gpu_is_said(monkeypatch, plan, pycuda):
    gpu = Gpu()
    gpu.devices = 0
    trt_fakes.install(monkeypatch, gpu, pycuda=pycuda)
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        open_engine(plan, "tensorrt")


def test_what_is_missing_is_named(monkeypatch, plan):
    trt_fakes.install(monkeypatch, Gpu(), pycuda=True)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingExtraError, match=r"'cuda'.*htr-export\[trt\]"):
        open_engine(plan, "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"'tensorrt'.*htr-export\[trt\]"):
        open_engine(plan, "tensorrt")


def test_on_a_jetson_the_cures_are_its_own(monkeypatch, plan):
    monkeypatch.setattr(Host, "jetson_release", lambda _: "# R36 (release), REVISION: 4.3")
    trt_fakes.install(monkeypatch, Gpu(), pycuda=True)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingExtraError, match=r"'cuda'.*htr-export\[jetson\]"):
        open_engine(plan, "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="sudo apt install python3-libnvinfer"):
        open_engine(plan, "tensorrt")


def test_a_library_that_cannot_be_loaded_is_told_from_one_that_is_missing(monkeypatch, tmp_path, plan):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=r"tensorrt cannot be loaded \(libnvinfer.*htr-export doctor"):
        open_engine(plan, "tensorrt")


def test_a_missing_driver_is_said(gpu, plan):
    gpu.driver = 0
    with pytest.raises(EngineError, match="no NVIDIA driver here; install it"):
        open_engine(plan, "tensorrt")


def test_the_real_cuda_python_gives_its_reason_without_a_gpu():
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    if runtime.cudaGetDeviceCount()[1]:
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match=r"no NVIDIA driver here|CUDA's cudaGetDeviceCount failed: "):
        open_cuda("trt")


def test_the_real_cuda_python_takes_the_arguments_that_it_is_given():
    """Without a driver every call gives an error of CUDA, and a wrong argument another one."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    if runtime.cudaDriverGetVersion()[1]:
        pytest.skip("there is a driver here")
    memory = object.__new__(CudaPythonMemory)
    memory._runtime, memory._stream = runtime, runtime.cudaStream_t(4096)
    host, graph = np.zeros(16, np.uint8), runtime.cudaGraphExec_t(4096)
    for call in (
        lambda: memory.allocate(16),
        lambda: memory.free(4096),
        lambda: memory.allocate_host(16),
        lambda: memory.free_host(host),
        lambda: memory.upload(4096, host),
        lambda: memory.download(host, 4096),
        memory.synchronize,
        lambda: memory.capture(lambda: None),
        lambda: memory.launch(graph),
        lambda: memory.free_graph(graph),
        memory.close,
    ):
        with pytest.raises(EngineError, match="CUDA's cuda"):
            call()


def test_the_real_tensorrt_rtx_gives_its_reason_for_a_plan_that_it_cannot_read(monkeypatch, tmp_path, tiny):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    gpu = Gpu()
    real = sys.modules["tensorrt_rtx"]
    trt_fakes.install(monkeypatch, gpu)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", real)
    version = real.__version__
    plan = write_plan(tmp_path / "x.plan", tiny, [profile(1, 4, 8)], runtime="tensorrt-rtx", runtime_version=version)
    with pytest.raises(EngineError, match=r"TensorRT cannot read .*x\.plan: (?!it gave no reason).+; build it again"):
        open_engine(plan, "tensorrt-rtx")
    assert gpu.leaks() == {}


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_a_real_gpu_reads_as_onnx_runtime_does(runtime, tmp_path, onnx_file):
    pytest.importorskip({"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}[runtime], exc_type=ImportError)
    try:
        open_cuda("trt").close()
    except (EngineError, MissingExtraError) as error:
        pytest.skip(f"no GPU: {error}")
    from htr_export.cli import main

    plan = tmp_path / "real.plan"
    options = ["trt", str(onnx_file), "-o", str(plan), "--runtime", runtime, "--precision", "fp32"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    try:
        engine = open_engine(plan, runtime)
    except EngineError as error:
        if "it was built for" in str(error):
            pytest.skip(f"{runtime} does not serve this GPU: {error}")
        raise
    with engine:
        width = engine.info.input.shape[3]
        for count in (1, 3, 3, 3, 8, 40, 1):
            image_N1HW = lines(count, int(width), seed=count)
            assert np.allclose(infer_lines(engine, image_N1HW), expected(onnx_file, image_N1HW), atol=5e-2)
