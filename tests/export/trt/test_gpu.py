"""Where there is a GPU: plans that are built on it read as their graphs do, at every size of batch."""

from __future__ import annotations

import numpy as np
import pytest

from htr_engines.backends import open_engine
from htr_engines.backends.tensorrt.library import RUNTIMES
from htr_engines.backends.tensorrt.sidecar import incompatibility
from htr_engines.errors import HtrError
from htr_export.trt.make import make_plan
from htr_export.trt.options import PlanOptions
from htr_export.trt.prepare import prepare


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("fp16", 5e-2)])
def test_a_plan_reads_as_its_graph(onnx_file, tmp_path, runtime, precision, tolerance):
    from htr_engines.backends.tensorrt.cuda import open_cuda
    from htr_engines.backends.tensorrt.library import load_tensorrt

    try:
        version = load_tensorrt(runtime).__version__
        cuda = open_cuda("trt")
    except HtrError as error:
        pytest.skip(f"{runtime} cannot run here: {error}")
    cuda.close()
    made = make_plan(prepare(onnx_file, tmp_path / "model.plan", PlanOptions(runtime, precision)))
    here = cuda.device.compute_capability
    if reason := incompatibility(made.sidecar, runtime=runtime, version=version, compute_capability=here):
        assert runtime == "tensorrt-rtx"  # which does not serve every GPU; TensorRT builds for the one that is here
        pytest.skip(reason)
    image_N1HW = np.random.default_rng(0).random((40, 1, 64, 128), dtype=np.float32)
    with open_engine(onnx_file) as reference, open_engine(made.plan, runtime) as engine:
        for lines in (1, 3, 8, 40):  # beyond the profile's 32 as well
            expected_NTC = reference.infer(image_N1HW[:lines])
            difference = np.abs(engine.infer(image_N1HW[:lines]) - expected_NTC).max()
            assert difference <= tolerance * max(1.0, float(expected_NTC.std())), lines
