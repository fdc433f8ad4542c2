from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

import decoders

pytestmark = pytest.mark.export


def test_the_benchmark_reads_with_every_decoder(tmp_path, onnx_file, lines_dir, workspace, monkeypatch):
    monkeypatch.setattr("htr_export.tuning.tune.LM_WEIGHTS", (0.5, 1.0))
    monkeypatch.setattr("htr_export.tuning.tune.LENGTH_BONUSES", (0.0,))
    data = tmp_path / "set"
    shutil.copytree(lines_dir, data / "lines")
    names = (workspace / "all.ln").read_text(encoding="utf-8").splitlines()
    (data / "train.ln").write_text("\n".join(names[:4]), encoding="utf-8")
    (data / "val.ln").write_text("\n".join(names[2:]), encoding="utf-8")
    output = tmp_path / "decoders.json"
    result = CliRunner().invoke(decoders.main, [str(onnx_file), str(data), "--json", str(output)])
    assert result.exit_code == 0, result.output
    assert "set, 6 lines, 4 unseen texts: greedy: CER" in result.output
    (row,) = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert list(row["decoders"]) == ["greedy", "beam", "beam with language model"]
    assert [options["lm_weight"] in {0.5, 1.0} for options in row["options"]] == [True, True]
    for one in row["decoders"].values():
        assert 0 < one["ms"]["p50"] <= one["ms"]["p95"]
        assert one["cer"] >= 0
