"""INT8: the form that every engine takes, steps chosen on real lines, and plans that mix precisions."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.onnx_files import with_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.numpy_helper import to_array

from htr_engines.backends import open_engine
from htr_engines.errors import DataError, ExportError
from htr_engines.lines import load_batches, read_lines
from htr_engines.preprocess import Preprocessing
from htr_export.precision.casting import module_of
from htr_export.precision.histogram import Histogram
from htr_export.precision.lowering import Lowering, lower
from htr_export.precision.precision_map import DEFAULT_METHOD, METHODS, PrecisionMap, PrecisionMapError

INT8 = PrecisionMap("int8")
MIXED = PrecisionMap("fp16", {"patch_embed": "int8", "blocks.1": "int8", "blocks.1.attn": "fp32"})
SPEC = Preprocessing(width=128)
CPU_FACTS = Path("/proc/cpuinfo")
HAS_VNNI = "ONEDNN_MAX_CPU_ISA" not in os.environ and CPU_FACTS.is_file() and "vnni" in CPU_FACTS.read_text()


def constants(model):
    return {tensor.name: to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture(scope="module")
def lines(lines_dir):
    return read_lines(lines_dir)


@pytest.fixture(scope="module")
def sample_N1HW(lines):  # noqa: N802
    return next(load_batches(lines, SPEC, 3)).images


@pytest.fixture(scope="module")
def limits(onnx_file, lines):
    return Lowering(onnx_file, lines, SPEC).limits(DEFAULT_METHOD)


@pytest.fixture(scope="module")
def int8_file(onnx_file, limits, workspace):
    target = workspace / "lowered.int8.onnx"
    report = lower(onnx_file, target, INT8, limits=limits)
    assert report.nodes["int8"] > 50
    return target


@pytest.fixture(scope="module")
def mixed_file(onnx_file, limits, workspace):
    target = workspace / "lowered.mixed.onnx"
    lower(onnx_file, target, MIXED, limits=limits)
    return target


def test_the_form_is_the_one_that_every_engine_takes(onnx_file, int8_file):
    model = onnx.load(str(int8_file))
    onnx.checker.check_model(model, full_check=True)
    values = constants(model)
    pairs = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    for node in pairs:
        zero = values[node.input[2]]
        assert zero.dtype == np.int8  # no int32 either: biases stay float
        assert not zero.any()
        assert (values[node.input[1]] > 0).all()
    for node in model.graph.node:
        if node.op_type == "Conv":
            made = next(other for other in pairs if node.input[1] in other.output)
            assert values[made.input[1]].shape == values[made.input[0]].shape[:1]  # a scale per output channel
            assert all(values[name].dtype == np.float32 for name in node.input[2:])
    axes = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 1, 64, "width"]
    assert {entry.value for entry in model.metadata_props if entry.key == "precision"} == {"int8"}
    assert {module_of(node) for node in model.graph.node} == {
        module_of(n) for n in onnx.load(str(onnx_file)).graph.node
    }
    assert int8_file.stat().st_size < onnx_file.stat().st_size


def infer_unfused(path, image_N1HW):
    """Run a graph as it is written: rounded to 8 bits and computed in float, on any CPU alike."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image_N1HW})[0]


