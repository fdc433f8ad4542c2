"""Precision from the command line to the file: what is asked for, refused, checked and told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from helpers.onnx_files import with_weights

from htr_engines.errors import ExportError, ParityError
from htr_engines.lines import read_lines
from htr_export.cli import main
from htr_export.inspection import inspect_artefact
from htr_export.model import load_model
from htr_export.onnx import checks
from htr_export.onnx.checks import check_lowered
from htr_export.onnx.export import OnnxOptions, export_onnx
from htr_export.onnx.file import read_onnx
from htr_export.precision.lowering import lower
from htr_export.precision.precision_map import Calibration, PrecisionMap, PrecisionMapError
from htr_export.ship import ShipRequest, ship
from htr_export.trt import make

pytestmark = pytest.mark.usefixtures("graphs_once")
MIXED = PrecisionMap("fp16", {"patch_embed": "int8", "head": "fp32"}, Calibration(lines=3))


@pytest.fixture(scope="module")
def exported(workspace, safetensors, lines_dir):
    """A mixed graph of fixed batch and width, and its checks."""
    path = workspace / "fixed.mixed.onnx"
    options = OnnxOptions(precision_map=MIXED, batch=2, width=128)
    return path, export_onnx(load_model(safetensors), path, options, lines=read_lines(lines_dir))


def test_a_plan_is_applied_checked_and_told(exported):
    path, checks = exported
    said = "\n".join(str(check) for check in checks)
    assert "nodes in int8" in said
    assert "no node comes within 4 times of half precision's limit" in said
    assert "against float32, onnxruntime: cosine" in said
    assert "against float32, every value rounded to its type: cosine" in said
    facts = inspect_artefact(path)
    assert facts["precision"] == "mixed"
    assert facts["precision_map"] == {"default": "fp16", "modules": {"patch_embed": "int8", "head": "fp32"}}
    assert (facts["calibration"]["lines"], facts["calibration"]["method"]) == (3, "percentile")
    assert facts["inputs"] == ["image [2, 1, 64, 128]"]


def test_a_graph_that_went_astray_is_refused(onnx_file, safetensors, tmp_path):
    name = "patch_embed.layer1.0.conv2.weight"
    source = with_weights(onnx_file, tmp_path / "other.onnx", name, lambda weights: -3 * weights[::-1])
    target = tmp_path / "other.fp16.onnx"
    lower(source, target, PrecisionMap("fp16"))
    with pytest.raises(ParityError, match="of lower precision differs too much"):
        check_lowered(target, load_model(safetensors), PrecisionMap("fp16"), None, 128)


def test_int8_without_lines_writes_nothing(safetensors, tmp_path):
    with pytest.raises(PrecisionMapError, match="give --lines DIR"):
        export_onnx(load_model(safetensors), tmp_path / "x.onnx", OnnxOptions(precision_map=PrecisionMap("int8")))
    assert not list(tmp_path.iterdir())


def test_lines_are_drawn_by_a_seed_and_the_fingerprint_refuses_others(lines_dir):
    lines = read_lines(lines_dir)
    calibration = Calibration(lines=5, seed=1)
    drawn = calibration.draw(lines)
    assert drawn == calibration.draw(lines)
    assert drawn != Calibration(lines=5, seed=2).draw(lines)
    assert {line.name for line in Calibration(lines=500).draw(lines)} == {line.name for line in lines}
    fixed = calibration.fix(drawn)
    assert fixed.draw([replace(line, text="other") for line in lines]) != []
    for others in (lines[:7], lines[::-1], [replace(line, image=lines[0].image) for line in lines], []):
        with pytest.raises(PrecisionMapError, match=r"5 lines that cannot be drawn from the \d given"):
            fixed.draw(others)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("fp61", "'fp61' is none of fp32, fp16, bf16, int8, and no map that ends in .toml"),
        ("none.toml", "none.toml does not exist"),
    ],
)
def test_what_is_no_precision_is_a_mistake_in_the_command(safetensors, tmp_path, precision, message):
    arguments = ["onnx", str(safetensors), "-o", str(tmp_path / "x.onnx"), "--precision", precision]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_trt_parses_the_graph_that_onnx_builds(onnx_file, safetensors, lines_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "WIDTHS", (256,))
    lines = read_lines(lines_dir)
    built = tmp_path / "built.onnx"
    export_onnx(load_model(safetensors), built, OnnxOptions(precision_map=PrecisionMap("fp16")), lines=lines)
    monkeypatch.setattr(make, "parse", lambda _trt, onnx, _source: onnx.read_bytes())
    parsed, _ = make.parse_prepared(SimpleNamespace(graph=read_onnx(onnx_file), lowers=True, trt=None), lines)
    assert parsed == built.read_bytes()


def test_opsets_that_do_not_know_a_precision():
    for plan, opset, lowest in ((PrecisionMap("bf16"), 20, 22), (MIXED, 18, 19)):
        with pytest.raises(ExportError, match=f"opset {opset} does not know this precision; give --opset {lowest}"):
            OnnxOptions(opset, plan)
    OnnxOptions(18, PrecisionMap("int8"))


def test_a_shipment_names_its_graph_by_the_precision(tmp_path):
    for plan, name in ((PrecisionMap(), "model.onnx"), (PrecisionMap("int8"), "model.int8.onnx"), (MIXED, None)):
        request = ShipRequest(tmp_path / "x.pth", tmp_path / "x.htr", tmp_path, onnx=OnnxOptions(precision_map=plan))
        assert request.model.name == (name or "model.mixed.onnx")
    bf16 = ShipRequest(
        tmp_path / "x.pth", tmp_path / "x.htr", tmp_path, onnx=OnnxOptions(22, PrecisionMap("fp32", {"head": "bf16"}))
    )
    with pytest.raises(ExportError, match="no engine runs bf16 on the CPU"):
        next(ship(bf16))
