"""A plan's sidecar: read strictly, and believed only where it fits the plan, the device and the ONNX file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htr_engines.backends.base import TensorInfo
from htr_engines.backends.tensorrt.sidecar import (
    RTX_DEFAULT_TARGETS,
    PlanSidecar,
    Profile,
    check_fits,
    incompatibility,
    read_sidecar,
    sidecar_path,
    to_json,
    write_sidecar,
)
from htr_engines.errors import EngineError

PLAN, ONNX = b"the plan", b"the graph"
RTX = PlanSidecar(
    runtime="tensorrt-rtx",
    runtime_version="1.7.1.116",
    compute_capability=None,
    targets=RTX_DEFAULT_TARGETS,
    hardware_compatible=False,
    version_compatible=False,
    precision="fp16",
    profiles=(Profile((1, 1, 64, 128), (8, 1, 64, 128), (32, 1, 64, 128)),),
    input=TensorInfo("image", "float32", ("batch", 1, 64, 128)),
    output=TensorInfo("logits", "float32", ("batch", 32, 31)),
    onnx_file="model.onnx",
    onnx_sha256=hashlib.sha256(ONNX).hexdigest(),
    plan_sha256=hashlib.sha256(PLAN).hexdigest(),
    plan_bytes=len(PLAN),
    metadata={"charset": " abcäöü", "precision": "fp16"},
    flags={"tf32": False, "workspace_bytes": None},
    seconds=3.5,
    log=("WARNING: slow",),
    environment={"cpu": "some", "gpus": []},
    command="htr-export trt model.onnx -o model.plan",
)
TENSORRT = replace(RTX, runtime="tensorrt", runtime_version="10.3.0", compute_capability="8.7", targets=())


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "model.plan"
    path.write_bytes(PLAN)
    (tmp_path / "model.onnx").write_bytes(ONNX)
    write_sidecar(path, RTX)
    return path


@pytest.mark.parametrize("sidecar", [RTX, TENSORRT], ids=["rtx", "tensorrt"])
def test_what_is_written_is_read(plan, sidecar):
    write_sidecar(plan, sidecar)
    assert read_sidecar(plan) == sidecar
    assert sidecar_path(plan).name == "model.plan.json"
    assert plan.read_bytes() == PLAN


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"seconds": NaN}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"kind": "htr-export plan", "schema_version": 2}', "schema version 2"),
        (b'{"kind": "htr-export plan", "schema_version": 1}', "onnx is damaged"),
        (b" " * (17 << 20), "too large"),
    ],
    ids=range(9),
)
def test_a_damaged_sidecar_is_refused_in_one_sentence(plan, content, said):
    sidecar_path(plan).write_bytes(content)
    with pytest.raises(EngineError, match=said):
        read_sidecar(plan)


def test_a_plan_alone_is_refused(plan):
    sidecar_path(plan).unlink()
    with pytest.raises(EngineError, match=r"has no model\.plan\.json"):
        read_sidecar(plan)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(value, path=()):
    """Return the path to each value within a JSON document."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += paths_of(item, (*path, key))
    return found


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_field_is_understood_or_refused(plan, data):
    document = json.loads(to_json(RTX))
    *parents, key = data.draw(st.sampled_from(paths_of(document)))
    holder = document
    for parent in parents:
        holder = holder[parent]
    holder[key] = data.draw(JSON)
    sidecar_path(plan).write_text(json.dumps(document), encoding="utf-8")
    try:
        sidecar = read_sidecar(plan)
    except EngineError:
        return
    incompatibility(sidecar, runtime="tensorrt-rtx", version="1.7.1", compute_capability="8.6")
    assert isinstance(sidecar.plan_bytes, int)
    assert all(isinstance(text, str) for text in (sidecar.precision, sidecar.command, *sidecar.metadata.values()))


def test_a_number_beyond_all_bounds_is_refused(plan):
    document = json.loads(to_json(RTX))
    document["seconds"] = 10**400
    sidecar_path(plan).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(EngineError, match="damaged"):
        read_sidecar(plan)


