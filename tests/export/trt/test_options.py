"""What ``htr-export trt`` understands, decides and refuses before anything is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htr_engines.backends.base import TensorInfo
from htr_engines.errors import DataError, ExportError
from htr_engines.preprocess import Preprocessing
from htr_export.onnx.file import OnnxFile, read_onnx
from htr_export.trt import prepare as preparation
from htr_export.trt.options import (
    UNITS,
    NamedShape,
    PlanOptions,
    check_opset,
    check_supported,
    fix_axes,
    make_profiles,
    parse_shape,
    parse_size,
    parse_targets,
)
from htr_export.trt.prepare import choose_precision, prepare
from htr_export.trt.trtexec import trtexec_command

GRAPH = OnnxFile(
    path=Path("model.onnx"),
    sha256="0" * 64,
    opset=20,
    precision="fp32",
    input=TensorInfo("image", "float32", ("batch", 1, 64, "width")),
    output=TensorInfo("logits", "float32", ("batch", "frames", 31)),
    metadata={},
    preprocessing=Preprocessing(width=128),
)
FIXED = replace(
    GRAPH,
    input=TensorInfo("image", "float32", (4, 1, 64, 256)),
    output=TensorInfo("logits", "float32", (4, 64, 31)),
)


def shapes(*texts):
    """Return options with one profile of the three shapes."""
    low, best, high = ((parse_shape(text),) for text in texts)
    return PlanOptions(min_shapes=low, opt_shapes=best, max_shapes=high)


axes = st.integers(0, 999_999_999)


@given(name=st.from_regex(r"[a-z_][a-z0-9_.]{0,9}", fullmatch=True), shape=st.tuples(axes, axes, axes, axes))
def test_a_shape_is_read_as_it_is_written(name, shape):
    assert parse_shape(str(NamedShape(name, shape))) == NamedShape(name, shape)


@given(text=st.text(max_size=20) | st.from_regex(r"image:[0-9x]{0,12}", fullmatch=True))
def test_no_text_is_read_as_another_shape(text):
    try:
        parsed = parse_shape(text)
    except ValueError:
        return
    numbers = text.rpartition(":")[2].split("x")
    assert parsed.shape == tuple(int(number) for number in numbers)
    assert text.startswith(f"{parsed.name}:")


@given(number=st.integers(1, 10**9), unit=st.sampled_from(list(UNITS)), space=st.sampled_from(["", " "]))
def test_sizes_have_units(number, unit, space):
    assert parse_size(f"{number}{space}{unit}") == parse_size(f"{number}{unit.lower()}") == number * UNITS[unit]


@pytest.mark.parametrize("text", ["", "512", "0MiB", "-1MiB", "MiB", "1 parsec", "1e3MB", "nan MB", "0.1B", "٣MB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="512MiB"):
        parse_size(text)


def test_targets():
    assert parse_targets("sm86, SM89,sm86") == ("sm86", "sm89")
    for text in ("", "86", "sm", "sm86;sm89", "sm8600"):
        with pytest.raises(ValueError, match="sm86"):
            parse_targets(text)


@pytest.mark.parametrize(
    ("runtime", "options", "option"),
    [
        ("tensorrt-rtx", {"timing_cache": Path("cache")}, "--timing-cache"),
        ("tensorrt-rtx", {"hardware_compatible": True}, "--hardware-compatible"),
        ("tensorrt-rtx", {"version_compatible": True}, "--version-compatible"),
        ("tensorrt", {"targets": ("sm86",)}, "--target"),
    ],
)
def test_what_a_runtime_lacks_is_refused_and_not_ignored(runtime, options, option):
    with pytest.raises(ExportError, match=f"{runtime} has no {option}: .*leave {option} out"):
        check_supported(PlanOptions(**options), runtime)
    check_supported(PlanOptions(**options), "tensorrt" if runtime == "tensorrt-rtx" else "tensorrt-rtx")


def test_a_graph_that_is_too_new_for_jetpack_6_is_refused():
    check_opset("tensorrt", "10.3.0", 20)
    check_opset("tensorrt", "11.4.0", 23)
    with pytest.raises(ExportError, match="--opset 20"):
        check_opset("tensorrt", "10.3.0", 21)


def test_default_profiles():
    (open_batch,) = make_profiles(GRAPH, PlanOptions())
    assert (open_batch.min, open_batch.opt, open_batch.max) == ((1, 1, 64, 128), (8, 1, 64, 128), (32, 1, 64, 128))
    (fixed,) = make_profiles(FIXED, PlanOptions())
    assert fixed.min == fixed.opt == fixed.max == (4, 1, 64, 256)


@pytest.mark.parametrize(
    ("graph", "texts", "said"),
    [
        (GRAPH, ["img:1x1x64x128"] * 3, "called 'image'"),
        (GRAPH, ["image:1x3x64x128"] * 3, "channels is 1, not 3"),
        (GRAPH, ["image:1x1x32x128"] * 3, "height is 64, not 32"),
        (GRAPH, ["image:1x1x64x100"] * 3, "multiple of 8"),
        (GRAPH, ["image:1x1x64x2056"] * 3, "to 2048"),
        (GRAPH, ["image:0x1x64x128"] * 3, "at least 1"),
        (GRAPH, ["image:2x1x64x128", "image:1x1x64x128", "image:8x1x64x128"], "not in order"),
        (FIXED, ["image:1x1x64x256"] * 3, "batch is 4, not 1"),
    ],
)
def test_shapes_that_do_not_fit_the_graph_are_refused(graph, texts, said):
    with pytest.raises(ExportError, match=said):
        make_profiles(graph, shapes(*texts))


def test_the_three_shapes_go_together():
    one = (parse_shape("image:1x1x64x128"),)
    for options in (PlanOptions(opt_shapes=one), PlanOptions(min_shapes=one, opt_shapes=one * 2, max_shapes=one)):
        with pytest.raises(ExportError, match="together"):
            make_profiles(GRAPH, options)


def test_a_plan_names_the_axes_that_stay_open_only():
    given, made = fix_axes(GRAPH, make_profiles(GRAPH, PlanOptions()))
    assert (given.shape, made.shape) == (("batch", 1, 64, 128), ("batch", 32, 31))
    wide = shapes("image:1x1x64x128", "image:1x1x64x256", "image:1x1x64x512")
    given, made = fix_axes(GRAPH, make_profiles(GRAPH, wide))
    assert (given.shape, made.shape) == ((1, 1, 64, "width"), (1, "frames", 31))
    given, made = fix_axes(FIXED, make_profiles(FIXED, PlanOptions()))
    assert (given.shape, made.shape) == ((4, 1, 64, 256), (4, 64, 31))


def test_precision_means_one_thing():
    half = replace(GRAPH, precision="fp16")
    assert choose_precision(GRAPH, PlanOptions(), has_lines=True) == "fp16"
    assert choose_precision(GRAPH, PlanOptions(precision="fp32"), has_lines=False) == "fp32"
    assert choose_precision(half, PlanOptions(), has_lines=False) == "fp16"
    assert choose_precision(replace(GRAPH, precision="int8"), PlanOptions(), has_lines=False) == "int8"
    for graph, options, has_lines in (
        (half, PlanOptions(precision="fp32"), False),
        (half, PlanOptions(), True),
        (GRAPH, PlanOptions(precision="fp32"), True),
    ):
        with pytest.raises(ExportError):
            choose_precision(graph, options, has_lines=has_lines)


@pytest.fixture
def orin(monkeypatch):
    """Play a Jetson Orin with JetPack 6."""
    library = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
    monkeypatch.setattr(preparation, "load_tensorrt", {"tensorrt": library}.__getitem__)
    monkeypatch.setattr(preparation, "_compute_capability", lambda: "8.7")


@pytest.mark.usefixtures("orin")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        (PlanOptions(), "model.fp16.sm87.trt10.3.plan"),
        (PlanOptions(precision="fp32"), "model.fp32.sm87.trt10.3.plan"),
        (PlanOptions(hardware_compatible=True), "model.fp16.sm80+.trt10.3.plan"),
    ],
)
def test_a_plan_is_called_by_precision_gpu_and_release(onnx_file, tmp_path, options, name):
    prepared = prepare(onnx_file, tmp_path, options)
    assert prepared.target == tmp_path / name
    assert prepared.runtime == "tensorrt"
    assert prepared.targets == ()


@pytest.mark.usefixtures("orin")
def test_the_same_for_trtexec(onnx_file, tmp_path):
    options = PlanOptions(workspace=2**29, version_compatible=True, timing_cache=tmp_path / "times")
    command = trtexec_command(prepare(onnx_file, tmp_path / "m.plan", options)).split()
    assert command[:3] == [
        "trtexec",
        f"--onnx={onnx_file.with_suffix('.fp16.onnx')}",
        f"--saveEngine={tmp_path}/m.plan",
    ]
    for option in (
        "--stronglyTyped",
        "--noTF32",
        "--minShapes=image:1x1x64x128",
        "--optShapes=image:8x1x64x128",
        "--maxShapes=image:32x1x64x128",
        "--memPoolSize=workspace:536870912B",
        "--versionCompatible",
        f"--timingCacheFile={tmp_path}/times",
    ):
        assert option in command


def test_only_our_line_models_are_taken(onnx_file, tmp_path):
    assert read_onnx(onnx_file).input.shape == ("batch", 1, 64, "width")
    model = onnx.load(str(onnx_file))
    del model.metadata_props[:]
    bare, half, part, flat, odd = (tmp_path / f"{name}.onnx" for name in ("bare", "half", "part", "flat", "odd"))
    onnx.save(model, str(bare))
    model = onnx.load(str(onnx_file))
    del model.graph.output[0].type.tensor_type.shape.dim[1]
    onnx.save(model, str(flat))
    model = onnx.load(str(onnx_file))
    next(entry for entry in model.metadata_props if entry.key == "preprocessing").value = "[1]"
    onnx.save(model, str(odd))
    half.write_bytes(onnx_file.read_bytes()[:1000])
    onnx.save(onnx.load(str(onnx_file)), str(part), save_as_external_data=True, size_threshold=0)
    for path, said in (
        (bare, "does not say its charset"),
        (flat, "does not take and give float32 lines"),
        (odd, "preprocessing is damaged"),
        (half, "not a whole ONNX file"),
        (part, "in other files"),
        (tmp_path, "is a folder; give a file"),
        (tmp_path / "none.onnx", "does not exist"),
    ):
        with pytest.raises((ExportError, DataError), match=said):
            read_onnx(path)
