"""Random variation of grey lines, uint8 [H,W] with white = 255; the caller brings the generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from htr_engines.pages.warp import warp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_training.recipe import AugmentRecipe

WHITE = 255
CELL = 32  # pixels between the points that an elastic warp moves


def augment(grey_HW: NDArray[np.uint8], recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Vary one line: warp, thickness of the stroke, light, noise, each with the recipe's probability."""
    # Each kind draws its decision first and always, so that one kind's numbers never shift another's.
    warp, stroke, light, noise = random.random(4) < recipe.probability
    seeds = random.integers(0, 2**63, 4)
    if warp:
        grey_HW = warp_line(grey_HW, recipe, np.random.default_rng(seeds[0]))
    if stroke:
        grey_HW = change_stroke(grey_HW, recipe.kernel, np.random.default_rng(seeds[1]))
    if light:
        grey_HW = change_light(grey_HW, recipe, np.random.default_rng(seeds[2]))
    if noise and recipe.noise:
        grey_HW = add_noise(grey_HW, recipe.noise, np.random.default_rng(seeds[3]))
    return grey_HW


def warp_line(grey_HW: NDArray[np.uint8], recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Move the four corners at random (a projective warp), then the points of a grid (an elastic one)."""
    height, width = grey_HW.shape
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    source = target + random.uniform(-recipe.warp, recipe.warp, (4, 2))
    slide = random.uniform(-recipe.shear, recipe.shear) / 2
    source[:, 0] += [slide, slide, -slide, -slide]
    # Only ever narrower and lower, and by what the slide takes: a letter that leaves the picture cannot be learnt.
    margin = random.uniform(0, recipe.scale) * width + 2 * abs(slide)
    left = random.uniform(0, margin)
    source[:, 0] += [-left, margin - left, margin - left, -left]
    if recipe.flatten:
        headroom = random.uniform(0, recipe.flatten) * height
        top = random.uniform(0, headroom)
        source[:, 1] += [-top, -top, headroom - top, headroom - top]
    homography = solve_homography(target, source)
    if not recipe.elastic:
        coefficients = tuple(homography.flat[:8])
        kind, filter_ = Image.Transform.PERSPECTIVE, Image.Resampling.BILINEAR
        image = Image.fromarray(grey_HW)
        return np.asarray(image.transform(image.size, kind, coefficients, filter_, fillcolor=WHITE))
    columns_C = np.append(np.arange(0, width, CELL), width)
    rows_R = np.append(np.arange(0, height, CELL), height)
    x_RC, y_RC = np.meshgrid(columns_C, rows_R)
    points_RC3 = np.stack([x_RC, y_RC, np.ones_like(x_RC)], -1) @ homography.T
    points_RC2 = points_RC3[..., :2] / points_RC3[..., 2:]
    points_RC2 += random.uniform(-recipe.elastic, recipe.elastic, points_RC2.shape)
    # What comes from outside is 0, so the ink is warped and not the paper.
    return ~warp(~grey_HW, columns_C, rows_R, points_RC2)


def solve_homography(target_42: NDArray[np.float64], source_42: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix [3,3] that takes the four points of ``target_42`` to those of ``source_42``."""
    rows = []
    for (x, y), (u, v) in zip(target_42, source_42, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.append(np.linalg.solve(np.array(rows), source_42.reshape(-1)), 1.0).reshape(3, 3)


def change_stroke(grey_HW: NDArray[np.uint8], kernel: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Make strokes thicker (erosion of the paper) or thinner, by a square of up to ``kernel`` pixels."""
    size = int(random.integers(1, kernel + 1))
    extreme = np.minimum if random.random() < 0.5 else np.maximum  # noqa: PLR2004
    for axis in (0, 1):
        before = [(size - 1, 0) if axis == this else (0, 0) for this in (0, 1)]
        windows = sliding_window_view(np.pad(grey_HW, before, mode="edge"), size, axis)
        grey_HW = extreme.reduce(windows, axis=-1)
    return grey_HW


def change_light(grey_HW: NDArray[np.uint8], recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Scale the brightness, then the contrast around the mean."""
    brightness = 1 + random.uniform(-recipe.brightness, recipe.brightness)
    contrast = 1 + random.uniform(-recipe.contrast, recipe.contrast)
    values_HW: NDArray[np.float32] = np.clip(grey_HW * np.float32(brightness), 0, WHITE)
    mean = values_HW.mean()
    return np.clip((values_HW - mean) * np.float32(contrast) + mean, 0, WHITE).astype(np.uint8)


def add_noise(grey_HW: NDArray[np.uint8], deviation: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Add the grain of a sensor: normal noise of up to ``deviation`` of white."""
    strength = np.float32(random.uniform(0, deviation) * WHITE)
    noise = random.standard_normal(grey_HW.shape, np.float32) * strength
    return np.clip(grey_HW + noise, 0, WHITE).astype(np.uint8)