@pytest.mark.parametrize(
    ("changes", "runtime", "version", "capability", "reason"),
    [
        ({}, "tensorrt-rtx", "1.7.1.116", "8.6", None),
        ({}, "tensorrt-rtx", "1.7.1.99", "12.0", None),
        ({}, "tensorrt-rtx", "1.7.1.116", "12.1", None),
        ({}, "tensorrt-rtx", "1.7.1.116", "9.0", "this GPU has compute capability 9.0"),
        ({}, "tensorrt-rtx", "1.7.1.116", "7.5", "built for sm80, sm86, sm89, sm120 and later"),
        ({}, "tensorrt-rtx", "1.7.2", "8.6", "built with tensorrt-rtx 1.7.1.116, here is 1.7.2"),
        ({}, "tensorrt", "10.3.0", "8.6", "built with tensorrt-rtx, not with tensorrt"),
        ({"targets": ("sm86", "sm120")}, "tensorrt-rtx", "1.7.1", "12.0", None),
        ({"targets": ("sm86", "sm120")}, "tensorrt-rtx", "1.7.1", "12.1", "sm86, sm120"),
        ({"targets": ("sm86",)}, "tensorrt-rtx", "1.7.1", "8.9", "sm86"),
    ],
)
def test_where_a_tensorrt_rtx_plan_fits(changes, runtime, version, capability, reason):
    said = incompatibility(replace(RTX, **changes), runtime=runtime, version=version, compute_capability=capability)
    assert said is None if reason is None else reason in said


@pytest.mark.parametrize(
    ("changes", "version", "capability", "reason"),
    [
        ({}, "10.3.0", "8.7", None),
        ({}, "10.3.0.26", "8.7", None),
        ({}, "10.3.1", "8.7", "10.3.0, here is 10.3.1"),
        ({}, "10.16.1", "8.7", "10.3.0, here is 10.16.1"),
        ({}, "10.3.0", "8.6", "compute capability 8.7, this GPU has compute capability 8.6"),
        ({"version_compatible": True}, "10.16.1", "8.7", None),
        ({"version_compatible": True}, "10.2.0", "8.7", "here is 10.2.0"),
        ({"version_compatible": True}, "11.4.0", "8.7", "here is 11.4.0"),
        ({"hardware_compatible": True}, "10.3.0", "12.0", None),
        ({"hardware_compatible": True}, "10.3.0", "7.5", "8.0 and later"),
    ],
)
def test_where_a_tensorrt_plan_fits(changes, version, capability, reason):
    said = incompatibility(
        replace(TENSORRT, **changes), runtime="tensorrt", version=version, compute_capability=capability
    )
    assert said is None if reason is None else reason in said


HERE = {"runtime": "tensorrt-rtx", "version": "1.7.1.116", "compute_capability": "8.9"}


def test_a_plan_that_fits_passes(plan):
    check_fits(read_sidecar(plan), plan, **HERE, onnx=plan.with_name("model.onnx"))


@pytest.mark.parametrize(
    ("content", "said"), [(b"the plan!", "9 bytes, its sidecar says 8"), (b"the plAn", "its sidecar says")]
)
def test_another_plan_under_the_same_name_is_refused(plan, content, said):
    plan.write_bytes(content)
    with pytest.raises(EngineError, match=said):
        check_fits(read_sidecar(plan), plan, **HERE)


def test_a_plan_of_another_graph_is_refused_with_both_values_and_the_cure(plan):
    onnx = plan.with_name("model.onnx")
    onnx.write_bytes(b"another graph")
    with pytest.raises(EngineError) as caught:
        check_fits(read_sidecar(plan), plan, **HERE, onnx=onnx)
    for part in (RTX.onnx_sha256, hashlib.sha256(b"another graph").hexdigest(), RTX.command):
        assert part in str(caught.value)
