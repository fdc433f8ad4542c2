"""The golden weights: values by formula, so that a list of names and shapes stands for a 264 MB file."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def read_shapes(name: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Read ``name<TAB>d0,d1,...`` lines; the letter C stands for the number of classes."""
    shapes = {}
    for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            key, axes = line.split("\t")
            shapes[key] = tuple(num_classes if axis == "C" else int(axis) for axis in axes.split(",") if axis)
    return shapes


def golden_arrays(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    return {key: _array(key, shape, seed) for key, shape in shapes.items()}


def _array(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    random = np.random.Generator(np.random.PCG64(zlib.crc32(f"{seed}:{key}".encode())))
    noise = random.standard_normal(shape)
    if key.endswith("running_var"):
        return (0.75 + 0.5 * random.random(shape)).astype(np.float32)
    return _scaled(key, noise).astype(np.float32)


def _scaled(key: str, noise: np.ndarray) -> np.ndarray:  # noqa: PLR0911
    if key.endswith("running_mean"):
        return 0.1 * noise
    if key.endswith(".gamma"):
        return 0.5 + 0.1 * noise
    if key.endswith("rel_pos_bias.bias.weight"):
        return 0.5 * noise
    if key in {"mask_token", "dir_left", "dir_right"}:
        return 0.02 * noise
    if noise.ndim == 1 and key.endswith("weight"):
        return 1.0 + 0.1 * noise
    if key.endswith("bias"):
        return 0.05 * noise
    fan_in = int(np.prod(noise.shape[1:])) if noise.ndim > 1 else noise.shape[0]
    value = (4.0 if key == "head.weight" else 1.4) * noise / np.sqrt(fan_in)
    return value - value.mean(axis=tuple(range(1, noise.ndim)), keepdims=True) if noise.ndim > 1 else value
