"""The command of NVIDIA's own tools that builds the same plan."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from htr_engines.versions import release
from htr_export.trt.options import NamedShape

if TYPE_CHECKING:
    from htr_export.trt.prepare import Prepared


def trtexec_command(prepared: Prepared) -> str:
    """Return the command of ``trtexec``, or of ``tensorrt_rtx``, for a graph that is converted already."""
    options, graph, rtx = prepared.options, prepared.graph, prepared.runtime == "tensorrt-rtx"
    onnx = graph.path.with_suffix(f".{prepared.precision}.onnx") if prepared.lowers else graph.path
    words = ["tensorrt_rtx" if rtx else "trtexec", f"--onnx={onnx}", f"--saveEngine={prepared.target}"]
    if not rtx and release(prepared.trt.__version__) < (11,):
        words.append("--stronglyTyped")
    words.append("--noTF32")
    for number, profile in enumerate(prepared.profiles):
        if len(prepared.profiles) > 1:
            words.append(f"--profile={number}")
        for option, shape in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
            words.append(f"--{option}Shapes={NamedShape(graph.input.name, shape)}")
    if options.workspace:
        words.append(f"--memPoolSize=workspace:{options.workspace}B")
    if options.timing_cache:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.hardware_compatible:
        words.append("--hardwareCompatibilityLevel=ampere+")
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.targets:
        words.append(f"--computeCapabilities={','.join(target.removeprefix('sm') for target in options.targets)}")
    return shlex.join([*words, "--skipInference"])
