"""The exported graph: equal to PyTorch, self-contained, and free of shape arithmetic."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from helpers.drawn import CHARSET
from helpers.small import CONFIG

from htr_engines.backends import open_engine
from htr_engines.backends.base import infer_lines
from htr_engines.errors import EngineError, ExportError, ParityError
from htr_export.model import load_model
from htr_export.onnx.checks import OnnxTolerance, check_onnx
from htr_export.onnx.export import OnnxOptions, export_onnx
from htr_export.torch_engine import TorchEngine

WIDTHS = (32, 40, 136, 520, 2048)
SHAPE_ARITHMETIC = {"Shape", "Gather", "Expand", "Cast", "Range", "Where"}


@pytest.fixture(scope="module")
def fixed_file(workspace, safetensors):
    path = workspace / "fixed.onnx"
    model = load_model(safetensors)
    before = {name: tensor.clone() for name, tensor in model.tensors.items()}
    export_onnx(model, path, OnnxOptions(opset=18, batch=2, width=128))
    assert all(torch.equal(model.tensors[name], tensor) for name, tensor in before.items()), "exporting changed it"
    return path


def test_metadata_and_axes(onnx_file, safetensors):
    model = onnx.load(str(onnx_file))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == load_model(safetensors).metadata()
    assert metadata["charset"] == CHARSET.characters
    assert json.loads(metadata["network"]) == CONFIG.to_dict()
    image, logits = model.graph.input[0], model.graph.output[0]
    assert (image.name, logits.name) == ("image", "logits")
    axes = [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim]
    assert axes == ["batch", 1, 64, "width"]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert [path.name for path in onnx_file.parent.glob("*.data")] == []


def test_graph_is_clean(onnx_file, fixed_file):
    dynamic = Counter(node.op_type for node in onnx.load(str(onnx_file)).graph.node)
    fixed = Counter(node.op_type for node in onnx.load(str(fixed_file)).graph.node)
    for counts in (dynamic, fixed):
        assert counts["BatchNormalization"] == counts["Identity"] == counts["Dropout"] == 0
    assert dynamic["Shape"] <= 1  # the length of the line, for the position bias
    assert not SHAPE_ARITHMETIC & fixed.keys()
    assert fixed["Concat"] == 1  # the upsampling


def test_attention_has_four_axes_and_nothing_more_than_five(onnx_file):
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(onnx_file))).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.value_info}
    assert max(ranks.values()) == 5  # Core ML and others take no more
    assert {ranks[node.input[0]] for node in graph.node if node.op_type == "Softmax"} == {4}  # what engines fuse


def test_every_node_tells_its_module_and_no_path_of_this_machine(onnx_file):
    model = onnx.load(str(onnx_file))
    scopes = [entry.value for node in model.graph.node for entry in node.metadata_props]
    assert any("blocks.1.attn" in scope for scope in scopes)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")  # whose bytes may be anything
    assert b".py" not in model.SerializeToString()


@pytest.fixture(scope="module")
def by_width(safetensors):
    """Lines of several widths with the logits of PyTorch."""
    with TorchEngine(safetensors) as reference:
        lines = {width: np.random.default_rng(0).random((2, 1, 64, width), dtype=np.float32) for width in WIDTHS}
        return {width: (image_N1HW, reference.infer(image_N1HW)) for width, image_N1HW in lines.items()}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_dynamic_widths_equal_pytorch(onnx_file, by_width, engine):
    with open_engine(onnx_file, engine) as candidate:
        for width, (image_N1HW, expected_NTC) in by_width.items():
            assert np.allclose(candidate.infer(image_N1HW), expected_NTC, atol=1e-4), width


def test_a_fixed_batch_takes_any_number_of_lines(fixed_file, safetensors):
    image_N1HW = np.random.default_rng(0).random((5, 1, 64, 128), dtype=np.float32)
    with open_engine(fixed_file) as candidate, TorchEngine(safetensors) as reference:
        logits_NTC = infer_lines(candidate, image_N1HW)
        assert np.allclose(logits_NTC, reference.infer(image_N1HW), atol=1e-4)
        with pytest.raises(EngineError, match="128 pixels"):
            infer_lines(candidate, image_N1HW[..., :64])


def with_other_bias(model, difference):
    tensors = dict(model.tensors)
    tensors["head.bias"] = tensors["head.bias"] + difference
    return type(model)(model.config, model.charset, tensors, model.provenance)


def test_a_graph_of_other_weights_fails_the_check(onnx_file, safetensors):
    with pytest.raises(ParityError, match=r"-\[✗\] .* error 1\.0e-02, of PyTorch's float32 .* \(bound: 4 times"):
        check_onnx(onnx_file, with_other_bias(load_model(safetensors), 0.01), None, 128, OnnxTolerance())


def test_a_tolerance_that_is_given_rules(onnx_file, safetensors):
    changed = with_other_bias(load_model(safetensors), 0.01)
    checks = check_onnx(onnx_file, changed, 2, 128, OnnxTolerance(atol=0.02))
    assert "(bound: atol 0.02, rtol 0)" in checks[1].detail
    for tolerance in (OnnxTolerance(rtol=1e-9), OnnxTolerance(atol=0.0)):
        with pytest.raises(ParityError):
            check_onnx(onnx_file, load_model(safetensors), 1, 128, tolerance)


def test_a_failed_check_leaves_no_file(tmp_path, monkeypatch, safetensors):
    from htr_export.onnx import export

    def fail(*_):
        raise ParityError("no")

    monkeypatch.setattr(export, "check_onnx", fail)
    monkeypatch.setattr(export, "write_graph", lambda _model, path, _options: path.write_bytes(b"x"))
    with pytest.raises(ParityError):
        export_onnx(load_model(safetensors), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "numbers", [{"opset": 17}, {"opset": 99}, {"batch": 0}, {"width": 100}, {"width": 24}, {"width": 4096}]
)
def test_options_out_of_range_are_refused(numbers):
    with pytest.raises(ExportError):
        OnnxOptions(**numbers)
