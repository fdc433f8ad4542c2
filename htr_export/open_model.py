"""Opening whatever file a user points at as an engine.

The backends of the reader, and two that only this machine has: PyTorch, which every artefact is compared with, and the
rounding of low precision on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from htr_engines.backends import backends, open_engine
from htr_engines.backends.base import Backend, Engine
from htr_engines.backends.tensorrt.sidecar import read_sidecar
from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.base import ModelFile


def open_any(path: Path, engine: str | None = None, threads: int | None = None) -> Engine:
    """Open a model file with the engine asked for, by default the first that takes its suffix.

    A plan is opened with the runtime that its sidecar names.

    Raises:
        EngineError: if the file's suffix is unknown or the engine cannot run it.
    """
    known, suffix = all_backends(), path.suffix.lower()
    allowed = [name for name, backend in known.items() if suffix in backend.suffixes]
    if not allowed:
        suffixes = dict.fromkeys(suffix for backend in known.values() for suffix in backend.suffixes)
        raise EngineError(f"{path} has an unsupported file type; give one of {', '.join(suffixes)}")
    if engine is not None and engine not in allowed:
        raise EngineError(f"{path} cannot be run by {engine}; choose one of {', '.join(allowed)}")
    if engine is None:
        engine = read_sidecar(path).runtime if suffix == ".plan" and path.is_file() else allowed[0]
    return open_engine(path, engine, threads, known)


def all_backends() -> dict[str, Backend]:
    """Return the backends of the reader and those of this package, by name."""
    return {**backends(), **{backend.name: backend for backend in (TORCH, ROUNDING)}}


def _open_torch(model: ModelFile, threads: int) -> Engine:
    from htr_export.torch_engine import TorchEngine

    return TorchEngine(model.path, threads)


def _open_rounding(model: ModelFile, threads: int) -> Engine:
    from htr_export.rounding_engine import RoundingEngine

    return RoundingEngine(model.path, threads)


TORCH = Backend(
    name="torch",
    suffixes=(".safetensors", ".pth", ".pt"),
    device="cpu",
    package="torch",
    distributions=("torch",),
    extra="export",
    open=_open_torch,
)
ROUNDING = Backend(
    name="rounding",
    suffixes=(".onnx",),
    device="cpu",
    package="onnx",
    distributions=("onnx",),
    extra="export",
    open=_open_rounding,
)
