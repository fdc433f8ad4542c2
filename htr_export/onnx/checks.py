"""The proof that an ONNX file computes what PyTorch computes, at several batch sizes and widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends import open_engine
from htr_engines.checks import Check, failures
from htr_engines.errors import ExportError, ParityError, one_line
from htr_export.open_model import open_any
from htr_export.torch_engine import TorchEngine, infer_float64

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_export.model import Model
    from htr_export.precision.precision_map import PrecisionMap

BATCHES = (1, 2, 5, 8)
WIDTHS = (256, 512, 1024)
MAX_COLUMNS = 5 * 1024  # of a batch: attention grows with the square of the width, and 8 lines of 1024 take gigabytes
FLOAT64_LINES = 2  # by width; larger batches repeat them, for float64 takes three times as long
# Measured with weights that amplify rounding: ONNX Runtime at most 1.2 times, OpenVINO at most 1.9 times.
MULTIPLE = 4.0
FLOOR = 1e-4
LOWEST_COSINE = 0.97  # of a graph of lower precision; below it, something other than rounding is at work


@dataclass(frozen=True)
class OnnxTolerance:
    """How far a graph's logits may be from those that PyTorch computes in float64.

    By default ``MULTIPLE`` times as far as PyTorch's own float32 is on the same lines, plus ``FLOOR``: how much
    rounding matters depends on the weights and on the CPU. If ``atol`` or ``rtol`` is given, the bound is
    ``atol + rtol * |float64|`` instead.
    """

    atol: float | None = None
    rtol: float | None = None

    def bound(self, expected_NTC: NDArray[np.float64], rounding: float) -> NDArray[np.float64]:
        """Return the allowed difference of each logit, given the largest error of PyTorch's float32."""
        if self.atol is None and self.rtol is None:
            return np.full_like(expected_NTC, MULTIPLE * rounding + FLOOR)
        return (self.atol or 0) + (self.rtol or 0) * np.abs(expected_NTC)

    def __str__(self) -> str:
        if self.atol is None and self.rtol is None:
            return f"bound: {MULTIPLE:g} times that + {FLOOR:g}"
        return f"bound: atol {self.atol or 0:g}, rtol {self.rtol or 0:g}"


@dataclass(frozen=True)
class _Reference:
    logits_NTC: NDArray[np.float64]
    rounding: float  # the largest error of PyTorch's float32 among them


def check_onnx(path: Path, model: Model, batch: int | None, width: int | None, tolerance: OnnxTolerance) -> list[Check]:
    """Check a file's structure, its logits against PyTorch's, and that the rows of a batch do not touch each other.

    A fixed batch size or width is None where the graph leaves it open.

    Returns:
        The checks, all passed.

    Raises:
        ParityError: if one fails; its message holds all check lines.
    """
    checks = [_check_structure(path)]
    height = model.preprocessing.height
    rounding = 0.0
    with open_engine(path) as engine, TorchEngine(model) as single:
        for pixels in (width,) if width else WIDTHS:
            batches = (batch,) if batch else [lines for lines in BATCHES if lines * pixels <= MAX_COLUMNS]
            image_N1HW = _noise(min(max(batches), FLOAT64_LINES), height, pixels)
            reference = _reference(single, model, image_N1HW)
            rounding = max(rounding, reference.rounding)
            for lines in batches:
                rows = np.arange(lines) % len(image_N1HW)
                expected = _Reference(reference.logits_NTC[rows], reference.rounding)
                checks.append(_compare(engine.infer(image_N1HW[rows]), expected, tolerance))
        image_N1HW = _noise(batch or max(BATCHES), height, width or min(WIDTHS))
        checks.extend(_check_rows(engine, image_N1HW, rounding, tolerance))
    if failures(checks):
        report = "\n".join(str(check) for check in checks)
        raise ParityError(f"the ONNX graph does not compute what PyTorch computes; no file was written\n{report}")
    return checks


def _reference(single: TorchEngine, model: Model, image_N1HW: NDArray[np.float32]) -> _Reference:
    expected_NTC = infer_float64(model, image_N1HW)
    rounded_NTC = np.concatenate([single.infer(line[None]) for line in image_N1HW])
    return _Reference(expected_NTC, float(np.abs(rounded_NTC - expected_NTC).max()))


