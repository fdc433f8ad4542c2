"""FP16 as a strongly typed graph: float32 in and out, and float32 islands where half precision would not hold."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_export.onnx_checks import Check
from htr_export.precision.modules import module_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import GraphProto

LARGEST = 65504.0  # finite value of half precision
SMALLEST = 5.96e-8  # positive value, subnormal
HEADROOM = 4.0  # lines that nobody has seen may bring about larger values than those that were measured
# Sums of squares and of exponentials: small in cost, large in range.
FP32_OPERATORS = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax")


@dataclass(frozen=True)
class Fp16Report:
    """What an FP16 graph keeps in float32, and what became of the weights."""

    nodes: int
    fp32_nodes: int  # islands and range check together
    out_of_range: Mapping[str, float]  # modules that the range check keeps in float32, with their largest |x|
    overflowing_weights: tuple[str, ...]  # tensors that hold values beyond half precision; their nodes stay float32
    underflowing_values: int  # weights that are not 0 but too small for half precision; they become its smallest
    ranges_measured: bool

    def checks(self) -> list[Check]:
        """Return the account as check lines."""
        said = [f"{self.fp32_nodes} of {self.nodes} nodes stay in float32: norms, Softmax and LayerScale"]
        if not self.ranges_measured:
            said.append("overflow was not looked at, since there were no --lines")
        elif not self.out_of_range:
            said.append(f"on real lines no node comes within {HEADROOM:g} times of half precision's limit")
        said += [f"{module} stays in float32: |x| up to {peak:.3g}" for module, peak in self.out_of_range.items()]
        said += [f"{name} stays in float32: it holds values beyond {LARGEST:g}" for name in self.overflowing_weights]
        if self.underflowing_values:
            said.append(f"{self.underflowing_values} weights are too small for half precision and become its smallest")
        return [Check(passed=True, what=what) for what in said]


def lower_to_fp16(source: Path, target: Path, ranges: Mapping[str, float] | None = None) -> Fp16Report:
    """Write the FP16 form of a float32 graph.

    LayerScale stays in float32, since its factors begin at 1e-5, which half precision holds as a subnormal only.

    Args:
        source: an ONNX file in float32, exported by this package.
        target: the ONNX file to write.
        ranges: the largest |x| of each node on real lines, by node name.
    """
    import onnx
    from onnxconverter_common.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    floats = {name: value for name, value in weights.items() if value.dtype == np.float32}
    too_large = tuple(name for name, value in floats.items() if np.abs(value).max(initial=0.0) > LARGEST)
    underflowing = sum(int(((value != 0) & (np.abs(value) < SMALLEST)).sum()) for value in floats.values())
    loud = {name: peak for name, peak in (ranges or {}).items() if peak > LARGEST / HEADROOM}
    kept = _kept_nodes(model.graph, set(loud), set(too_large))
    modules = {node.name: module_of(node) for node in model.graph.node}
    islands = kept | {node.name for node in model.graph.node if node.op_type in FP32_OPERATORS}
    # The converter takes what has a value_info for a computed tensor, and would round the weights of the islands too.
    computed = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(computed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of each tensor with small values; they are counted above
        lowered = convert_float_to_float16(
            model,
            min_positive_val=SMALLEST,
            max_finite_val=LARGEST,
            keep_io_types=True,
            op_block_list=list(FP32_OPERATORS),
            node_block_list=sorted(kept),
        )
    for entry in lowered.metadata_props:
        if entry.key == "precision":
            entry.value = "fp16"
    onnx.save(lowered, str(target))
    out_of_range: dict[str, float] = {}
    for name, peak in loud.items():
        out_of_range[modules[name]] = max(peak, out_of_range.get(modules[name], 0.0))
    return Fp16Report(len(modules), len(islands), out_of_range, too_large, underflowing, ranges is not None)


def _kept_nodes(graph: GraphProto, loud: set[str], too_large: set[str]) -> set[str]:
    """Return the nodes that stay in float32, but for the operators that always do."""
    layer_scale = {node.name for node in graph.node if ".ls_" in module_of(node)}
    heavy = {node.name for node in graph.node if too_large & set(node.input)}
    # What a loud node hands over would overflow in its reader too.
    loud_values = {name for node in graph.node if node.name in loud for name in node.output}
    readers = {node.name for node in graph.node if loud_values & set(node.input)}
    return layer_scale | heavy | loud | readers
