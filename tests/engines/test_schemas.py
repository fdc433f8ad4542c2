"""The documents that are written are those that the JSON Schemas describe."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from click.testing import CliRunner
from helpers.trt_fakes import profile, write_plan

from htr_engines.backends.tensorrt.sidecar import sidecar_path
from htr_engines.cli import main as htr_read
from htr_export.cli import main as htr_export
from htr_export.reporting import document, to_json

jsonschema = pytest.importorskip("jsonschema")
NAMES = ("manifest", "sidecar", "readings", "report")


def schema(name):
    return json.loads((files("htr_engines") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))


def check(name, instance):
    validator = jsonschema.Draft202012Validator(schema(name))
    found = [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(instance)]
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_valid(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_manifest(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    check("manifest", manifest)
    for field, wrong in (("charset", 5), ("schema_version", 1), ("models", []), ("files", {"a": {"sha256": "0"}})):
        with pytest.raises(AssertionError):
            check("manifest", {**manifest, field: wrong})


def test_readings(bundle, lines_dir):
    arguments = [str(bundle), str(lines_dir), "none.png", "--json"]
    rows = [json.loads(row) for row in CliRunner().invoke(htr_read, arguments).stdout.splitlines()]
    assert "error" in rows[-1]
    for row in rows:
        check("readings", row)


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_sidecar(tmp_path, onnx_file, runtime):
    plan = write_plan(
        tmp_path / "model.plan", onnx_file, [profile(1, 1, 8)], runtime=runtime, targets=("sm86", "sm120+")
    )
    check("sidecar", json.loads(sidecar_path(plan).read_text(encoding="utf-8")))


@pytest.mark.export
def test_validation_report(workspace, safetensors, onnx_file, lines_dir, tmp_path):
    arguments = ["validate", "--reference", safetensors, "--candidate", onnx_file, "--lines", lines_dir]
    arguments += ["--list", workspace / "all.ln", "--report", tmp_path / "report", "--accept-few"]
    assert CliRunner().invoke(htr_export, [str(argument) for argument in arguments]).exit_code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    check("report", report)
    assert report["kind"] == "htr-export validation"
    with pytest.raises(AssertionError):
        check("report", {**report, "verdict": None})


def test_every_report_has_the_same_frame():
    check("report", json.loads(to_json(document("htr-bench latency", {"targets": []}))))
