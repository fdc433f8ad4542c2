"""Opening whatever file a user points at as an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.backends.base import ONNX_ENGINES, PLAN_ENGINES, Engine, open_engine
from htr_engines.backends.tensorrt.sidecar import read_sidecar
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

ENGINES_OF_SUFFIX = {
    ".safetensors": ("torch",),
    ".pth": ("torch",),
    ".pt": ("torch",),
    ".onnx": (*ONNX_ENGINES, "rounding"),
    ".plan": PLAN_ENGINES,
}


def open_any(path: Path, engine: str | None = None, threads: int | None = None) -> Engine:
    """Open a model file with the engine asked for, by default the first that its kind of file allows.

    A plan is opened with the runtime that its sidecar names.

    Raises:
        EngineError: if the file's kind is unknown or the engine cannot run it.
    """
    suffix = path.suffix.lower()
    allowed = ENGINES_OF_SUFFIX.get(suffix)
    if allowed is None:
        raise EngineError(f"{path} is of no known kind; give one of {', '.join(ENGINES_OF_SUFFIX)}")
    if engine is not None and engine not in allowed:
        raise EngineError(f"{path} cannot be run by {engine}; choose one of {', '.join(allowed)}")
    if suffix == ".plan" and path.is_file():
        return open_engine(path, engine or read_sidecar(path).runtime, threads)
    engine = engine or allowed[0]
    if engine == "torch":
        from htr_export.torch_engine import TorchEngine

        return TorchEngine(path, threads)
    if engine == "rounding":
        from htr_export.rounding_engine import RoundingEngine

        return RoundingEngine(path, threads)
    return open_engine(path, engine, threads)
