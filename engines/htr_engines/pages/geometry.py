"""Cut one line out of its page: straightened along its baseline, its surroundings painted over.

Points are x and y in pixels of the page image, y downwards. A curve is a line of points about ``STEP`` apart,
which is the width of a strip that is bent as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from htr_engines.errors import DataError
from htr_engines.pages.curve import (
    STEP,
    curve_length,
    diagonal,
    enclosed_area,
    find_nearest,
    find_normals,
    resample,
    thin,
    trace_outline,
)
from htr_engines.pages.warp import warp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from htr_engines.pages.curve import Points

BEND = 8  # points of a cut line's edge for each corner of an outline that is written
STRAIGHT = 0.25  # pixels by which a strip that is bent as one may differ from its curve
ABOVE, BELOW = 0.75, 0.35  # how far a line reaches from its baseline, in heights of a line, where nobody says
SHORT = 0.3  # a baseline that covers less of its polygon tells nothing of its direction
OUTSIDE = 0.1  # heights; a baseline further out belongs to another polygon
SMOOTHING = 0.75  # heights over which the corners of a baseline are rounded
DETOUR = 1.5  # a baseline longer than this against its ends' distance is scribble
DIRECTED, BENT = 4, 12  # variance along an outline by that across: some 3.5 and 6 times as long as high
MIN_SIZE = 8  # pixels; a smaller line shows no text


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where an outline is along a curve."""

    first: int  # the first and last points of the curve that it touches
    last: int
    top: float  # how far it reaches above (negative) and below the curve
    bottom: float


@dataclass(frozen=True, eq=False)
class LineCut:
    """A line that was cut, and where each of its columns came from."""

    image_HW: NDArray[np.uint8]  # at the scale of the page
    upper_P2: Points  # points of its upper edge on the page, ``STEP`` columns apart
    lower_P2: Points

    def polygon(self, start: float, end: float) -> Points:
        """Return the outline on the page of the columns from ``start`` to ``end``, [P,2] clockwise from top left."""
        columns = np.arange(len(self.upper_P2)) * STEP
        start, end = np.clip((start, end), 0, columns[-1])
        bends = columns[::BEND]
        where = np.concatenate([[start], bends[(bends > start) & (bends < end)], [end]])
        edges = [
            np.stack([np.interp(where, columns, edge_P2[:, axis]) for axis in (0, 1)], axis=1)
            for edge_P2 in (self.upper_P2, self.lower_P2)
        ]
        return np.concatenate([edges[0], edges[1][::-1]])


def cut_line(page_HW: NDArray[np.uint8], polygon: Points, baseline: Points, height: float) -> LineCut:
    """Cut a line.

    Args:
        page_HW: the page, uint8.
        polygon: its outline; with fewer than three points a band around the baseline takes its place.
        baseline: on what it is written; with fewer than two points the outline's own direction counts.
        height: of a usual line of this page, for the band.

    Raises:
        DataError: if there is nothing to cut; the message is the reason.
    """
    polygon, baseline = usable_polygon(polygon, page_HW.shape), usable_baseline(baseline, page_HW.shape)
    if not len(polygon) and not len(baseline):
        raise DataError("it has neither an outline nor a baseline on the image")
    if len(polygon) and len(baseline) and diagonal(baseline) < SHORT * diagonal(polygon):
        baseline = baseline[:0]
    if not len(baseline):
        baseline = _centre_line(polygon)
    if len(polygon) and not _holds(polygon, baseline):
        polygon = polygon[:0]
    baseline = _in_reading_direction(baseline, polygon)
    if not len(polygon):
        polygon = _band(baseline, height)
    curve = _smooth_curve(baseline, trace_outline(polygon), enclosed_area(polygon) / diagonal(polygon))
    frame = _project(trace_outline(polygon), curve)
    if frame.bottom - frame.top < MIN_SIZE or (frame.last - frame.first) * STEP < MIN_SIZE:
        raise DataError(f"it is smaller than {MIN_SIZE} pixels")
    return _straighten(page_HW, polygon, curve, frame)


