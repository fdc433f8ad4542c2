"""FP16 as a strongly typed graph: float32 in and out, and float32 islands where half precision would not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_export.precision.lowering import LoweringReport, lower
from htr_export.precision.plan import PrecisionPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def lower_to_fp16(source: Path, target: Path, ranges: Mapping[str, float] | None = None) -> LoweringReport:
    """Write the FP16 form of a float32 graph, as :func:`htr_export.precision.lowering.lower` does."""
    return lower(source, target, PrecisionPlan("fp16"), ranges=ranges)
