"""Bend a picture: a grid over the result says where in the source each of its corners comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def warp(
    source_HW: NDArray[np.uint8],
    columns_C: NDArray[np.int64],
    rows_R: NDArray[np.int64],
    source_RC2: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Bend a picture along a grid, bilinear between its corners.

    Args:
        source_HW: what to bend.
        columns_C: the grid's columns in the result, pixels, rising from 0.
        rows_R: its rows, likewise.
        source_RC2: x and y in the source of each corner.

    Returns:
        uint8 [rows_R[-1], columns_C[-1]]; what comes from outside the source is 0.
    """
    mesh = []
    for i, j in np.ndindex(len(rows_R) - 1, len(columns_C) - 1):
        cell = (int(columns_C[j]), int(rows_R[i]), int(columns_C[j + 1]), int(rows_R[i + 1]))
        # Pillow wants the corners anticlockwise from north-west.
        corners = source_RC2[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]]
        mesh.append((cell, tuple(corners.ravel().tolist())))
    size = (int(columns_C[-1]), int(rows_R[-1]))
    bent = Image.fromarray(source_HW).transform(size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return np.asarray(bent)
