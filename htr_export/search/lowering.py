"""The graphs of plans, from ranges and a calibration that are measured once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.progress import SILENT
from htr_export.search.inputs import calibration_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from htr_engines.lines import Line
    from htr_engines.progress import Progress
    from htr_export.precision.precision_map import PrecisionPlan
    from htr_export.search.inputs import SearchLines, SearchRequest, Source
    from htr_export.search.journal import Journal

RANGE_LINES = 50
CALIBRATION_LINES = 500


@dataclass
class Lowering:
    """Writes the graphs of plans. Ranges and calibration are measured when the first plan needs them."""

    source: Source
    lines: SearchLines
    request: SearchRequest
    journal: Journal
    progress: Progress = SILENT

    def __call__(self, plan: PrecisionPlan, target: Path) -> None:
        """Write the graph of a plan."""
        from htr_export.precision.lowering import lower

        lower(
            self.source.graph,
            target,
            plan,
            ranges=self._ranges if "fp16" in plan.precisions else None,
            calibration=self._calibration if "int8" in plan.precisions else None,
        )

    @cached_property
    def _ranges(self) -> Mapping[str, float]:
        from htr_export.precision.ranges import measure_ranges

        def measure() -> Mapping[str, float]:
            self.progress.step(f"Measuring the range of every node on {RANGE_LINES} lines")
            return measure_ranges(source.graph, self._chosen(RANGE_LINES), source.preprocessing, source.batch)

        source = self.source
        return self.journal.recall(f"ranges {calibration_key(self.request, self.lines)}", measure)

    @cached_property
    def _calibration(self) -> Mapping[str, float]:
        from htr_export.precision.calibration import calibrate

        def measure() -> Mapping[str, float]:
            lines = self._chosen(CALIBRATION_LINES)
            self.progress.step(f"Calibrating on {len(lines)} lines")
            return calibrate(source.graph, lines, source.preprocessing, self.request.calibration, batch=source.batch)

        source = self.source
        return self.journal.recall(f"calibration {calibration_key(self.request, self.lines)}", measure)

    def _chosen(self, count: int) -> list[Line]:
        """Draw lines by the seed, so that they are of all writers."""
        calibration = self.lines.calibration
        drawn = np.random.default_rng(self.request.seed).permutation(len(calibration))[:count]
        return [calibration[index] for index in sorted(drawn)]
