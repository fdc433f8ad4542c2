"""From line lists to batches.

Batch i depends on the recipe and on i alone: no worker, crash or resumption changes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from htr_engines.charset import PRESETS, Charset, preset, read_charset
from htr_engines.errors import DataError, HtrError
from htr_engines.files import can_exist
from htr_engines.lines import Line, read_lines
from htr_engines.preprocess import fit_line, load_page, scaled_width
from htr_training.augment import augment
from htr_training.check.check import PIXELS_PER_FRAME, frames_needed
from htr_training.order import ConsecutiveBatches, Mixture, Order, WidthBuckets
from htr_training.stopping import ignore_signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.preprocess import Preprocessing
    from htr_training.order import Batches, LineOrder
    from htr_training.recipe import AugmentRecipe, DataRecipe, SetRecipe, WidthMode

PREFETCH_BATCHES = 4  # batches that each worker prepares ahead
NAMED = 10  # skipped lines that the log names; 'htr-train check' names all


WHITE = 255
WIDTH_STEP = 64  # pixels that the width of a batch is rounded up to, so that few widths occur
FULL_WIDTH_EVERY = 8  # batches


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
    """Read the recipe's two lists, or those of its sets, whose lines are then named ``SET/NAME``."""
    if recipe.sets:
        train = [line for part in recipe.sets if part.weight for line in _read_set(recipe.root, part, part.train)]
        val = [line for part in recipe.sets if part.val for line in _read_set(recipe.root, part, part.val)]
        return Split(train, val)
    folder = recipe.root / recipe.lines
    return Split(read_lines(folder, recipe.root / recipe.train), read_lines(folder, recipe.root / recipe.val))


def _read_set(root: Path, part: SetRecipe, list_name: str) -> list[Line]:
    folder = root / part.root
    lines = read_lines(folder / part.lines, folder / list_name)
    return [replace(line, name=f"{part.name}/{line.name}") for line in lines]


def choose_order(recipe: DataRecipe, lines: Sequence[Line], seed: int) -> LineOrder:
    """Return the order in which the training lines of :func:`read_split` are learnt."""
    if not recipe.sets:
        return Order(len(lines), seed)
    sizes = Counter(line.name.split("/", 1)[0] for line in lines)
    mixed = [part for part in recipe.sets if part.weight]
    return Mixture([sizes[part.name] for part in mixed], [part.weight for part in mixed], seed)


