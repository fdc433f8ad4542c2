"""What every target of a run is given: the same lines, at the same width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends.base import infer_lines
from htr_engines.ctc import decode_greedy
from htr_engines.files import atomic_path
from htr_engines.lines import Line, load_batches, read_lines
from htr_engines.preprocess import load_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.charset import Charset
    from htr_engines.preprocess import Preprocessing


@dataclass(frozen=True)
class Workload:
    """Line images, on disk and as the network takes them."""

    paths: tuple[Path, ...]
    images: NDArray[np.float32]  # [N,1,H,W] in [0,1], of the same lines
    preprocessing: Preprocessing

    def batch(self, size: int) -> NDArray[np.float32]:
        """Return ``size`` lines as float32 [N,1,H,W], starting again when there are fewer."""
        return np.ascontiguousarray(self.images[np.arange(size) % len(self.images)])

    def read(self, engine: Engine, charset: Charset, size: int) -> list[str]:
        """Read ``size`` image files: decode, preprocess, infer, decode the logits."""
        paths = [self.paths[index % len(self.paths)] for index in range(size)]
        images = [load_line(path, self.preprocessing) for path in paths]
        return [reading.text for reading in decode_greedy(infer_lines(engine, np.stack(images)), charset)]


def prepare_workload(lines_dir: Path | None, scratch: Path, size: int, preprocessing: Preprocessing) -> Workload:
    """Load ``size`` lines of a folder, or without one draw a line into ``scratch``.

    Raises:
        DataError: if no line can be read.
    """
    if lines_dir is None:
        drawn = scratch / "line.png"
        draw_line(drawn)
        lines = [Line(drawn.name, drawn, None)]
    else:
        lines = read_lines(lines_dir)
    batch = next(load_batches(lines, preprocessing, size))
    return Workload(tuple(line.image for line in batch.lines), batch.images, preprocessing)


def draw_line(path: Path) -> None:
    """Draw a line of 1024 x 128 pixels as PNG, always the same: strokes of ink on grainy paper."""
    from PIL import Image, ImageDraw, ImageFont

    grain_HW = np.random.default_rng(2512).normal(236, 6, (128, 1024)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(grain_HW)
    text = "The quick brown fox jumps over the lazy dog"
    ImageDraw.Draw(image).text((16, 30), text, fill=40, font=ImageFont.load_default(48))
    with atomic_path(path) as temporary:
        image.save(temporary, "PNG")
