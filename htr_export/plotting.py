"""Axes of the drawings in reports, as the numbers from which their SVG is drawn; y grows downwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Tick:
    """A value on an axis."""

    position: float
    label: str


def draw_axis(values: Sequence[float], start: float, end: float) -> tuple[Callable[[float], float], tuple[Tick, ...]]:
    """Return the function that places values between two positions, and ticks at round values."""
    low, high = min(values), max(values)
    spare = 0.06 * (high - low) or 0.05
    low, high = low - spare, high + spare

    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (end - start), 1)

    step = _round_step((high - low) / 6)
    digits = max(0, -math.floor(math.log10(step)))
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return place, tuple(Tick(place(number * step), f"{number * step:.{digits}f}") for number in numbers)


def _round_step(rough: float) -> float:
    """Return the smallest of 1, 2 or 5 times a power of ten that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
