"""What an ONNX file says of itself, before an engine sees it."""

from __future__ import annotations

import contextlib
import random
from importlib.util import find_spec

import pytest
from helpers.bench_fakes import CHARACTERS, write_onnx

from htr_engines.backends import open_engine
from htr_engines.errors import EngineError
from htr_engines.onnx_facts import read_facts

onnx = pytest.importorskip("onnx")


NO_OPENVINO = pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=NO_OPENVINO)]


@pytest.fixture
def file(tmp_path):
    return write_onnx(tmp_path / "tiny.onnx")


def changed(file, change):
    model = onnx.load(str(file))
    change(model)
    content: bytes = model.SerializeToString()
    return content


def test_the_facts(file):
    facts = read_facts(file.read_bytes(), "tiny")
    assert facts.metadata["charset"] == CHARACTERS
    assert facts.inputs == (("batch", 1, 64, "width"),)
    assert facts.outputs == (("batch", "frames", 8),)


@pytest.mark.parametrize("version", [0, -1, 101, 2**31 - 1, 2**62])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_absurd_operator_set_is_refused_before_an_engine_searches_for_it(file, version, engine):
    def change(model):
        model.opset_import[0].version = version

    file.write_bytes(changed(file, change))
    with pytest.raises(EngineError, match="opset version"):
        open_engine(file, engine)


def test_versions_anywhere_count(file):
    def add_opset(model):
        model.opset_import.add(domain="com.microsoft", version=2**40)

    def add_function(model):
        model.functions.add(name="f", domain="d").opset_import.add(version=2**40)

    def set_ir(model):
        model.ir_version = 2**40

    for change in (add_opset, add_function, set_ir):
        with pytest.raises(EngineError, match="version"):
            read_facts(changed(file, change), "tiny")


def external(tensor):
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")


@pytest.mark.parametrize("engine", ENGINES)
def test_tensors_in_other_files_are_refused(file, engine):
    file.write_bytes(changed(file, lambda model: external(model.graph.initializer[0])))
    with pytest.raises(EngineError, match="other files"):
        open_engine(file, engine)


def test_tensors_in_other_files_are_found_wherever_they_stand(file):
    def in_constant(model):
        node = model.graph.node.add(op_type="Constant", output=["c"])
        external(node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t)

    def in_subgraph(model):
        node = model.graph.node.add(op_type="If", input=["x"], output=["c"])
        external(node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.initializer.add())

    def in_sparse(model):
        external(model.graph.sparse_initializer.add().values)

    def in_function(model):
        node = model.functions.add(name="f").node.add(op_type="Constant")
        external(node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t)

    for change in (in_constant, in_subgraph, in_sparse, in_function):
        with pytest.raises(EngineError, match="other files"):
            read_facts(changed(file, change), "tiny")


def test_the_word_alone_is_no_other_file(file):
    def change(model):
        model.metadata_props.add(key="location", value="Berlin")
        model.doc_string = "location"

    content = changed(file, change)
    with pytest.raises(EngineError, match="other files"):  # a key of that name is refused, wherever it stands
        read_facts(content, "tiny")

    def describe(model):
        model.doc_string = "location"
        model.graph.node[0].name = "at_location"

    assert read_facts(changed(file, describe), "tiny").metadata


def test_mutated_files_cost_an_engine_error(file):
    content = file.read_bytes()
    draw = random.Random(1)  # noqa: S311
    for _ in range(2000):
        mutated = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            mutated[draw.randrange(len(mutated))] = draw.randrange(256)
        end = draw.choice([len(mutated), draw.randrange(len(mutated))])
        with contextlib.suppress(EngineError):
            read_facts(bytes(mutated[:end]), "tiny")


def test_a_file_of_tiny_fields_or_of_much_but_values_is_refused(file):
    many, long = b"\x12\x00" * 600_000, b"\x12\x80\x80\x80\x20" + bytes(64 << 20)
    for more in (many, long):
        with pytest.raises(EngineError, match="whole ONNX"):
            read_facts(file.read_bytes() + more, "tiny")
