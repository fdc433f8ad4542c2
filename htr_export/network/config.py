"""The numbers in which one HTR-ConvText network differs from another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from htr_engines.errors import CheckpointError
from htr_engines.limits import IMAGE_WIDTHS
from htr_engines.text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_DEPTH = 3  # a block before, within and after the half length
MOST = {"embed_dim": 4096, "depth": 64, "num_heads": 128, "mobilevit_head_dim": 1024}
MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class NetworkConfig:
    """Size of a network. The defaults are the published one.

    Raises:
        CheckpointError: if the numbers do not divide as the network needs.
    """

    num_classes: int
    embed_dim: int = 512  # width of the encoder; the backbone has a quarter, a half and all of it
    depth: int = 8  # ConvText blocks, half of them at half length
    num_heads: int = 8  # of the encoder's attention
    mobilevit_head_dim: int = 64  # of the backbone's attention
    image_width: int = 512  # pixels that a line is fitted into; the network itself takes any multiple of 8

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = MOST.get(field.name, MOST_CLASSES)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise CheckpointError(
                    f"the network's {field.name} should be a whole number from 1 to {most}, not {shown(value)}"
                )
        if self.num_classes == 1:
            raise CheckpointError("the network needs at least two classes, the blank and one character")
        if self.depth < MIN_DEPTH:
            raise CheckpointError(f"the network's depth should be at least {MIN_DEPTH}, not {self.depth}")
        if self.embed_dim % (4 * self.mobilevit_head_dim):
            raise CheckpointError(
                f"embed_dim {self.embed_dim} should be a multiple of 4 x mobilevit_head_dim {self.mobilevit_head_dim}"
            )
        if self.embed_dim % self.num_heads:
            raise CheckpointError(f"embed_dim {self.embed_dim} should be a multiple of num_heads {self.num_heads}")
        if self.image_width not in IMAGE_WIDTHS:
            raise CheckpointError(f"image_width {self.image_width} should be a multiple of 8 from 32 to 2048")

    @property
    def half_blocks(self) -> range:
        """The blocks that work at half length: in the published network 3 before them and 1 after."""
        return range(self.depth - self.depth // 2 - 1, self.depth - 1)

    def to_dict(self) -> dict[str, int]:
        """Return the numbers by name, for metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> NetworkConfig:
        """Build a configuration from metadata; unknown names raise :class:`CheckpointError`."""
        known = {field.name for field in fields(cls)}
        if unknown := [name for name in numbers if name not in known]:
            raise CheckpointError(f"the network configuration holds unknown entries: {shown(unknown)}")
        if "num_classes" not in numbers:
            raise CheckpointError("the network configuration lacks num_classes")
        return cls(**numbers)


PRESETS: dict[str, dict[str, int]] = {
    "base": {"embed_dim": 512, "depth": 8, "num_heads": 8, "mobilevit_head_dim": 64},
    "small": {"embed_dim": 256, "depth": 6, "num_heads": 8, "mobilevit_head_dim": 32},
    "tiny": {"embed_dim": 128, "depth": 4, "num_heads": 4, "mobilevit_head_dim": 32},
}
