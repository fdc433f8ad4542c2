"""From line lists to batches.

Batch i depends on the recipe and on i alone: no worker, crash or resumption changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from htr_engines.charset import PRESETS, Charset, preset, read_charset
from htr_engines.errors import HtrError
from htr_engines.lines import Line, read_lines
from htr_engines.preprocess import fit_line, load_page
from htr_training.augment import augment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from htr_engines.preprocess import Preprocessing
    from htr_training.recipe import AugmentRecipe, DataRecipe

AHEAD = 4  # batches that each worker prepares ahead


class Batch(NamedTuple):
    """Lines and their texts, as they travel to the device."""

    images: Tensor  # uint8 [N,1,H,W], white = 255
    targets: Tensor  # int64 [N,S] classes, 0 past the end of a text
    lengths: Tensor  # int64 [N], characters

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class Split(NamedTuple):
    """The lines of a training."""

    train: list[Line]
    val: list[Line]


def read_split(recipe: DataRecipe) -> Split:
    """Read the recipe's two lists."""
    folder = recipe.root / recipe.lines
    return Split(read_lines(folder, recipe.root / recipe.train), read_lines(folder, recipe.root / recipe.val))


def choose_charset(recipe: DataRecipe, split: Split) -> Charset:
    """Return the recipe's characters: a preset, a file's, or those of the training lines by code point."""
    if recipe.charset in PRESETS:
        return preset(recipe.charset)
    if recipe.charset != "collect":
        return read_charset(recipe.root / recipe.charset)
    return Charset("".join(sorted({character for line in split.train for character in line.text or ""})))


class FittedLines:
    """Lines as the network gets them, by number.

    Args:
        lines: where the images are, and what is written on them.
        spec: what they are fitted into.
        cache: decode all of them now and keep them, one byte a pixel, in memory that the workers share.
    """

    def __init__(self, lines: Sequence[Line], spec: Preprocessing, *, cache: bool) -> None:
        self.lines = lines
        self.spec = spec
        self._cache_LHW: Tensor | None = None
        if cache:
            images_LHW = torch.empty(len(lines), spec.height, spec.width, dtype=torch.uint8)
            images_LHW.share_memory_()  # type: ignore[no-untyped-call]
            for number in range(len(lines)):
                images_LHW[number] = torch.from_numpy(self._decode(number))
            self._cache_LHW = images_LHW

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Return line ``number`` as uint8 [H,W]."""
        if self._cache_LHW is None:
            return self._decode(number)
        grey_HW: NDArray[np.uint8] = self._cache_LHW[number].numpy()
        return grey_HW

    def _decode(self, number: int) -> NDArray[np.uint8]:
        grey_HW = load_page(self.lines[number].image, self.spec.alpha)
        image_1HW: NDArray[np.float32] = np.rint(fit_line(grey_HW, self.spec) * 255)
        return image_1HW[0].astype(np.uint8)


class Order:
    """The order in which lines are learnt: one permutation after the other, each line once in each.

    Args:
        count: lines.
        seed: of the permutations.
    """

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


def collate(images: Sequence[NDArray[np.uint8]], targets: Sequence[Sequence[int]]) -> Batch:
    """Stack lines [H,W] and pad their classes."""
    length_N = torch.tensor([len(target) for target in targets])
    target_NS = torch.zeros(len(targets), max(1, int(length_N.max())), dtype=torch.int64)
    for row, target in zip(target_NS, targets, strict=True):
        row[: len(target)] = torch.tensor(target, dtype=torch.int64)
    return Batch(torch.from_numpy(np.stack(images))[:, None], target_NS, length_N)


class TrainingBatches(Dataset["Batch | HtrError"]):
    """Batch ``i`` of the training, or of it the share of one process of several.

    Args:
        lines: the training lines.
        charset: what their texts are encoded with.
        recipe: of the augmentation.
        seed: of order and augmentation.
        batch: lines of a joint batch.
        share: this process's number, and how many there are.
    """

    def __init__(
        self,
        lines: FittedLines,
        charset: Charset,
        recipe: AugmentRecipe,
        *,
        seed: int,
        batch: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.lines = lines
        self.targets = [charset.encode(line.text or "") for line in lines.lines]
        self.recipe = recipe
        self.seed = seed
        self.batch = batch
        self.share = share
        self.order = Order(len(lines), seed)

    def __getitem__(self, index: int) -> Batch | HtrError:
        """Return batch ``index``, or the error that kept it from being made.

        Raised in a worker, it would lose its type on the way.
        """
        process, processes = self.share
        size = self.batch // processes
        first = index * self.batch + process * size
        places = range(first, first + size)
        chosen = [self.order[place] for place in places]
        try:
            images = [self._vary(line, index, place) for line, place in zip(chosen, places, strict=True)]
        except HtrError as error:
            return error
        return collate(images, [self.targets[line] for line in chosen])

    def _vary(self, line: int, index: int, place: int) -> NDArray[np.uint8]:
        key = [self.seed, 1, index] if self.recipe.per == "batch" else [self.seed, 2, place]
        return augment(self.lines[line], self.recipe, np.random.default_rng(key))


def load_batches(batches: TrainingBatches, indices: range, workers: int, *, pin: bool) -> Iterator[Batch]:
    """Yield the batches ``indices`` in order, prepared ahead by ``workers`` processes.

    Raises:
        HtrError: if a line cannot be read.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pin,
    )
    for item in loader:
        if isinstance(item, HtrError):
            raise item
        yield item
