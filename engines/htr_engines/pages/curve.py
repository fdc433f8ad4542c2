"""Curves and outlines as points [P,2], x and y in pixels, y downwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = NDArray[np.float64]  # [P,2]

STEP = 8.0  # pixels between the points of a curve
MAX_POINTS = 5000  # of an outline; real ones have some hundred


def thin(points: Points) -> Points:
    """Return at most ``MAX_POINTS`` of the points, evenly."""
    return points[:: max(1, -(-len(points) // MAX_POINTS))]


def curve_length(points: Points) -> float:
    """Return the length of a line of points."""
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def diagonal(points: Points) -> float:
    """Return the diagonal of the points' bounding box."""
    return float(np.hypot(*np.ptp(points, axis=0)))


def enclosed_area(polygon: Points) -> float:
    """Return the area within an outline."""
    x, y = (polygon - polygon.mean(axis=0)).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def trace_outline(polygon: Points) -> Points:
    """Return points all along a polygon's edges."""
    return thin(resample(np.concatenate([polygon, polygon[:1]])))


def resample(points: Points) -> Points:
    """Return points ``STEP`` apart along a line, and its end."""
    along = np.concatenate([[0.0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    where = np.append(np.arange(0, along[-1], STEP), along[-1])
    return np.stack([np.interp(where, along, points[:, 0]), np.interp(where, along, points[:, 1])], axis=1)


def find_normals(curve: Points) -> Points:
    """Return unit vectors across a curve, downwards where it runs to the right."""
    tangents = np.gradient(curve, axis=0)
    tangents /= np.maximum(np.hypot(*tangents.T), 1e-9)[:, None]
    return np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)


def find_nearest(outline: Points, curve: Points) -> NDArray[np.int64]:
    """Return the index of the curve's point that is nearest to each point of an outline."""
    middle = curve.mean(axis=0)
    # |o - c|^2 less |o|^2, which is the same for all c: a product of matrices takes a tenth of the time.
    length_C = ((curve - middle) ** 2).sum(axis=1)
    nearest: NDArray[np.int64] = (length_C - 2 * (outline - middle) @ (curve - middle).T).argmin(axis=1)
    return nearest
