"""Random variation of fitted grey lines, uint8 [H,W] with white = 255. Every number is drawn from the given generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_training.recipe import AugmentRecipe

WHITE = 255
CELL = 32  # pixels between the points that an elastic warp moves


def augment(grey_HW: NDArray[np.uint8], recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Vary one line: warp, thickness of the stroke, light and contrast, noise, each with the recipe's probability."""
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
    source[:2, 0] += random.uniform(-recipe.shear, recipe.shear)
    source[:, 0] *= 1 + random.uniform(-recipe.scale, recipe.scale)
    homography = solve_homography(target, source)
    image = Image.fromarray(grey_HW)
    if recipe.elastic:
        mesh = _elastic_mesh(width, height, homography, recipe.elastic, random)
        # A mesh cannot fill what lies outside, but white around the line can.
        padded = Image.new("L", (width + 2 * CELL, height + 2 * CELL), WHITE)
        padded.paste(image, (CELL, CELL))
        warped = padded.transform((width, height), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
        return np.asarray(warped)
    coefficients = tuple(homography.flat[:8])
    return np.asarray(
        image.transform(
            image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR, fillcolor=WHITE
        )
    )


def solve_homography(target: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3x3 matrix that takes the four points of ``target`` [4,2] to those of ``source`` [4,2]."""
    rows = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return np.append(np.linalg.solve(np.array(rows), source.reshape(-1)), 1.0).reshape(3, 3)


def _elastic_mesh(
    width: int, height: int, homography: NDArray[np.float64], reach: float, random: np.random.Generator
) -> list[tuple[tuple[int, int, int, int], tuple[float, ...]]]:
    """Return Pillow's mesh: rectangles of the result, and the corners in the source that each is taken from."""
    xs = np.append(np.arange(0, width, CELL), width)
    ys = np.append(np.arange(0, height, CELL), height)
    grid = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))], -1) @ homography.T
    points = grid[..., :2] / grid[..., 2:] + random.uniform(-reach, reach, (len(ys), len(xs), 2))
    points = np.clip(points, -CELL, (width + CELL, height + CELL)) + CELL
    mesh = []
    for row in range(len(ys) - 1):
        for column in range(len(xs) - 1):
            box = (int(xs[column]), int(ys[row]), int(xs[column + 1]), int(ys[row + 1]))
            corners = points[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
            mesh.append((box, tuple(corners.reshape(-1).tolist())))
    return mesh


def change_stroke(grey_HW: NDArray[np.uint8], kernel: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Make dark strokes thicker (erosion of the white) or thinner (dilation), by a square of up to ``kernel`` pixels."""
    size = int(random.integers(1, kernel + 1))
    choose = np.minimum if random.random() < 0.5 else np.maximum  # noqa: PLR2004
    result = grey_HW
    for axis in (0, 1):
        padded = np.pad(result, [(size - 1, 0) if axis == this else (0, 0) for this in (0, 1)], mode="edge")
        length = result.shape[axis]
        for shift in range(size):
            result = choose(result, padded.take(range(shift, shift + length), axis))
    return result


def change_light(grey_HW: NDArray[np.uint8], recipe: AugmentRecipe, random: np.random.Generator) -> NDArray[np.uint8]:
    """Scale the brightness, then the contrast around the mean."""
    brightness = 1 + random.uniform(-recipe.brightness, recipe.brightness)
    contrast = 1 + random.uniform(-recipe.contrast, recipe.contrast)
    values = np.clip(grey_HW.astype(np.float32) * np.float32(brightness), 0, WHITE)
    mean = values.mean()
    return np.clip((values - mean) * np.float32(contrast) + mean, 0, WHITE).astype(np.uint8)


def add_noise(grey_HW: NDArray[np.uint8], deviation: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Add the grain of a sensor: normal noise of up to ``deviation`` of white."""
    strength = np.float32(random.uniform(0, deviation) * WHITE)
    noise = random.standard_normal(grey_HW.shape, np.float32) * strength
    return np.clip(grey_HW + noise, 0, WHITE).astype(np.uint8)
