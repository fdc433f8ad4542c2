"""Numbers that several packages have to agree on; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_WIDTHS = range(32, 2049, 8)  # pixels of a line that a network takes
OPSETS = range(18, 24)  # of ONNX, that can be exported
DEFAULT_OPSET = 20  # the highest that TensorRT 10.3 reads
CALIBRATION_LINES = 500  # that int8 is calibrated on, by default
RANGE_LINES = 50  # that show whether fp16 overflows: enough to meet what a network does, few enough to take seconds


@dataclass(frozen=True)
class Tolerance:
    """The largest absolute differences of a logit that rounding alone explains; the standard deviation is about 4."""

    batch: float  # between batches of one engine: kernels are chosen by batch size, each sums in its own order
    machine: float  # between machines, engines and releases


# int8: engines round at different places, and a value at the edge of a step falls to either side of it: OpenVINO and
# ONNX Runtime were 0.85 apart on the demo network, with equal texts. Mixed graphs may hold int8.
TOLERANCES = {
    "fp32": Tolerance(5e-3, 1e-2),
    "tf32": Tolerance(3e-2, 0.5),
    "fp16": Tolerance(1e-1, 0.5),
    "bf16": Tolerance(5e-1, 0.5),
    "int8": Tolerance(5e-1, 2.0),
    "mixed": Tolerance(5e-1, 2.0),
}


def tolerance_of(precision: str, device: str) -> Tolerance:
    """Return the tolerance for a precision such as ``fp16``; an unknown one gets that of fp16.

    On a device other than ``cpu`` fp32 counts as TF32, in which convolutions are computed there by default.
    """
    if precision == "fp32" and device != "cpu":
        return TOLERANCES["tf32"]
    return TOLERANCES.get(precision, TOLERANCES["fp16"])