def usual_height(polygons: Sequence[Points], baselines: Sequence[Points], page_height: int) -> float:
    """Return the height of a page's lines: by their outlines, else by the distances of their baselines."""
    heights = [enclosed_area(polygon) / diagonal(polygon) for polygon in polygons if len(polygon)]
    if heights:
        return float(np.median(heights))
    gaps = np.diff(sorted(baseline[:, 1].mean() for baseline in baselines if len(baseline)))
    gaps = gaps[gaps > MIN_SIZE]
    return float(np.median(gaps)) if len(gaps) else page_height / 30


def usable_polygon(polygon: Points, shape: tuple[int, ...]) -> Points:
    """Return an outline within the image, or no point if there is no area in it."""
    clipped = _clip(polygon, shape)
    return clipped if len(clipped) > 2 and enclosed_area(clipped) > MIN_SIZE else clipped[:0]  # noqa: PLR2004


def usable_baseline(baseline: Points, shape: tuple[int, ...]) -> Points:
    """Return a baseline within the image, or no point if it has no length."""
    clipped = _clip(baseline, shape)
    if len(clipped) < 2 or curve_length(clipped) < 2:  # noqa: PLR2004
        return clipped[:0]
    chord = clipped[-1] - clipped[0]
    if curve_length(clipped) > DETOUR * np.hypot(*chord):
        clipped = clipped[[clipped[:, 0].argmin(), clipped[:, 0].argmax()]]
        chord = clipped[1] - clipped[0]
    if np.hypot(*chord) < 2:  # noqa: PLR2004
        return clipped[:0]
    return clipped


def _clip(points: Points, shape: tuple[int, ...]) -> Points:
    return thin(points).clip((0, 0), (shape[1], shape[0]))


def _centre_line(polygon: Points) -> Points:
    """Return a line through the middle of an outline: bent if it is long, level if it is nearly square."""
    points = trace_outline(polygon)
    middle = points.mean(axis=0)
    spread, directions = np.linalg.eigh(np.cov((points - middle).T))
    direction = directions[:, 1] * np.sign(directions[0, 1] or 1)
    elongation = spread[1] / max(spread[0], 1e-9)
    degree = 3 if elongation > BENT and diagonal(polygon) > 4 * STEP else 1
    if elongation < DIRECTED or abs(direction[0]) < abs(direction[1]):
        direction, degree = np.array([1.0, 0.0]), 0
    across = np.array([-direction[1], direction[0]])
    u, v = (points - middle) @ direction, (points - middle) @ across
    where = np.linspace(u.min(), u.max(), 32)
    bend: NDArray[np.float64] = np.polynomial.Polynomial.fit(u, v, degree)(where)
    return np.asarray(middle + where[:, None] * direction + bend[:, None] * across)


def _smooth_curve(baseline: Points, outline: Points, height: float) -> Points:
    """Round a baseline's corners, and lengthen it on both sides until it passes the whole outline."""
    points = resample(baseline)
    around = max(1, round(SMOOTHING * height / STEP))
    left = points[0] - points[min(2 * around, len(points) - 1)]
    right = points[-1] - points[max(-1 - 2 * around, -len(points))]
    before = _extend(points[0], left, outline, around)[::-1]
    after = _extend(points[-1], right, outline, around)
    longer = np.concatenate([before, points, after])
    window = np.ones(2 * around + 1) / (2 * around + 1)
    return np.stack([np.convolve(longer[:, axis], window, "valid") for axis in (0, 1)], axis=1)


def _extend(end: Points, direction: Points, outline: Points, around: int) -> Points:
    direction = direction / np.hypot(*direction)
    missing = max(0.0, float(((outline - end) @ direction).max()))
    steps = np.arange(1, round(missing / STEP) + 2 * around + 2)
    return end + steps[:, None] * STEP * direction


def _project(outline: Points, curve: Points) -> _Frame:
    """Find where along the curve an outline is, and how far from it."""
    nearest = find_nearest(outline, curve)
    across = ((outline - curve[nearest]) * find_normals(curve)[nearest]).sum(axis=1)
    return _Frame(int(nearest.min()), int(nearest.max()), float(across.min()), float(across.max()))


def _holds(polygon: Points, baseline: Points) -> bool:
    """Tell whether a baseline is within an outline; some exports keep outlines that nobody looked at."""
    frame = _project(trace_outline(polygon), resample(baseline))
    margin = OUTSIDE * (frame.bottom - frame.top)
    return frame.top < margin and frame.bottom > -margin


