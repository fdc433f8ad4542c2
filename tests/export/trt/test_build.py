"""Plans that TensorRT-RTX really builds, which needs no GPU, and what becomes of builds that fail or are stopped."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import onnx
import pytest
from click.testing import CliRunner

from htr_engines.backends.tensorrt.sidecar import RTX_DEFAULT_TARGETS, Profile, content_mismatch, read_sidecar
from htr_engines.errors import ExportError
from htr_engines.lines import read_lines
from htr_engines.preprocess import Preprocessing
from htr_export.cli import main
from htr_export.precision.casting import module_of
from htr_export.precision.lowering import lower_on_lines
from htr_export.precision.precision_map import PrecisionMap
from htr_export.trt import make, prepare
from htr_export.trt.build import Built, Parsed, configure, open_timing_cache, parse
from htr_export.trt.options import PlanOptions, parse_shape

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'htr-export[rtx]'")
SHAPE = (parse_shape("image:2x1x64x128"),)
ONE_SHAPE = {"min_shapes": SHAPE, "opt_shapes": SHAPE, "max_shapes": SHAPE}


def run(*arguments):
    return CliRunner().invoke(main, ["trt", *map(str, arguments)])


def in_precision(source, target, precision, lines_dir):
    """Write the lowered form of a graph."""
    lower_on_lines(source, target, PrecisionMap(precision), read_lines(lines_dir), Preprocessing(width=128))
    return target


@pytest.fixture(scope="module")
def half(onnx_file, lines_dir, tmp_path_factory):
    return in_precision(onnx_file, tmp_path_factory.mktemp("half") / "model.fp16.onnx", "fp16", lines_dir)


def test_a_float32_graph_becomes_an_fp16_plan_with_all_that_is_to_know(onnx_file, lines_dir, tmp_path):
    result = run(onnx_file, "-o", tmp_path, "--runtime", "tensorrt-rtx", "--lines", lines_dir)
    assert result.exit_code == 0, result.output
    release = ".".join(trt.__version__.split(".")[:2])
    plan = tmp_path / f"model.fp16.rtx{release}.plan"
    assert sorted(tmp_path.iterdir()) == [plan, plan.with_name(f"{plan.name}.json")]
    assert str(plan) in result.stdout
    assert "on real lines" in result.stdout
    sidecar = read_sidecar(plan)
    assert content_mismatch(sidecar, plan, onnx_file) is None
    assert (sidecar.runtime, sidecar.runtime_version) == ("tensorrt-rtx", trt.__version__)
    assert (sidecar.compute_capability, sidecar.targets) == (None, RTX_DEFAULT_TARGETS)
    assert sidecar.precision == sidecar.metadata["precision"] == "fp16"
    assert sidecar.flags["converted_from"] == "fp32"
    assert [profile.opt for profile in sidecar.profiles] == [(8, 1, 64, 128)]
    assert sidecar.input.shape == ("batch", 1, 64, 128)
    source = {entry.key: entry.value for entry in onnx.load(str(onnx_file)).metadata_props}
    assert {**source, "precision": "fp16"} == sidecar.metadata
    assert sidecar.command.startswith(f"htr-export trt model.onnx -o {plan.name} --runtime tensorrt-rtx")
    assert sidecar.seconds > 0
    assert sidecar.log
    assert str(tmp_path.parent) not in plan.with_name(f"{plan.name}.json").read_text(encoding="utf-8")
    inspected = CliRunner().invoke(main, ["inspect", str(plan), "--json"])
    facts = json.loads(inspected.stdout)
    assert (facts["kind"], facts["intact"], facts["charset"]) == ("plan", True, sidecar.metadata["charset"])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_other_precisions_build_too(onnx_file, lines_dir, tmp_path, precision):
    graph = onnx_file
    if precision != "fp32":
        graph = in_precision(onnx_file, tmp_path / f"model.{precision}.onnx", precision, lines_dir)
    options = PlanOptions("tensorrt-rtx", "fp32" if precision == "fp32" else None, **ONE_SHAPE, targets=("sm86",))
    made = make.make_plan(prepare.prepare(graph, tmp_path / "m.plan", options))
    assert made.sidecar.precision == precision
    assert made.sidecar.targets == ("sm86",)
    assert made.sidecar.input.shape == (2, 1, 64, 128)
    assert made.plan.stat().st_size == made.sidecar.plan_bytes > 100_000
    assert not [line for line in made.sidecar.log if line.startswith(("ERROR", "INTERNAL_ERROR"))]


def test_the_settings_reach_the_builder(half):
    profiles = (Profile((1, 1, 64, 128), (2, 1, 64, 128), (4, 1, 64, 128)), Profile(*[(1, 1, 64, 256)] * 3))
    options = PlanOptions(workspace=2**29, hardware_compatible=True, version_compatible=True, targets=("sm86", "sm89"))
    config = configure(trt, parse(trt, half, half), options, profiles)
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 2**29
    targets = [config.get_compute_capability(number) for number in range(config.num_compute_capabilities)]
    assert targets == [trt.ComputeCapability.SM86, trt.ComputeCapability.SM89]
    assert config.num_optimization_profiles == 2
    plain = configure(trt, parse(trt, half, half), PlanOptions(), profiles[:1])
    assert not plain.get_flag(trt.BuilderFlag.TF32)
    assert not plain.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert plain.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) > 2**32


@pytest.mark.parametrize("wanted", [True, False])
def test_compatibility_with_other_gpus_is_asked_for_if_wanted(wanted):
    """TensorRT-RTX drops the setting, so a stand-in for the builder has to take it."""
    builder, network = MagicMock(), MagicMock()
    builder.create_builder_config().add_optimization_profile.return_value = 0
    profiles = (Profile(*[(1, 1, 64, 128)] * 3),)
    parsed = Parsed(builder, network, None, Path("model.onnx"))
    config = configure(trt, parsed, PlanOptions(hardware_compatible=wanted), profiles)
    level = config.hardware_compatibility_level
    assert (level == trt.HardwareCompatibilityLevel.AMPERE_PLUS) is wanted
    config.add_optimization_profile.return_value = -1
    with pytest.raises(ExportError, match="refused the profile"):
        configure(trt, parsed, PlanOptions(), profiles)


@pytest.fixture
def as_tensorrt(monkeypatch):
    """Let TensorRT-RTX, which has the same API, stand for TensorRT on a GPU of compute capability 8.6."""
    monkeypatch.setattr(prepare, "load_tensorrt", {"tensorrt": trt}.__getitem__)
    monkeypatch.setattr(prepare, "_compute_capability", lambda: "8.6")


@pytest.mark.usefixtures("as_tensorrt")
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops in TensorRT-RTX:DeprecationWarning")
def test_a_plan_with_the_options_of_tensorrt(half, tmp_path):
    times = tmp_path / "times.cache"
    arguments = [
        half,
        "-o",
        tmp_path / "m.plan",
        "--timing-cache",
        times,
        "--hardware-compatible",
        "--workspace",
        "1GiB",
    ]
    arguments += [word for which in ("min", "opt", "max") for word in (f"--{which}-shapes", "image:2x1x64x128")]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert times.stat().st_size > 0
    sidecar = read_sidecar(tmp_path / "m.plan")
    assert (sidecar.runtime, sidecar.compute_capability, sidecar.hardware_compatible) == ("tensorrt", "8.6", True)
    assert sidecar.targets == ()
    assert sidecar.flags["workspace_bytes"] == 2**30
    assert "--timing-cache times.cache --workspace 1073741824B --hardware-compatible" in sidecar.command


@pytest.mark.parametrize("created", [None, object()], ids=["damaged", "of another GPU"])
def test_a_timing_cache_that_does_not_serve_is_refused_and_kept(tmp_path, created):
    times = tmp_path / "times.cache"
    times.write_bytes(b"of another GPU")
    config = SimpleNamespace(
        create_timing_cache=lambda content: created if content == b"of another GPU" else None,
        set_timing_cache=lambda _cache, *, ignore_mismatch: ignore_mismatch,
    )
    with pytest.raises(ExportError, match="no timing cache of this TensorRT and this GPU"):
        open_timing_cache(config, times)
    assert times.read_bytes() == b"of another GPU"


def test_a_node_that_cannot_be_parsed_is_named_with_its_module(onnx_file, tmp_path):
    model = onnx.load(str(onnx_file))
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.op_type = "Loudmax"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    result = run(tmp_path / "odd.onnx", "--precision", "fp32", "--runtime", "tensorrt-rtx")
    assert result.exit_code == 1
    assert f"node {node.name} (module {module_of(node)}) of operator Loudmax" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["odd.onnx"]


def test_what_the_builder_cannot_do_is_said_with_its_cure(half, tmp_path):
    result = run(half, "-o", tmp_path / "m.plan", "--runtime", "tensorrt-rtx", "--workspace", "1KiB")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: tensorrt_rtx")
    assert "give a larger --workspace" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_checks_all_and_builds_nothing(half, tmp_path):
    """It does without PyTorch, which a device with a lowered graph does not have."""
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom htr_export.cli import main\n"
        f"main(['trt', {str(half)!r}, '-o', {str(tmp_path)!r}, '--runtime', 'tensorrt-rtx', '--dry-run'])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "parses the graph; nothing was built" in result.stdout
    assert "profile   1x1x64x128 .. 8x1x64x128 .. 32x1x64x128" in result.stdout
    assert f"tensorrt_rtx --onnx={half} --saveEngine={tmp_path}" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_pytorch_lowers_a_float32_graph_itself(onnx_file, tmp_path):
    code = (
        "import sys\nsys.modules.update(torch=None, onnx_ir=None, onnxscript=None)\nfrom htr_export.cli import main\n"
        f"main(['trt', {str(onnx_file)!r}, '-o', {str(tmp_path / 'm.plan')!r}, '--runtime', 'tensorrt-rtx'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert read_sidecar(tmp_path / "m.plan").precision == "fp16"


def test_unknown_targets_and_places_are_refused_before_the_build(half, tmp_path):
    with pytest.raises(ExportError, match=r"does not build for sm87; choose from .*sm86"):
        prepare.prepare(half, tmp_path, PlanOptions("tensorrt-rtx", targets=("sm87",)))
    with pytest.raises(ExportError, match="cannot be written to"):
        prepare.prepare(half, Path("/proc/none/m.plan"), PlanOptions("tensorrt-rtx"))
    assert run(half, "-o", tmp_path / "m.engine").exit_code == 2
    assert run(half, "-o", tmp_path / "m.plan", "--opt-shapes", "image:8").exit_code == 2
    assert run(half, "-o", tmp_path / "m.plan", "--list", "x.ln").exit_code == 2


def test_no_plan_without_its_sidecar(half, tmp_path, monkeypatch):
    def fail(_sidecar):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(make, "build", lambda *_: Built(memoryview(b"plan"), 1.0, 1.0, ()))
    prepared = prepare.prepare(half, tmp_path / "m.plan", PlanOptions("tensorrt-rtx"))
    assert make.make_plan(prepared).sidecar.plan_sha256 == hashlib.sha256(b"plan").hexdigest()
    (tmp_path / "m.plan").unlink()
    (tmp_path / "m.plan.json").unlink()
    monkeypatch.setattr(make, "to_json", fail)
    with pytest.raises(OSError, match="No space"):
        make.make_plan(prepared)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_the_build_and_leaves_nothing(onnx_file, tmp_path):
    code = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom htr_export.trt.make import make_plan\n"
        "from htr_engines.backends.tensorrt.library import last_error\n"
        "from htr_export.trt.prepare import prepare\nfrom htr_export.trt.options import PlanOptions\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a background job
        "prepared = prepare(Path(sys.argv[1]), Path(sys.argv[2]), PlanOptions('tensorrt-rtx', 'fp32'))\n"
        "class Progress:\n  def step(self, what):\n    print(what, flush=True)\n"
        "    if what.startswith('building: Building engine from subgraph'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(1)\n"  # a small build is over soon
        "try:\n    make_plan(prepared, progress=Progress())\n"
        "finally:\n    print(last_error(prepared.trt))\n"
    )
    command = [sys.executable, "-c", code, str(onnx_file), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    steps = process.stdout.splitlines()
    assert process.returncode == -signal.SIGINT
    assert any(step.startswith("building: stopping") for step in steps)
    assert "canceled by user" in steps[-1]
    assert "writing the plan" not in steps
    assert "KeyboardInterrupt" in process.stderr
    assert list(tmp_path.iterdir()) == []
