"""The graphs of precision maps, from measurements that the journal keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from htr_engines.progress import SILENT
from htr_export.precision.lowering import Lowering
from htr_export.search.inputs import calibration_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from htr_engines.progress import Progress
    from htr_export.precision.lowering import Measure
    from htr_export.precision.precision_map import PrecisionMap
    from htr_export.search.inputs import SearchLines, SearchRequest, Source
    from htr_export.search.journal import Journal


@dataclass
class SearchLowering:
    """Writes the graph that ``htr-export onnx`` would write for a precision map."""

    source: Source
    lines: SearchLines
    request: SearchRequest
    journal: Journal
    progress: Progress = SILENT
    _lowerings: dict[Path, Lowering] = field(default_factory=dict)

    def __call__(self, precision_map: PrecisionMap, target: Path) -> None:
        """Write the graph of a precision map."""
        graph, source = self.source.graph_for(precision_map), self.source
        if graph not in self._lowerings:
            key = f"{calibration_key(self.request, self.lines)} {graph.name}"

            def get_or_measure(name: str, measure: Measure) -> Mapping[str, float]:
                return self.journal.get_or_measure(f"{name} {key}", measure)

            self._lowerings[graph] = Lowering(
                graph, self.lines.drawn, source.preprocessing, source.batch, self.progress, get_or_measure
            )
        self._lowerings[graph].write(target, precision_map)
