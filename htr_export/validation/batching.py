"""Whether a line's logits depend on the lines that share its batch. They may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import infer_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine


@dataclass(frozen=True)
class BatchConsistency:
    """The largest absolute differences between logits that should be equal; None where one is not finite."""

    batch: int  # lines in a batch
    tolerance: float
    equal_rows: float | None  # between copies of one line in a batch
    order: float | None  # between a batch and the same lines in reverse
    single: float | None  # between a batch and its lines one at a time


def check_batching(engine: Engine, image_N1HW: NDArray[np.float32], tolerance: float) -> BatchConsistency:
    """Run a few lines in several arrangements.

    Args:
        engine: the engine to try.
        image_N1HW: float32 [N,1,64,W] in [0,1]; a single line is joined by its mirror image.
        tolerance: the largest difference that passes.
    """
    if len(image_N1HW) == 1:
        image_N1HW = np.concatenate([image_N1HW, np.ascontiguousarray(image_N1HW[..., ::-1])])
    batch = len(image_N1HW)
    straight_NTC = infer_lines(engine, image_N1HW)
    reversed_NTC = infer_lines(engine, np.ascontiguousarray(image_N1HW[::-1]))[::-1]
    copies_NTC = infer_lines(engine, np.repeat(image_N1HW[:1], batch, axis=0))
    single_NTC = np.concatenate([infer_lines(engine, image_N1HW[row : row + 1]) for row in range(batch)])
    return BatchConsistency(
        batch=batch,
        tolerance=tolerance,
        equal_rows=_distance(copies_NTC, np.broadcast_to(copies_NTC[:1], copies_NTC.shape)),
        order=_distance(straight_NTC, reversed_NTC),
        single=_distance(straight_NTC, single_NTC),
    )


def _distance(left_NTC: NDArray[np.float32], right_NTC: NDArray[np.float32]) -> float | None:
    if not (np.isfinite(left_NTC).all() and np.isfinite(right_NTC).all()):
        return None
    return float(np.abs(left_NTC.astype(np.float64) - right_NTC).max(initial=0.0))
