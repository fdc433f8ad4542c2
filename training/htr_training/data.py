"""From line lists to batches. Batch i depends on the recipe and i alone: no worker, crash or resumption changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from htr_engines.charset import PRESETS, Charset, preset, read_charset
from htr_engines.errors import DataError
from htr_engines.lines import Line, read_lines
from htr_engines.preprocess import Preprocessing, fit_line, load_pages
from htr_training.augment import augment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_training.recipe import AugmentRecipe, DataRecipe


class Batch(NamedTuple):
    """Lines and their texts, as they travel to the device."""

    image_N1HW: Tensor  # uint8, white = 255
    target_NS: Tensor  # int64 classes, 0 past the end of a text
    length_N: Tensor  # int64, characters

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


def read_labelled(root: Path, lines: Path, list_file: Path) -> list[Line]:
    """Read a list of lines, each of which needs a transcript."""
    found = read_lines(root / lines, root / list_file)
    for line in found:
        if line.text is None:
            raise DataError(f"{line.image} has no transcript; write {line.image.with_suffix('.txt')} or take it off the list")
    return found


def choose_charset(recipe: DataRecipe, texts: Sequence[str]) -> Charset:
    """Return the recipe's character set: a preset, a file's, or the characters of ``texts`` in code point order."""
    if recipe.charset in PRESETS:
        return preset(recipe.charset)
    if recipe.charset != "collect":
        return read_charset(recipe.root / recipe.charset)
    return Charset("".join(sorted(set("".join(texts)))))


class Lines:
    """Fitted lines by number, decoded once if they are cached.

    Args:
        lines: where the images are.
        spec: what they are fitted into.
        cache: keep them, one byte a pixel, in memory that the workers share.
    """

    def __init__(self, lines: Sequence[Line], spec: Preprocessing, *, cache: bool) -> None:
        self.lines = lines
        self.spec = spec
        self._cache_LHW: Tensor | None = None
        if cache:
            images = torch.empty(len(lines), spec.height, spec.width, dtype=torch.uint8)
            for number in range(len(lines)):
                images[number] = torch.from_numpy(self._decode(number))
            self._cache_LHW = images.share_memory_()

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Return line ``number`` as uint8 [H,W]."""
        if self._cache_LHW is None:
            return self._decode(number)
        return np.asarray(self._cache_LHW[number].numpy())

    def _decode(self, number: int) -> NDArray[np.uint8]:
        grey_HW = load_pages(self.lines[number].image, self.spec.alpha)[0]
        return np.rint(fit_line(grey_HW, self.spec)[0] * 255).astype(np.uint8)


class Order:
    """The order in which lines are learnt: one permutation after the other, each line once in each.

    Args:
        count: lines.
        seed: of the permutations.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._permutation: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, place: int) -> int:
        """Return the number of the line that is learnt as number ``place`` of the whole training."""
        epoch, offset = divmod(place, self.count)
        if self._permutation[0] != epoch:
            self._permutation = (epoch, np.random.default_rng([self.seed, epoch]).permutation(self.count))
        return int(self._permutation[1][offset])


def collate(images: Sequence[NDArray[np.uint8]], targets: Sequence[Sequence[int]]) -> Batch:
    """Stack lines and pad their classes."""
    length_N = torch.tensor([len(target) for target in targets])
    target_NS = torch.zeros(len(targets), max(1, int(length_N.max())), dtype=torch.int64)
    for row, target in zip(target_NS, targets, strict=True):
        row[: len(target)] = torch.tensor(target, dtype=torch.int64)
    return Batch(torch.from_numpy(np.stack(images))[:, None], target_NS, length_N)


class TrainingBatches(Dataset[Batch]):
    """Batch ``i`` of the training, as one process of several sees it.

    Args:
        lines: the training lines.
        charset: what their texts are encoded with.
        recipe: of the augmentation.
        seed: of order and augmentation.
        batch: lines of a joint batch.
        share: (this process's number, how many there are).
    """

    def __init__(
        self, lines: Lines, charset: Charset, recipe: AugmentRecipe, *, seed: int, batch: int, share: tuple[int, int]
    ) -> None:
        self.lines = lines
        self.targets = [charset.encode(line.text or "") for line in lines.lines]
        self.recipe = recipe
        self.seed = seed
        self.batch = batch
        self.share = share
        self.order = Order(len(lines), seed)

    def __getitem__(self, index: int) -> Batch:
        """Return batch ``index``."""
        number, processes = self.share
        size = self.batch // processes
        first = index * self.batch + number * size
        places = range(first, first + size)
        chosen = [self.order[place] for place in places]
        images = [self._vary(line, index, place) for line, place in zip(chosen, places, strict=True)]
        return collate(images, [self.targets[line] for line in chosen])

    def _vary(self, line: int, index: int, place: int) -> NDArray[np.uint8]:
        key = [self.seed, 1, index] if self.recipe.per == "batch" else [self.seed, 2, place]
        return augment(self.lines[line], self.recipe, np.random.default_rng(key))


def training_loader(batches: TrainingBatches, indices: range, workers: int, *, pin: bool) -> Iterator[Batch]:
    """Yield the batches of ``indices`` in order, prepared ahead by ``workers`` processes."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=list(indices),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
    )
    return iter(loader)
