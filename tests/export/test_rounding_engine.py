"""The stand-in that rounds every value to its type, so that a CPU shows what half precision and bfloat16 do."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from htr_engines.backends import open_engine
from htr_engines.errors import EngineError
from htr_export.model import load_model
from htr_export.onnx.export import OnnxOptions, write_graph
from htr_export.open_model import open_any
from htr_export.precision.casting import module_of
from htr_export.precision.lowering import lower
from htr_export.precision.precision_map import PrecisionMap
from htr_export.rounding_engine import RoundingEngine
from htr_export.torch_engine import TorchEngine

BF16 = PrecisionMap("bf16")


@pytest.fixture(scope="module")
def bf16_file(workspace, safetensors):
    path = workspace / "lowered.bf16.onnx"
    write_graph(load_model(safetensors), path, OnnxOptions(22, batch=1, width=128))
    lower(path, path, BF16)
    return path


def test_bf16_is_bfloat16_inside_and_float_at_both_ends(bf16_file):
    model = onnx.load(str(bf16_file))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*inferred.value_info, *inferred.output]}
    assert model.graph.input[0].type.tensor_type.elem_type == types["logits"] == TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type in {"Conv", "MatMul"}:
            assert types[node.output[0]] == TensorProto.BFLOAT16, node.name
        if node.op_type in {"LayerNormalization", "Softmax"} or ".ls_" in module_of(node):
            assert types[node.output[0]] == TensorProto.FLOAT, node.name


def test_bf16_reads_as_float32_does_but_for_rounding(bf16_file, safetensors):
    image_N1HW = np.random.default_rng(0).random((1, 1, 64, 128), dtype=np.float32)
    with TorchEngine(safetensors) as reference:
        expected_NTC = reference.infer(image_N1HW)
    # Where the variable takes bfloat16 from oneDNN, OpenVINO still chooses it by the CPU, and crashes.
    for name in ("rounding", *(() if "ONEDNN_MAX_CPU_ISA" in os.environ else ("openvino",))):
        with open_any(bf16_file, name) as engine:
            difference = np.abs(engine.infer(image_N1HW) - expected_NTC)
        assert 1e-4 < difference.max() < 0.3 * expected_NTC.std(), name


def test_onnx_runtime_says_that_it_has_no_bfloat16(bf16_file):
    with pytest.raises(EngineError, match="cannot open"):
        open_engine(bf16_file)


def half_graph(path, element):
    """Write (x * 300 * 300) / 1000, all but the ends in ``element``."""
    numbers = onnx.helper.tensor_dtype_to_np_dtype(element)
    axes = ["batch", 1, 64, "width"]
    nodes = [
        make_node("Cast", ["image"], ["x"], to=element),
        make_node("Mul", ["x", "factor"], ["y"]),
        make_node("Mul", ["y", "factor"], ["z"]),
        make_node("Div", ["z", "divisor"], ["q"]),
        make_node("Cast", ["q"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = make_graph(
        nodes,
        "graph",
        [make_tensor_value_info("image", TensorProto.FLOAT, axes)],
        [make_tensor_value_info("logits", TensorProto.FLOAT, axes)],
        [from_array(np.array(300, numbers), "factor"), from_array(np.array(1000, numbers), "divisor")],
    )
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=9), str(path))
    return path


def test_what_overflows_in_half_precision_is_infinite(tmp_path):
    image_N1HW = np.full((1, 1, 64, 32), 1.001, np.float32)
    half, brain = half_graph(tmp_path / "half.onnx", TensorProto.FLOAT16), tmp_path / "brain.onnx"
    half_graph(brain, TensorProto.BFLOAT16)
    with open_engine(half) as plain, RoundingEngine(half) as rounding, RoundingEngine(brain) as wide:
        assert np.isfinite(plain.infer(image_N1HW)).all()  # which is why the stand-in is needed
        assert np.isinf(rounding.infer(image_N1HW)).all()
        assert wide.infer(image_N1HW).flat[0] == pytest.approx(90, rel=0.01)  # not overflowed, but not 90.09 either
        assert wide.infer(image_N1HW).flat[0] != pytest.approx(90.09, rel=1e-4)
        assert rounding.info.engine == "rounding"


def test_what_is_no_graph_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    for content in (b"", b"no graph"):
        path.write_bytes(content)
        with pytest.raises(EngineError):
            RoundingEngine(path)
    with pytest.raises(EngineError):
        RoundingEngine(tmp_path)