def skip_unusable(split: Split, width: int) -> tuple[Split, list[str]]:
    """Leave out what must not stop a training: lines whose names no file can have, and too long texts to learn.

    Args:
        split: the lines.
        width: pixels that the network fits a line into; it writes a character at most on every four.

    Returns:
        The other lines, and what to say about it.

    Raises:
        DataError: if no line to learn from is left.
    """
    notes = []
    kept = Split(*([line for line in lines if can_exist(line.image)] for lines in split))
    if lost := sum(map(len, split)) - sum(map(len, kept)):
        notes.append(f"note: {lost} lines have names that no file can have; they are skipped")
    frames = width // PIXELS_PER_FRAME
    if long := [line.name for line in kept.train if frames_needed(line.text or "") > frames]:
        kept = Split([line for line in kept.train if frames_needed(line.text or "") <= frames], kept.val)
        names = ", ".join(long[:NAMED]) + (f" and {len(long) - NAMED} more" if len(long) > NAMED else "")
        notes.append(f"note: {len(long)} texts are longer than the {frames} outputs of the network; skipped: {names}")
    if not kept.train:
        raise DataError("no line to learn from is left; a wider network (network.image_width) writes longer texts")
    return kept, notes


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

    Attributes:
        width_L: columns that each line fills, where the lines are cached.
    """

    def __init__(self, lines: Sequence[Line], spec: Preprocessing, *, cache: bool) -> None:
        self.lines = lines
        self.spec = spec
        self.width_L: NDArray[np.int64] = np.full(len(lines), spec.width)
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
        self.width_L[number] = scaled_width(grey_HW.shape, self.spec)
        image_1HW: NDArray[np.float32] = np.rint(fit_line(grey_HW, self.spec) * 255)
        return image_1HW[0].astype(np.uint8)


def collate(images: Sequence[NDArray[np.uint8]], targets: Sequence[Sequence[int]], width: int = 0) -> Batch:
    """Stack lines [H,W] and pad their classes; lines narrower than ``width`` are padded with white on the right."""
    length_N = torch.tensor([len(target) for target in targets])
    target_NS = torch.zeros(len(targets), max(1, int(length_N.max())), dtype=torch.int64)
    for row, target in zip(target_NS, targets, strict=True):
        row[: len(target)] = torch.tensor(target, dtype=torch.int64)
    padded = [np.pad(line, ((0, 0), (0, max(0, width - line.shape[1]))), constant_values=WHITE) for line in images]
    return Batch(torch.from_numpy(np.stack(padded))[:, None], target_NS, length_N)


class TrainingBatches(Dataset["Batch | HtrError"]):
    """Batch ``i`` of the training, or of it the share of one process of several.

    With ``width`` "content" a batch is as wide as its widest line, rounded up to 64 pixels. Every eighth has the full
    width all the same: the network will also read lines that are padded to it.

    Args:
        lines: the training lines.
        charset: what their texts are encoded with.
        recipe: of the augmentation.
        order: which line is learnt when.
        seed: of the augmentation.
        batch: lines of a joint batch.
        share: this process's number, and how many there are.
        width: "fixed" or "content".
    """

    def __init__(
        self,
        lines: FittedLines,
        charset: Charset,
        recipe: AugmentRecipe,
        order: LineOrder,
        *,
        seed: int,
        batch: int,
        share: tuple[int, int] = (0, 1),
        width: WidthMode = "fixed",
    ) -> None:
        self.lines = lines
        self.targets = [charset.encode(line.text or "") for line in lines.lines]
        self.recipe = recipe
        self.seed = seed
        self.share = share
        self.order = order
        self.width = width
        by_width = width == "content"
        self.places: Batches = (
            WidthBuckets(order, lines.width_L, batch, seed) if by_width else ConsecutiveBatches(batch)
        )

    def __getitem__(self, index: int) -> Batch | HtrError:
        """Return batch ``index``, or the error that kept it from being made.

        Raised in a worker, it would lose its type on the way.
        """
        process, processes = self.share
        joint = self.places[index]
        size = len(joint) // processes
        places = joint[process * size : (process + 1) * size]
        chosen = [self.order[place] for place in places]
        try:
            images = [self._vary(line, index, place) for line, place in zip(chosen, places, strict=True)]
        except HtrError as error:
            return error
        return collate(images, [self.targets[line] for line in chosen], self._width_of(index, joint))

    def _vary(self, line: int, index: int, place: int) -> NDArray[np.uint8]:
        key = [self.seed, 1, index] if self.recipe.per == "batch" else [self.seed, 2, place]
        grey_HW = self.lines[line]
        if self.width == "content":
            grey_HW = grey_HW[:, : self.lines.width_L[line]]
        return augment(grey_HW, self.recipe, np.random.default_rng(key))

    def _width_of(self, index: int, joint: Sequence[int]) -> int:
        """Return a batch's width, the same in every process, whose batch statistics are joint."""
        if self.width == "fixed" or index % FULL_WIDTH_EVERY == 0:
            return self.lines.spec.width
        widest = max(self.lines.width_L[self.order[place]] for place in joint)
        return min(-(-int(widest) // WIDTH_STEP) * WIDTH_STEP, self.lines.spec.width)


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
        prefetch_factor=PREFETCH_BATCHES if workers else None,
        pin_memory=pin,
        worker_init_fn=ignore_signals,
    )
    for item in loader:
        if isinstance(item, HtrError):
            raise item
        yield item