@pytest.mark.parametrize("engine", ["unfused", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["int8_file", "mixed_file"])
def test_logits_stay_close_on_real_lines(request, onnx_file, sample_N1HW, engine, name):
    if engine != "unfused" and not HAS_VNNI:
        pytest.skip("without VNNI an x86 CPU adds products of int8 in 16 bits, which overflow")
    path = request.getfixturevalue(name)
    with open_engine(onnx_file) as reference:
        expected_NTC = reference.infer(sample_N1HW)
    if engine == "unfused":
        logits_NTC = infer_unfused(path, sample_N1HW)
    else:
        with open_engine(path, engine) as lowered:
            logits_NTC = lowered.infer(sample_N1HW)
    assert np.abs(logits_NTC - expected_NTC).mean() < 0.05 * expected_NTC.std()
    assert (logits_NTC.argmax(-1) == expected_NTC.argmax(-1)).mean() > 0.95


def test_onnx_runtime_computes_it_in_integers(int8_file, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(int8_file), options, providers=["CPUExecutionProvider"])
    used = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert used["QLinearConv"] > 2 * used["Conv"]
    assert used["MatMulIntegerToFloat"] > 20


def test_a_mixed_graph_is_typed_throughout(mixed_file):
    model = onnx.load(str(mixed_file))
    onnx.checker.check_model(model, full_check=True)
    values = constants(model)
    scales = {values[n.input[1]].dtype.name for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert scales == {"float16"}
    quantised = {module_of(node) for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert all(MIXED.precision_of(module) == "int8" for module in quantised)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["precision"] == "mixed"
    assert '"blocks.1": "int8"' in metadata["precision_map"]


def test_channels_of_zeros_and_tensors_of_zeros(onnx_file, limits, sample_N1HW, tmp_path):
    def silence(weights):
        weights[0] = 0
        return weights

    source = with_weights(onnx_file, tmp_path / "zeros.onnx", "patch_embed.layer1.0.conv2.weight", silence)
    node = next(node for node in onnx.load(str(source)).graph.node if module_of(node) == "blocks.2.conv.pw2")
    target = tmp_path / "zeros.int8.onnx"
    report = lower(source, target, INT8, limits={**limits, node.input[0]: 0.0})
    assert report.all_zero == ("blocks.2.conv.pw2",)
    assert any("blocks.2.conv.pw2 is not quantised" in check.detail for check in report.checks())
    with open_engine(target) as engine:
        assert np.isfinite(engine.infer(sample_N1HW)).all()


def test_values_that_are_not_finite_are_refused(onnx_file, lines, limits, tmp_path):
    def spoil(weights):
        weights.flat[0] = np.inf
        return weights

    source = with_weights(onnx_file, tmp_path / "inf.onnx", "patch_embed.layer1.0.conv2.weight", spoil)
    with pytest.raises(ExportError, match="not finite"):
        Lowering(source, lines[:1], SPEC).limits(DEFAULT_METHOD)
    with pytest.raises(ExportError, match=r"conv2.weight holds weights that are not finite"):
        lower(source, tmp_path / "x.onnx", INT8, limits=limits)
    assert not (tmp_path / "x.onnx").exists()


def test_what_cannot_be_lowered_is_refused(onnx_file, int8_file, limits, tmp_path):
    target = tmp_path / "x.onnx"
    with pytest.raises(PrecisionMapError, match="int8 needs real lines"):
        lower(onnx_file, target, INT8)
    with pytest.raises(ExportError, match="is int8 already; give the float32 graph"):
        lower(int8_file, target, INT8, limits=limits)
    with pytest.raises(ExportError, match="the calibration lacks image"):
        lower(onnx_file, target, INT8, limits={})
    with pytest.raises(ExportError, match="opset 20 does not know this precision; give --opset 22"):
        lower(onnx_file, target, PrecisionMap("bf16"))
    with pytest.raises(PrecisionMapError, match="did you mean 'head'"):
        lower(onnx_file, target, PrecisionMap("fp16", {"heads": "fp32"}))
    assert not target.exists()


def test_calibration_without_a_readable_line(onnx_file, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 line images"):
        Lowering(onnx_file, read_lines(tmp_path), SPEC).limits(DEFAULT_METHOD)


def test_every_limit_lies_within_what_was_seen(onnx_file, lines, limits):
    largest = Lowering(onnx_file, lines, SPEC, batch=3).limits("minmax")
    assert largest.keys() == limits.keys()
    assert largest["image"] == 1.0
    assert all(0 <= limits[name] <= largest[name] for name in limits)


arrays = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200).map(lambda v: np.array(v, np.float32))


@given(st.lists(arrays, min_size=1, max_size=5), st.sampled_from(METHODS))
@settings(deadline=None, max_examples=40)
def test_a_limit_is_positive_and_no_larger_than_the_largest_value(portions, method):
    histogram = Histogram()
    for portion in portions:
        histogram.add(portion)
    largest = max(float(np.abs(portion).max()) for portion in portions)
    assert 0 <= histogram.limit(method) <= largest
    assert (histogram.limit(method) > 0) == (largest > 0)
    assert histogram.limit("minmax") == largest


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_not_forgotten(wrong):
    histogram = Histogram()
    histogram.add(np.array([1, wrong, 2], np.float32))
    histogram.add(np.array([3], np.float32))
    assert np.isinf(histogram.peak)


def test_entropy_does_not_clip_the_ink_of_a_line_that_is_mostly_white():
    random = np.random.default_rng(0)
    white = np.repeat(random.uniform(0, 0.5, 16), 2000).astype(np.float32)  # each channel has one value for white
    ink = random.uniform(0, 8, 4000).astype(np.float32)
    histogram = Histogram()
    histogram.add(np.concatenate([white, ink]))
    assert histogram.limit("entropy") > 7


def test_limits_do_not_depend_on_the_order_of_values():
    values = np.random.default_rng(0).normal(0, 1, 20_000).astype(np.float32)
    values[77] = 40
    limits = []
    for order in (values, np.sort(values), np.sort(values)[::-1]):
        histogram = Histogram()
        for portion in np.split(order, 4):
            histogram.add(portion)
        limits.append([histogram.limit(method) for method in METHODS])
    assert limits[0] == limits[1] == limits[2]
    largest, percentile, entropy = limits[0]
    assert largest == 40
    assert percentile == pytest.approx(np.quantile(np.abs(values), 0.9999), rel=0.05)
    assert 2 < entropy < 8  # a lone outlier is not worth the steps that it would cost the rest
