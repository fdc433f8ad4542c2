from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.bench_fakes import write_onnx

import exporters
from htr_bench import latency
from htr_bench.alone import Peak
from htr_bench.artefacts import Artefact
from htr_bench.latency import Measurement, TargetResult
from htr_bench.targets import Target
from htr_bench.timing import summarise


def make_result(name, engine, seconds):
    series = (seconds,) * 9
    measurement = Measurement(8, "engine", series, summarise(series, 8), stable=True)
    return TargetResult(
        Target(Path(f"{name}.onnx"), engine),
        Artefact(None, None, None, None, None),
        measurements=(measurement,),
    )


def test_ours_is_compared_with_the_better_stock_export():
    results = [
        make_result("htr-export", "openvino", 0.2),
        make_result("stock-dynamo", "openvino", 0.5),
        make_result("stock-torchscript", "openvino", 0.25),
    ]
    [entry] = exporters.compare(results)
    assert entry["ours_over_best_stock"] == pytest.approx(0.8)
    assert set(entry["medians"]) == {"htr-export", "stock-dynamo", "stock-torchscript"}


def test_without_stock_there_is_no_ratio():
    [entry] = exporters.compare([make_result("htr-export", "openvino", 0.2)])
    assert entry["ours_over_best_stock"] is None


def test_the_command_measures_what_the_exporters_write(tmp_path, monkeypatch):
    for package in ("torch", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    from htr_engines.charset import Charset
    from htr_export.model import Model, save_model
    from htr_export.network.config import NetworkConfig
    from htr_export.network.model import HTRConvText

    def fail(_model, _path):
        raise RuntimeError("it cannot")

    def write(_model, path):
        write_onnx(path)

    monkeypatch.setattr(exporters, "EXPORTERS", {"htr-export": write, "stock-dynamo": fail, "stock-torchscript": write})
    monkeypatch.setattr(latency, "run_alone", lambda _request: Peak(2, 1))
    config = NetworkConfig(8, embed_dim=32, depth=3, num_heads=2, mobilevit_head_dim=8, image_width=64)
    model = Model(config, Charset("abcdefg"), dict(HTRConvText(config).state_dict()), {})
    save_model(model, tmp_path / "tiny.safetensors")
    arguments = [tmp_path / "tiny.safetensors", "--json", tmp_path / "exporters.json", "--duration", 0]
    arguments += ["--threads", 1, "--batch", 2]
    monkeypatch.setattr(exporters, "ITERATIONS", 5)
    result = CliRunner().invoke(exporters.main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "onnxruntime, batch 2: htr-export" in result.stdout
    document = json.loads((tmp_path / "exporters.json").read_text(encoding="utf-8"))
    assert document["exports"]["stock-dynamo"]["failure"] == "RuntimeError: it cannot"
    assert document["exports"]["htr-export"]["nodes"] == 4
    assert len(document["comparison"]) == 2
    assert str(tmp_path) not in json.dumps(document["targets"])