def check_lowered(
    path: Path,
    model: Model,
    precision_map: PrecisionMap,
    batch: int | None,
    width: int | None,
    sample_N1HW: NDArray[np.float32] | None = None,
) -> list[Check]:
    """Check that a graph of lower precision is valid, finite and of the reference's direction.

    Whether it reads as well is not for a few lines to say, but for ``htr-export validate``. int8 needs a
    sample of real lines, since it clips what noise would bring about.

    Returns:
        The checks, all passed.

    Raises:
        ParityError: if one fails.
    """
    checks = [_check_structure(path)]
    if sample_N1HW is None:
        sample_N1HW = _noise(batch or 2, model.preprocessing.height, width or model.preprocessing.width)
    with TorchEngine(model) as reference:
        expected_NTC = reference.infer(sample_N1HW)
    # ONNX Runtime has no bfloat16 on the CPU, and its half precision there never overflows.
    engines = [] if "bf16" in precision_map.precisions else ["onnxruntime"]
    engines += ["rounding"] if precision_map.precisions & {"fp16", "bf16"} else []
    for name in engines:
        with open_any(path, name) as engine:
            checks.append(_check_direction(name, engine.infer(sample_N1HW), expected_NTC))
    if "bf16" in precision_map.precisions:
        checks.append(Check(passed=None, detail="the graph as it is: ONNX Runtime has no bfloat16 on the CPU"))
    if failures(checks):
        report = "\n".join(str(check) for check in checks)
        raise ParityError(f"the graph of lower precision differs too much; no file was written\n{report}")
    return checks


def _check_direction(name: str, logits_NTC: NDArray[np.float32], expected_NTC: NDArray[np.float32]) -> Check:
    cosine = _cosine(logits_NTC, expected_NTC)
    agreement = float((logits_NTC.argmax(-1) == expected_NTC.argmax(-1)).mean()) if cosine else 0.0
    how = "every value rounded to its type" if name == "rounding" else name
    what = f"{logits_NTC.shape} against float32, {how}: cosine {cosine:.5f}, arg-max agreement {agreement:.2%}"
    return Check(cosine >= LOWEST_COSINE, what)


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Return the cosine of two tensors as vectors, 0 where one is not finite."""
    if left.shape != right.shape or not np.isfinite(left).all():
        return 0.0
    a, b = left.ravel().astype(np.float64), right.ravel().astype(np.float64)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def _check_structure(path: Path) -> Check:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {one_line(error)}") from None
    return Check(passed=True, detail="valid ONNX, shapes inferred")


def _compare(logits_NTC: NDArray[np.float32], expected: _Reference, tolerance: OnnxTolerance) -> Check:
    if logits_NTC.shape != expected.logits_NTC.shape:
        return Check(passed=False, detail=f"{logits_NTC.shape} should be {expected.logits_NTC.shape}")
    error_NTC = np.abs(logits_NTC - expected.logits_NTC)
    passed = bool((error_NTC <= tolerance.bound(expected.logits_NTC, expected.rounding)).all())
    verb = "matches" if passed else "differs from"
    figures = f"error {error_NTC.max():.1e}, of PyTorch's float32 {expected.rounding:.1e}"
    return Check(passed, f"{logits_NTC.shape} {verb} float64: {figures} ({tolerance})")


def _check_rows(
    engine: Engine, image_N1HW: NDArray[np.float32], rounding: float, tolerance: OnnxTolerance
) -> list[Check]:
    """Some engines are wrong only at batch sizes above one, so equal rows and the order of rows are checked."""
    if len(image_N1HW) == 1:
        return []
    logits_NTC = engine.infer(image_N1HW)
    backwards_NTC = engine.infer(np.ascontiguousarray(image_N1HW[::-1]))[::-1]
    equal_NTC = engine.infer(np.repeat(image_N1HW[:1], len(image_N1HW), axis=0))
    bound_NTC = tolerance.bound(logits_NTC.astype(np.float64), rounding)
    order = bool((np.abs(logits_NTC - backwards_NTC) <= bound_NTC).all())
    equal = bool((np.abs(equal_NTC - equal_NTC[:1]) <= bound_NTC[:1]).all())
    rows = len(image_N1HW)
    return [
        Check(equal, f"{rows} equal rows give equal logits" if equal else f"{rows} equal rows differ"),
        Check(order, "the order of rows does not matter" if order else "the order of rows matters"),
    ]


def _noise(lines: int, height: int, width: int) -> NDArray[np.float32]:
    random = np.random.default_rng(width)
    return random.random((lines, 1, height, width), dtype=np.float32)
