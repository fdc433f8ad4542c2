"""What every engine is to the rest of the code, and how a backend declares one.

Tensor names end in their axes: N batch, 1 grey channel, H height, W width, T frames, C classes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from htr_engines.errors import EngineError, FileError
from htr_engines.files import read_file, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from typing_extensions import Self


MAX_MODEL_BYTES = 1 << 30  # size base has 0.26 GB in float32


@dataclass(frozen=True)
class ModelFile(os.PathLike[str]):
    """A model file that may have been read already: then an engine opens those bytes, not what stands there now."""

    path: Path
    loaded: bytes | None = field(default=None, repr=False)
    sidecar: bytes | None = field(default=None, repr=False)  # of a plan

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def content(self) -> bytes:
        """The bytes; read at each call, unless they came along.

        Raises:
            EngineError: if the file cannot be read.
        """
        if self.loaded is not None:
            return self.loaded
        try:
            return read_file(self.path, MAX_MODEL_BYTES)
        except FileError as error:
            raise EngineError(str(error)) from None

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes that were read, else of what stands there now."""
        return sha256_of(self.path) if self.loaded is None else hashlib.sha256(self.loaded).hexdigest()


@dataclass(frozen=True)
class TensorInfo:
    """An input or output. A name in place of a number is an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class EngineInfo:
    """Facts of an open engine."""

    engine: str  # the name of its backend
    device: str  # "cpu" or "cuda:0"
    version: str  # of the library that runs it
    threads: int  # on the CPU
    input: TensorInfo
    output: TensorInfo
    memory_bytes: int  # by which the process grew when the engine was opened
    metadata: Mapping[str, str] = field(default_factory=dict)  # that the model file carries
    streams: int = 1  # batches that ``infer`` runs at the same time, called from as many threads


class Engine(Protocol):
    """A network that is ready to run. Opened by its constructor, closed by leaving its ``with`` block."""

    @property
    def info(self) -> EngineInfo:
        """Facts of the engine."""
        ...

    def infer(self, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch: float32 [N,1,64,W] in [0,1] -> float32 logits [N,W/4,C]."""
        ...

    def close(self) -> None:
        """Free what the engine holds; it may not be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Backend:
    """An engine that can be opened by name.

    Ranks order the pairs of engine and precision that a bundle offers: the lowest number is tried first. They are
    numbers of one scale over all backends, by expected latency. A precision without a rank comes last; a backend
    without ranks is used only when it is named.
    """

    name: str  # that --engine takes
    suffixes: tuple[str, ...]  # of the files that it runs
    device: str  # "cpu" or "cuda:0"
    package: str  # that it imports
    distributions: tuple[str, ...]  # of PyPI or of the vendor, any of which brings the package
    extra: str  # of htr-export that installs it
    open: Callable[..., Engine]  # of a ModelFile and CPU threads, and streams=... if it has streams
    ranks: Mapping[str, int] = field(default_factory=dict)  # by precision
    streams: bool = False  # whether it can divide its threads among batches that run at the same time


class Closeable:
    """The ``with`` protocol for classes that have ``close``."""

    def close(self) -> None:
        """Free what the object holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def infer_lines(engine: Engine, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run any number of lines. A model of fixed batch size gets them in sub-batches, the last one padded with white.

    Raises:
        EngineError: if the model has another fixed width.
    """
    batch, width = engine.info.input.shape[0], engine.info.input.shape[3]
    if isinstance(width, int) and width != image_N1HW.shape[3]:
        raise EngineError(
            f"the model takes lines of {width} pixels, these have {image_N1HW.shape[3]}; export it with that width"
        )
    lines = len(image_N1HW)
    if not isinstance(batch, int) or batch == lines:
        return engine.infer(image_N1HW)
    missing = -lines % batch
    padding = np.ones((missing, *image_N1HW.shape[1:]), np.float32)
    sub_batches = np.split(np.concatenate([image_N1HW, padding]), (lines + missing) // batch)
    return np.concatenate([engine.infer(sub_batch) for sub_batch in sub_batches])[:lines]
