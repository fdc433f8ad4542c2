"""FP16 graphs: float32 at both ends, islands where half precision would not hold, and nothing lost in silence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from htr_engines.backends import open_engine
from htr_engines.errors import DataError
from htr_engines.lines import read_lines
from htr_engines.preprocess import Preprocessing
from htr_export.precision.casting import LARGEST, module_of
from htr_export.precision.lowering import lower
from htr_export.precision.precision_map import PrecisionMap
from htr_export.precision.ranges import measure_ranges

FP16 = PrecisionMap("fp16")
SPEC = Preprocessing(width=128)
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def node_types(path):
    """Return the element type of each node's output, by node name."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    types = {value.name: value.type.tensor_type.elem_type for value in [*model.graph.value_info, *model.graph.output]}
    return model, {node.name: types.get(node.output[0]) for node in model.graph.node}


@pytest.fixture(scope="module")
def ranges(onnx_file, lines_dir):
    return measure_ranges(onnx_file, read_lines(lines_dir), SPEC)


def test_the_graph_is_half_inside_and_float_at_both_ends(onnx_file, tmp_path):
    target = tmp_path / "model.fp16.onnx"
    report = lower(onnx_file, target, FP16)
    model, types = node_types(target)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == FLOAT
    for node in model.graph.node:
        if node.op_type in {"LayerNormalization", "InstanceNormalization", "Softmax"} or ".ls_" in module_of(node):
            assert types[node.name] == FLOAT, node.name
        if node.op_type in {"Conv", "MatMul"}:
            assert types[node.name] == FLOAT16, node.name
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    factors = [name for node in model.graph.node if ".ls_" in module_of(node) for name in node.input if name in weights]
    assert len(factors) == 12
    assert {weights[name] for name in factors} == {FLOAT}
    assert 0 < report.fp32_nodes < report.nodes["fp16"]
    assert target.stat().st_size < onnx_file.stat().st_size
    assert {entry.value for entry in model.metadata_props if entry.key == "precision"} == {"fp16"}


def test_logits_stay_close(onnx_file, tmp_path):
    target = tmp_path / "model.fp16.onnx"
    lower(onnx_file, target, FP16)
    image_N1HW = np.random.default_rng(0).random((3, 1, 64, 128), dtype=np.float32)
    with open_engine(onnx_file) as reference, open_engine(target) as lowered:
        assert lowered.info.metadata["precision"] == "fp16"
        expected_NTC = reference.infer(image_N1HW)
        assert np.abs(lowered.infer(image_N1HW) - expected_NTC).max() < 0.05 * expected_NTC.std()


def test_ranges_are_the_largest_values_of_every_node(onnx_file, lines_dir, ranges):
    names = {node.name for node in onnx.load(str(onnx_file)).graph.node if node.op_type in {"Conv", "MatMul"}}
    assert names <= ranges.keys()
    assert all(np.isfinite(peak) and peak >= 0 for peak in ranges.values())
    one = measure_ranges(onnx_file, read_lines(lines_dir)[:1], SPEC)
    assert all(one[name] <= ranges[name] for name in ranges)


def test_what_comes_near_the_limit_stays_float_and_is_named_by_its_module(onnx_file, tmp_path, ranges):
    model = onnx.load(str(onnx_file))
    node = next(node for node in model.graph.node if module_of(node) == "blocks.1.ffn1.lin1")
    target = tmp_path / "model.fp16.onnx"
    report = lower(onnx_file, target, FP16, ranges={**ranges, node.name: 60_000.0})
    assert report.out_of_range == {"blocks.1.ffn1.lin1": 60_000.0}
    assert any("blocks.1.ffn1.lin1 stays in float32: |x| up to 6e+04" in check.detail for check in report.checks())
    _, types = node_types(target)
    readers = [other.name for other in model.graph.node if node.output[0] in other.input]
    assert readers
    assert all(types[name] == FLOAT for name in [node.name, *readers])


def test_weights_beyond_half_precision_are_kept_and_named(onnx_file, tmp_path):
    model = onnx.load(str(onnx_file))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[3] = 2 * LARGEST
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    source, target = tmp_path / "large.onnx", tmp_path / "large.fp16.onnx"
    onnx.save(model, str(source))
    report = lower(source, target, FP16)
    assert report.overflowing_weights == ("head.bias",)
    kept = {tensor.name: tensor for tensor in onnx.load(str(target)).graph.initializer}["head.bias"]
    assert onnx.numpy_helper.to_array(kept)[3] == 2 * LARGEST


def test_no_readable_line_is_an_error(onnx_file, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 line images"):
        measure_ranges(onnx_file, read_lines(tmp_path), SPEC)