def _in_reading_direction(baseline: Points, polygon: Points) -> Points:
    """Turn a baseline that runs to the left, unless its outline shows that the line stands upside down."""
    chord = baseline[-1] - baseline[0]
    if chord[0] >= 0 or abs(chord[0]) < abs(chord[1]):
        return baseline
    if len(polygon):
        frame = _project(trace_outline(polygon), resample(baseline))
        if -frame.top > 2 * frame.bottom:
            return baseline
    return baseline[::-1]


def _band(baseline: Points, height: float) -> Points:
    """Return an outline around a baseline."""
    curve = _smooth_curve(baseline, resample(baseline), height)
    normals = find_normals(curve)
    return np.concatenate([curve - ABOVE * height * normals, (curve + BELOW * height * normals)[::-1]])


def _straighten(page_HW: NDArray[np.uint8], polygon: Points, curve: Points, frame: _Frame) -> LineCut:
    """Lay the curve level, and paint over what is outside the polygon."""
    points = curve[frame.first : frame.last + 1]
    normals = find_normals(curve)[frame.first : frame.last + 1]
    rows = np.array([0, round(frame.bottom - frame.top)])
    edges_RC2 = np.stack([points + frame.top * normals, points + frame.bottom * normals])
    kept = _bends(edges_RC2)
    columns = (kept * STEP).astype(int)
    source_RC2 = edges_RC2[:, kept]
    # Only the part of the page that the line takes, and what bilinear sampling needs around it.
    left, upper = np.maximum(np.floor(source_RC2.min(axis=(0, 1))).astype(int) - 1, 0)
    right, lower = np.ceil(source_RC2.max(axis=(0, 1))).astype(int) + 2
    line_HW = warp(page_HW[upper:lower, left:right], columns, rows, source_RC2 - (left, upper))
    mask = Image.new("L", (line_HW.shape[1], line_HW.shape[0]))
    ImageDraw.Draw(mask).polygon(_in_line(polygon, points, normals, frame.top), fill=255)
    upper_P2, lower_P2 = edges_RC2
    return LineCut(_paint_over(line_HW, mask), upper_P2, lower_P2)


def _in_line(polygon: Points, points: Points, normals: Points, top: float) -> list[tuple[float, float]]:
    """Return an outline in the columns and rows of a line that was cut along ``points``."""
    outline = trace_outline(polygon)
    nearest = find_nearest(outline, points)
    offset = outline - points[nearest]
    normal = normals[nearest]
    along = offset[:, 0] * normal[:, 1] - offset[:, 1] * normal[:, 0]
    columns = nearest * STEP + along
    rows = (offset * normal).sum(axis=1) - top
    return list(zip(columns.tolist(), rows.tolist(), strict=True))


def _bends(edges_RC2: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the columns between which both edges are straight within ``STRAIGHT``, the ends among them."""
    points_C4 = np.concatenate(list(edges_RC2), axis=1)
    kept = [0, len(points_C4) - 1]
    spans = [(0, len(points_C4) - 1)]
    while spans:
        first, last = spans.pop()
        share = np.arange(last - first + 1)[:, None] / max(1, last - first)
        straight = points_C4[first] + share * (points_C4[last] - points_C4[first])
        off = np.abs(points_C4[first : last + 1] - straight).max(axis=1)
        if off.max() > STRAIGHT:
            middle = first + int(off.argmax())
            kept.append(middle)
            spans += [(first, middle), (middle, last)]
    return np.unique(kept)


def _paint_over(line_HW: NDArray[np.uint8], mask: Image.Image) -> NDArray[np.uint8]:
    """Put the paper's tone, which may change along the line, wherever the mask is 0."""
    mask_HW = np.asarray(mask)
    height, width = line_HW.shape
    window = height
    starts = np.arange(0, max(1, width - window // 2), window)
    tones = []
    for start in starts:
        inside = mask_HW[:, start : start + window] > 127  # noqa: PLR2004
        values = line_HW[:, start : start + window][inside]
        tones.append(np.median(values) if len(values) > height else np.nan)
    known = np.isfinite(tones)
    if not known.any():
        raise DataError("its outline encloses nothing")
    paper_W = np.interp(np.arange(width), (starts + window / 2)[known], np.array(tones)[known])
    return np.where(mask_HW > 127, line_HW, np.rint(paper_W).astype(np.uint8))  # noqa: PLR2004
