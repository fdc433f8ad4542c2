"""What a trial of a search measured, made up."""

from __future__ import annotations

from htr_export.search.journal import Outcome
from htr_export.search.timing import Latency
from htr_export.validation.statistics import Interval

NO_INCREASE = Interval(0.0, 0.0, 0.0)


def outcome(ratio=0.5, increase=NO_INCREASE):
    latency = Latency(ratio, ratio, ratio, 10.0, 40)
    return Outcome(10, 0, 25.0, increase, 0.1, 0.01, 0.999, sound=True, latency=latency, bytes=1000)
