"""Opening whatever file a user points at as an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.engine import ENGINES, Engine, open_engine
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

ENGINES_OF_SUFFIX = {
    ".safetensors": ("torch",),
    ".pth": ("torch",),
    ".pt": ("torch",),
    ".onnx": ENGINES,
}


def open_any(path: Path, engine: str | None = None, threads: int | None = None) -> Engine:
    """Open a model file with the engine asked for, by default the first that its kind of file allows.

    Raises:
        EngineError: if the file's kind is unknown or the engine cannot run it.
    """
    allowed = ENGINES_OF_SUFFIX.get(path.suffix.lower())
    if allowed is None:
        raise EngineError(f"{path} is of no known kind; give one of {', '.join(ENGINES_OF_SUFFIX)}")
    engine = engine or allowed[0]
    if engine not in allowed:
        raise EngineError(f"{path} cannot be run by {engine}; choose one of {', '.join(allowed)}")
    if engine == "torch":
        from htr_export.reference import TorchEngine

        return TorchEngine(path, threads)
    return open_engine(path, engine, threads)
