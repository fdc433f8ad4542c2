"""How many lines a second go through the reader: without a network, and with one in one stream or in several.

    python benchmarks/throughput.py demo-output/demo.htr data/dhsd/lines data/copiste/lines -o FILE

"Without a network" reads with an engine that gives the same logits for every line: decoding, fitting, CTC and all that
lies between. With the network, one stream on all threads and the streams that the bundle says take turns; the ratio is
the median over the rounds.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from htr_engines import Recognizer
from htr_engines.backends.base import Closeable
from htr_engines.preprocess import SUFFIXES, load_line
from htr_export.reporting import document, write_document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from htr_engines.backends.base import EngineInfo

UNITS = {"lines_per_s": "1/s", "ratio": "1"}


class FreeEngine(Closeable):
    """Gives the same logits for every line, at once."""

    def __init__(self, info: EngineInfo, logits_1TC: NDArray[np.float32]) -> None:
        self.info = replace(info, streams=1)
        self._logits_1TC = logits_1TC

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for each line."""
        return np.repeat(self._logits_1TC, len(image_N1HW), axis=0)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--engine", default="onnxruntime", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=2000, show_default=True, help="Lines of each folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
def main(bundle: Path, folders: tuple[Path, ...], engine: str, rounds: int, limit: int, output: Path) -> None:
    """Measure BUNDLE on the line images of FOLDERS."""
    content: dict[str, Any] = {"engine": engine, "rounds": rounds, "pipeline": {}, "network": {}}
    for folder in folders:
        images = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES][:limit]
        few = images[: max(50, limit // 10)]
        free = [_free(bundle, engine, images) for _ in range(rounds)]
        pairs = [tuple(_network(bundle, engine, few, streams) for streams in (1, None)) for _ in range(rounds)]
        content["pipeline"][folder.parent.name] = {"lines": len(images), "lines_per_s": statistics.median(free)}
        content["network"][folder.parent.name] = {
            "lines": len(few),
            "one_stream_lines_per_s": statistics.median(one for one, _ in pairs),
            "lines_per_s": statistics.median(several for _, several in pairs),
            "ratio": statistics.median(several / one for one, several in pairs),
        }
    write_document(output, document("htr-bench throughput", content, units=UNITS))
    for name, figures in (*content["pipeline"].items(), *content["network"].items()):
        click.echo(f"{name}: {figures}")


def _free(bundle: Path, engine: str, images: Sequence[Path]) -> float:
    """Return the lines a second without a network."""
    with Recognizer(bundle, engine) as recognizer:
        real = recognizer.engine
        logits_1TC = real.infer(load_line(images[0], recognizer.preprocessing)[None])
        recognizer.engine = FreeEngine(real.info, logits_1TC)
        try:
            return _speed(recognizer, images, 8)
        finally:
            recognizer.engine = real


def _network(bundle: Path, engine: str, images: Sequence[Path], streams: int | None) -> float:
    """Return the lines a second with the network. Only one engine is open: another's threads would wait actively."""
    with Recognizer(bundle, engine, streams=streams) as recognizer:
        _speed(recognizer, images[:8], 1)  # warms up
        return _speed(recognizer, images, 1)


def _speed(recognizer: Recognizer, images: Sequence[Path], batch: int) -> float:
    began = time.perf_counter()
    lines = sum(1 for _ in recognizer.read_all(((path.name, path) for path in images), batch))
    return lines / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
