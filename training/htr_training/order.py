"""The order in which lines are learnt: a matter of seed and place alone, so that a resumed training goes on in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from htr_training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BUCKET = 50  # batches whose lines are sorted by width together
ROUND = 1000  # lines within which every set of a mixture gets its share exactly


class LineOrder(Protocol):
    """Which line is learnt when."""

    def __getitem__(self, place: int) -> int:
        """Return the number of the line that is learnt at ``place`` of the whole training."""
        ...


class Order:
    """One permutation after the other: each line once in each."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._epoch = -1
        self._permutation_L: NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, place: int) -> int:
        """Return the number of the line that is learnt at ``place`` of the whole training."""
        epoch, offset = divmod(place, self.count)
        if self._epoch != epoch:
            self._epoch = epoch
            self._permutation_L = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return int(self._permutation_L[offset])


class Mixture:
    """Several sets, each with its share of the lines whatever its size; within a set, one permutation after the other.

    Args:
        sizes: lines of each set. Lines are numbered through the sets.
        weights: of each set, above 0; its share is its weight over the sum.
        seed: of the mixture and the permutations.

    Raises:
        RecipeError: if a share is below a thousandth.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        ends_S = np.rint(ROUND * np.cumsum(weights) / np.sum(weights)).astype(int)
        self._quota_S = np.diff(ends_S, prepend=0)
        if not self._quota_S.all():
            raise RecipeError(f"a weight in data.sets is less than 1/{ROUND} of their sum; raise it or drop the set")
        self._orders = [Order(size, seed) for size in sizes]
        self._first_S = np.cumsum([0, *sizes])
        self._seed = seed
        self._round = -1
        self._sets_R: NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, place: int) -> int:
        """Return the number of the line that is learnt at ``place`` of the whole training."""
        number, offset = divmod(place, ROUND)
        if self._round != number:
            self._round = number
            sets_R = np.repeat(np.arange(len(self._quota_S)), self._quota_S)
            self._sets_R = np.random.default_rng([self._seed, 3, number]).permutation(sets_R)
        chosen = int(self._sets_R[offset])
        before = int((self._sets_R[:offset] == chosen).sum())
        return int(self._first_S[chosen]) + self._orders[chosen][number * int(self._quota_S[chosen]) + before]


class Batches(Protocol):
    """Which places of the training a batch holds."""

    def __getitem__(self, index: int) -> Sequence[int]:
        """Return the places of joint batch ``index``, each of which is learnt in one batch exactly."""
        ...


class ConsecutiveBatches:
    """Each batch holds the places that come next."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __getitem__(self, index: int) -> Sequence[int]:
        """Return the places of joint batch ``index``."""
        return range(index * self.batch, (index + 1) * self.batch)


class WidthBuckets:
    """Batches of lines of like width: those of 50 batches, sorted by width, the batches then shuffled."""

    def __init__(self, order: LineOrder, width_L: NDArray[np.int64], batch: int, seed: int) -> None:
        self.order = order
        self.width_L = width_L
        self.batch = batch
        self.seed = seed
        self._bucket = -1
        self._place_BN: NDArray[np.int64] = np.empty((0, batch), np.int64)

    def __getitem__(self, index: int) -> Sequence[int]:
        """Return the places of joint batch ``index``."""
        bucket, number = divmod(index, BUCKET)
        if self._bucket != bucket:
            self._bucket = bucket
            place_P = np.arange(bucket * BUCKET * self.batch, (bucket + 1) * BUCKET * self.batch)
            width_P = self.width_L[[self.order[int(place)] for place in place_P]]
            sorted_BN = place_P[np.argsort(width_P, kind="stable")].reshape(BUCKET, self.batch)
            self._place_BN = np.random.default_rng([self.seed, 4, bucket]).permutation(sorted_BN)
        return [int(place) for place in self._place_BN[number]]
