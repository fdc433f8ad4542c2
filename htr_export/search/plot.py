"""The plot of CER against latency or size, as the numbers from which its SVG is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from htr_export.plotting import Tick, draw_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_export.search.journal import Trial
    from htr_export.search.search import Criteria

WIDTH, HEIGHT = 720, 400  # of the drawing
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48  # margins
Kind = Literal["alone", "together", "proof"]


@dataclass(frozen=True)
class Mark:
    """A trial as a dot, its interval as an upright line."""

    kind: Kind
    x: float
    y: float
    low: float  # y of the interval's ends
    high: float
    title: str


@dataclass(frozen=True)
class Plot:
    """A drawing of WIDTH x HEIGHT; y grows downwards."""

    marks: tuple[Mark, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bound_y: float
    float32: tuple[float, float]


def draw_plot(trials: Sequence[tuple[Kind, Trial]], criteria: Criteria) -> Plot:
    """Place trials by their time or size, as a share of float32's, and by their increase in CER."""
    bound = criteria.request.max_cer_increase
    placed = [(kind, trial, trial.outcome) for kind, trial in trials if trial.outcome is not None]
    costs = [1.0, *(criteria.cost(outcome) for _, _, outcome in placed)]
    points = [0.0, bound, *(outcome.cer_increase.estimate for _, _, outcome in placed)]
    # The interval of what is proven is always seen whole; the others are cut off at the frame.
    points += [end for kind, _, o in placed if kind == "proof" for end in (o.cer_increase.low, o.cer_increase.high)]
    x_of, x_ticks = draw_axis(costs, LEFT, WIDTH - RIGHT)
    y_of, y_ticks = draw_axis(points, HEIGHT - BOTTOM, TOP)
    marks = []
    for kind, trial, outcome in placed:
        interval = outcome.cer_increase
        cost = criteria.cost(outcome)
        title = f"{_name(trial)}: {interval.estimate:+.3f} points, x{cost:.3f} of float32"
        ends = [min(max(y_of(end), TOP), HEIGHT - BOTTOM) for end in (interval.low, interval.high)]
        marks.append(Mark(kind, x_of(cost), y_of(interval.estimate), ends[0], ends[1], title))
    return Plot(tuple(marks), x_ticks, y_ticks, y_of(bound), (x_of(1.0), y_of(0.0)))


def _name(trial: Trial) -> str:
    if len(trial.lowered) == 1:
        ((group, precision),) = trial.lowered.items()
        return f"{group} in {precision}"
    return f"{len(trial.lowered)} groups together"
