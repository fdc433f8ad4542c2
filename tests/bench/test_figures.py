"""From measured times to ranks and tables: pure functions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from htr_bench.alone import Peak
from htr_bench.artefacts import Artefact
from htr_bench.latency import LatencyOptions, Measurement, TargetResult
from htr_bench.rows import make_rows
from htr_bench.table import glossary, make_tables, to_document
from htr_bench.targets import Target, parse_targets
from htr_bench.timing import is_stable, summarise, trimmed_variation
from htr_engines.backends.base import EngineInfo, TensorInfo
from htr_engines.errors import BundleError, EngineError

SERIES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@given(SERIES, st.integers(1, 64))
@settings(deadline=None)
def test_figures_are_in_order(seconds, batch):
    timing = summarise(seconds, batch)
    p50, p90, p99 = timing.percentiles.values()
    low, high = min(seconds) * (1 - 1e-9), max(seconds) * (1 + 1e-9)
    assert low <= p50 <= p90 * (1 + 1e-9) <= p99 * (1 + 2e-9) <= high * (1 + 1e-8)
    assert low <= timing.mean <= high
    assert timing.std >= 0
    assert timing.calls == len(seconds)
    assert timing.lines_per_second == pytest.approx(batch / np.median(seconds))


@given(st.floats(1e-6, 1e3), st.integers(5, 60))
@settings(deadline=None)
def test_equal_times_do_not_scatter(second, calls):
    assert trimmed_variation([second] * calls) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(0.1, 10), min_size=5, max_size=60), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_scatter_does_not_depend_on_the_unit(seconds, unit):
    scaled = trimmed_variation([value * unit for value in seconds])
    assert scaled == pytest.approx(trimmed_variation(seconds), abs=1e-9)


def test_a_few_interruptions_are_trimmed_but_many_are_not():
    steady = [1.0, 1.01] * 10
    assert is_stable(trimmed_variation([*steady[:18], 9.0, 9.0]), 0.1)
    assert not is_stable(trimmed_variation([*steady[:14], *[9.0] * 6]), 0.1)


def test_too_few_calls_are_not_stable():
    assert trimmed_variation([1.0] * 4) is None
    assert not is_stable(None, 0.1)


def test_targets_name_engine_and_file():
    reference = Path("model.safetensors")
    found = parse_targets(["openvino:a.onnx", "b.onnx", "c.onnx"], reference)
    assert found == [
        Target(reference, is_reference=True),
        Target(Path("a.onnx"), "openvino"),
        Target(Path("b.onnx")),
        Target(Path("c.onnx")),
    ]
    assert [target.label for target in found[:2]] == ["model.safetensors", "openvino:a.onnx"]


def test_a_target_given_twice_is_measured_once():
    found = parse_targets(["a.onnx", "openvino:b.onnx", "a.onnx"])
    assert found == [Target(Path("a.onnx")), Target(Path("b.onnx"), "openvino")]


def test_a_colon_in_a_file_name_is_no_engine(tmp_path):
    odd = tmp_path / "my:model.onnx"
    odd.touch()
    assert parse_targets([str(odd)]) == [Target(odd)]
    with pytest.raises(EngineError, match="no engine is called 'warp'"):
        parse_targets(["warp:model.onnx"])


def make_result(name, seconds, *, reference=False, stable=True, failure=None, engine="onnxruntime"):
    info = EngineInfo(engine, "cpu", "1", 1, TensorInfo("image", "float32", (1,)), TensorInfo("l", "float32", (1,)), 0)
    measurements = tuple(
        Measurement(batch, scope, (seconds * batch,) * 10, summarise((seconds * batch,) * 10, batch), stable)
        for batch in (1, 8)
        for scope in ("engine", "end to end")
    )
    return TargetResult(
        Target(Path(name), is_reference=reference),
        Artefact("sha of " + name, 12_000_000, "fp32", None, None),
        info,
        {1: Peak(300_000_000, 30_000_000)},
        () if failure else measurements,
        failure,
    )


RESULTS = [
    make_result("torch.safetensors", 0.4, reference=True, engine="torch"),
    make_result("slow.onnx", 0.3),
    make_result("[red]wild.onnx", 0.05, stable=False),
    make_result("fast.onnx", 0.1),
    make_result("broken.onnx", 1.0, failure="it\x1b[31m fell"),
]
REPORT = {
    "inputs": {
        "reference": {"sha256": "sha of torch.safetensors", "engine": "torch"},
        "candidate": {"sha256": "sha of fast.onnx", "engine": "onnxruntime"},
    },
    "result": {
        "mode": "transcripts",
        "passed": False,
        "candidate_rates": {"cer": 5.5, "wer": 9.0},
        "reference_rates": {"cer": 5.0, "wer": 8.0},
        "cer_increase": {"estimate": 0.5, "low": 0.3, "high": 0.7},
    },
}


def test_rows_are_ranked_by_batch_and_unstable_ones_are_not():
    rows = make_rows(RESULTS, "engine", [])
    assert [(row.result.target.path.name, row.rank, row.ratio) for row in rows[:4]] == [
        ("fast.onnx", 1, pytest.approx(4)),
        ("slow.onnx", 2, pytest.approx(4 / 3)),
        ("torch.safetensors", 3, 1),
        ("[red]wild.onnx", None, pytest.approx(8)),
    ]
    assert [row.measurement.batch for row in rows[:8]] == [1, 1, 1, 1, 8, 8, 8, 8]
    assert [row.status for row in rows] == [*(["not validated"] * 3 + ["unstable"]) * 2, "failed"]


def test_reports_bring_cer_and_verdict():
    rows = {row.result.target.path.name: row for row in make_rows(RESULTS, "engine", [REPORT])}
    assert rows["fast.onnx"].status == "exported but failed"
    assert rows["fast.onnx"].quality.cer_increase == 0.5
    assert rows["torch.safetensors"].status == "pass"
    assert rows["torch.safetensors"].quality.cer == 5.0
    assert rows["slow.onnx"].quality is None


def test_a_report_of_another_engine_proves_nothing():
    other = make_result("fast.onnx", 0.1, engine="openvino")
    assert make_rows([other], "engine", [REPORT])[0].quality is None


def test_without_reference_there_is_no_ratio():
    assert make_rows(RESULTS[1:2], "engine", [])[0].ratio is None


def test_tables_show_every_target_whatever_its_name():
    console = Console(width=250, record=True, file=None)
    with console.capture() as shown:
        for table in make_tables(RESULTS, LatencyOptions(), [REPORT]):
            console.print(table)
    for text in (
        "[red]wild.onnx",
        "torch (ref)",
        "broken.onnx",
        "exported but failed",
        "+0.500",
        "Engine only",
    ):
        assert text in shown.get()


def test_glossary_explains_every_column():
    text = glossary(LatencyOptions(max_variation=0.25))
    assert "more than 25 %" in text
    for column in (
        "#",
        "p50, p90, p99",
        "lines/s",
        "x ref",
        "peak MB",
        "CER %, ΔCER",
        "unstable",
        "not validated",
    ):
        assert f"\n{column} " in "\n" + text


def test_document_holds_raw_values_units_and_options(tmp_path):
    options = LatencyOptions(lines_dir=tmp_path)
    document = json.loads(json.dumps(to_document(RESULTS, options, [REPORT], {"cpu": "x"})))
    assert document["schema_version"] == 1
    assert set(document["options"]) == set(asdict(options))
    fast = document["targets"][3]
    assert fast["measurements"][0]["seconds"] == [0.1] * 10
    assert fast["measurements"][0]["rank"] == 1
    assert fast["peak_memory"]["1"]["bytes"] == 300_000_000
    assert document["targets"][4]["failure"]
    assert "s per call" in document["units"].values()


def test_a_bundle_stands_for_its_models(tmp_path):
    unproven = {"validation": {"verdict": "not validated", "passed": False}}
    manifest = {
        "format": "htr-convtext-bundle",
        "schema_version": 2,
        "charset": "ab",
        "num_classes": 3,
        "preprocessing": {"width": 64, "height": 64},
        "models": [
            {"file": "model.onnx", "engines": ["onnxruntime", "openvino"], "precision": "fp32", **unproven},
            {"file": "model.int8.onnx", "engines": ["openvino"], "precision": "int8", **unproven},
        ],
        "golden": [],
        "files": {name: {"sha256": "0" * 64, "bytes": 1} for name in ("model.onnx", "model.int8.onnx")},
    }
    bundle = tmp_path / "name.htr"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    files = [bundle / "model.onnx", bundle / "model.int8.onnx"]
    assert [target.path for target in parse_targets([str(bundle)])] == files
    assert parse_targets([f"onnxruntime:{bundle}"]) == [Target(files[0], "onnxruntime", "0" * 64)]


def test_a_broken_bundle_costs_its_own_row(tmp_path):
    [target] = parse_targets([str(tmp_path)])
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        target.open(1)
