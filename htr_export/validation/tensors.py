"""How far apart two networks' logits are, counted batch by batch so that none has to be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorDifference:
    """How far the candidate's logits are from the reference's, over the values that are finite in both."""

    max_abs: float
    mean_abs: float
    cosine: float  # of the angle between all logits, taken as two vectors
    argmax_agreement: float  # fraction of the frames; one that is not finite agrees with none
    frames: int
    values: int
    reference_not_finite: int  # values
    candidate_not_finite: int


@dataclass
class TensorTally:
    """Sums from which :class:`TensorDifference` is made."""

    max_abs: float = 0.0
    sum_abs: float = 0.0
    finite: int = 0
    dot: float = 0.0
    reference_square: float = 0.0
    candidate_square: float = 0.0
    frames_agreed: int = 0
    frames: int = 0
    values: int = 0
    not_finite: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, reference_NTC: NDArray[np.float32], candidate_NTC: NDArray[np.float32]) -> NDArray[np.float64]:
        """Count one batch.

        Args:
            reference_NTC: float [N,T,C] logits.
            candidate_NTC: float [N,T,C] logits of the same lines.

        Returns:
            float64 [N], the largest absolute difference in each line.

        Raises:
            ParityError: if the shapes differ.
        """
        if reference_NTC.shape != candidate_NTC.shape:
            raise ParityError(
                f"the candidate gives logits {list(candidate_NTC.shape)} where the reference gives "
                f"{list(reference_NTC.shape)}; give a candidate that was made from this reference"
            )
        reference_finite, candidate_finite = np.isfinite(reference_NTC), np.isfinite(candidate_NTC)
        finite = reference_finite & candidate_finite
        # In float64 neither differences nor squares of float32 values overflow.
        reference = np.where(finite, reference_NTC, 0).astype(np.float64)
        candidate = np.where(finite, candidate_NTC, 0).astype(np.float64)
        distance = np.abs(reference - candidate)
        max_N: NDArray[np.float64] = distance.max((1, 2), initial=0.0)
        agreed_NT = (reference.argmax(-1) == candidate.argmax(-1)) & finite.all(-1)
        self.max_abs = max(self.max_abs, float(max_N.max(initial=0.0)))
        self.sum_abs += float(distance.sum())
        self.finite += int(finite.sum())
        self.dot += float(np.vdot(reference, candidate))
        self.reference_square += float(np.vdot(reference, reference))
        self.candidate_square += float(np.vdot(candidate, candidate))
        self.frames_agreed += int(agreed_NT.sum())
        self.frames += agreed_NT.size
        self.values += finite.size
        self.not_finite[0] += int((~reference_finite).sum())
        self.not_finite[1] += int((~candidate_finite).sum())
        return max_N

    def result(self) -> TensorDifference:
        """Return what has been counted so far."""
        return TensorDifference(
            max_abs=self.max_abs,
            mean_abs=self.sum_abs / max(self.finite, 1),
            cosine=self._cosine(),
            argmax_agreement=self.frames_agreed / max(self.frames, 1),
            frames=self.frames,
            values=self.values,
            reference_not_finite=self.not_finite[0],
            candidate_not_finite=self.not_finite[1],
        )

    def _cosine(self) -> float:
        if self.reference_square == self.candidate_square == 0.0:
            return 1.0
        norms = math.sqrt(self.reference_square) * math.sqrt(self.candidate_square)
        return min(1.0, self.dot / norms) if norms else 0.0
