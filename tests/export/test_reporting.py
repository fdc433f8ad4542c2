"""The JSON envelope that every report shares."""

from __future__ import annotations

import json

from htr_export.reporting import document, to_json, write_document

ENVELOPE = ["schema_version", "kind", "created", "command", "environment", "units"]


def test_a_document_says_what_it_is_and_where_it_was_made(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/usr/bin/htr-bench", "latency", "a b.onnx"])
    report = document("htr-bench latency", {"targets": [1]}, units={"seconds": "s"}, schema_version=3)
    assert list(report) == [*ENVELOPE, "targets"]
    assert (report["schema_version"], report["kind"]) == (3, "htr-bench latency")
    assert report["command"] == "htr-bench latency 'a b.onnx'"
    assert report["environment"]["python"]
    write_document(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["targets"] == [1]


def test_an_environment_described_before_the_work_is_kept():
    assert document("x", {}, environment={"load_average": 0})["environment"] == {"load_average": 0}


def test_json_is_valid_whatever_it_holds():
    text = to_json({"nan": float("nan"), "more": [(float("inf"), 1.5)], "name": "\ud800.png"})
    assert json.loads(text) == {"nan": None, "more": [[None, 1.5]], "name": "\\ud800.png"}
    assert text.encode("utf-8")
