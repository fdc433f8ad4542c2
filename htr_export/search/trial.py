"""What a precision map does to readings and to time, tried on real lines."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.backends.base import Closeable
from htr_engines.errors import EngineError, ExportError, ParityError
from htr_engines.limits import TOLERANCES
from htr_engines.lines import load_batches
from htr_export.open_model import open_any
from htr_export.precision.precision_map import PrecisionMap
from htr_export.search.groups import REST, Group
from htr_export.search.journal import Outcome, Part, Trial
from htr_export.search.timing import Latency, compare_latency, proxy_latency
from htr_export.validation.caching import CachingEngine
from htr_export.validation.parity import validate
from htr_export.validation.result import ValidationOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.charset import Charset
    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_export.precision.precision_map import Calibration, Precision

ALONE_S = 3.0  # of timing; a single group only has to find its place in the order
TOGETHER_S = 10.0


@dataclass(frozen=True)
class Reader:
    """How lines are read in a search."""

    engine: str  # that runs the graphs
    threads: int | None
    timed: bool  # whether its times count; otherwise multiply-adds stand for them
    charset: Charset
    preprocessing: Preprocessing
    batch_size: int = 8


class Bench(Closeable):
    """Tries precision maps against the float32 graph.

    Args:
        source: the float32 graph.
        reader: what reads, and how.
        groups: all groups of the graph.
        lines: by the part of a search that they serve.
        lower: writes the graph of a precision map to a path.
        calibration: of every map.

    Raises:
        EngineError: if the engine does not take the float32 graph.
    """

    def __init__(
        self,
        source: Path,
        reader: Reader,
        groups: Sequence[Group],
        lines: Mapping[Part, Sequence[Line]],
        lower: Callable[[PrecisionMap, Path], object],
        calibration: Calibration,
    ) -> None:
        self._reader, self._groups, self._lines, self._lower = reader, groups, lines, lower
        self._calibration = calibration
        self._stack = ExitStack()
        self._reference = self._stack.enter_context(open_any(source, reader.engine, reader.threads))
        self._cached = CachingEngine(self._reference)
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def try_lowered(self, lowered: Mapping[str, Precision], part: Part) -> Trial:
        """Lower some groups, read a part of the lines and measure the time.

        Raises:
            DataError: if no line can be read.
        """
        target = self._folder / "candidate.onnx"
        try:
            self._lower(map_of(lowered, self._groups, self._calibration), target)
            with open_any(target, self._reader.engine, self._reader.threads) as candidate:
                return Trial(lowered, part, self._measure(candidate, lowered, part, target.stat().st_size))
        except (EngineError, ExportError, ParityError) as error:
            return Trial(lowered, part, None, str(error))

    def _measure(self, candidate: Engine, lowered: Mapping[str, Precision], part: Part, size: int) -> Outcome:
        reader = self._reader
        roughest = max(lowered.values(), key=lambda precision: TOLERANCES[precision].batch)
        result = validate(
            self._cached,
            candidate,
            self._lines[part],
            charset=reader.charset,
            preprocessing=reader.preprocessing,
            options=ValidationOptions(batch_size=reader.batch_size, precision=roughest),
        )
        return Outcome(
            lines=result.lines,
            changed=result.changed,
            cer=result.candidate_rates.cer,
            cer_increase=result.cer_increase,
            max_abs=result.tensors.max_abs,
            mean_abs=result.tensors.mean_abs,
            cosine=result.tensors.cosine,
            sound=all(check.passed for check in result.checks if check.name != "accuracy"),
            latency=self._latency(candidate, lowered, part),
            bytes=size,
        )

    def _latency(self, candidate: Engine, lowered: Mapping[str, Precision], part: Part) -> Latency:
        if not self._reader.timed:
            return proxy_latency(lowered, self._groups)
        seconds = ALONE_S if len(lowered) == 1 else TOGETHER_S
        return compare_latency(self._reference, candidate, self._first_image(part), seconds)

    def _first_image(self, part: Part) -> NDArray[np.float32]:
        return next(load_batches(self._lines[part], self._reader.preprocessing)).images

    def close(self) -> None:
        """Free the engine of the float32 graph."""
        self._stack.close()


def map_of(lowered: Mapping[str, Precision], groups: Sequence[Group], calibration: Calibration) -> PrecisionMap:
    """Return the precision map that lowers some groups and names the precision of all."""
    modules = {group.path: lowered.get(group.path, "fp32") for group in groups if group.path != REST}
    return PrecisionMap(lowered.get(REST, "fp32"), modules, calibration)
