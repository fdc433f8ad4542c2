"""A share of many things, of which each job of a cluster takes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Share ``index`` of ``count``, from 1."""

    index: int
    count: int

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this share: a block, so that no two shares differ by more than one item."""
        first, last = (len(items) * number // self.count for number in (self.index - 1, self.index))
        return items[first:last]

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"shard-{self.index:05d}-of-{self.count:05d}.jsonl"
