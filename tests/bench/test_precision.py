from __future__ import annotations

import numpy as np

from htr_engines.lines import read_lines
from htr_export.model import load_model
from htr_export.precision.precision_map import PrecisionMap
from precision import Variant, try_all


def test_the_benchmark_reads_with_every_engine_of_a_variant(onnx_file, safetensors, lines_dir):
    class Source:
        def write(self, _variant):
            return onnx_file

    lines = read_lines(lines_dir)
    variants = [Variant("float", PrecisionMap()), Variant("half", PrecisionMap("fp16"))]
    rows = list(try_all(load_model(safetensors), Source(), variants, lines, 1))
    assert [(row["name"], row["engine"]) for row in rows] == [
        ("float", "onnxruntime"),
        ("float", "openvino"),
        ("half", "onnxruntime"),
        ("half", "rounding"),
    ]
    for row in rows:
        assert (row["lines"], row["changed"], row["cer_increase"]) == (len(lines), 0, 0.0)
        assert np.isfinite(row["cer"])
