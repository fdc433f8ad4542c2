"""Opening whatever file a user points at as an engine.

The backends of the reader, and two that only this machine has: PyTorch, which every artefact is compared with, and the
rounding of low precision on a CPU.
"""

from __future__ import annotations

from pathlib import Path

from htr_engines.backends import backends, open_engine
from htr_engines.backends.base import Backend, Engine, ModelFile
from htr_engines.backends.tensorrt.sidecar import MAX_BYTES, read_sidecar, sidecar_path
from htr_engines.errors import EngineError
from htr_engines.files import is_file, read_file

READ_WHOLE = (".safetensors", ".onnx", ".plan")


def read_model(path: Path) -> ModelFile:
    """Read a model file, and the sidecar of a plan, so that the bytes that are hashed are those that are opened.

    A training checkpoint, which holds far more than its network, stays on the disk; so does what is no file, since
    opening it says what is wrong.
    """
    if path.suffix.lower() not in READ_WHOLE or not is_file(path):
        return ModelFile(path)
    sidecar = sidecar_path(path)
    return ModelFile(
        path,
        ModelFile(path).content,
        read_file(sidecar, MAX_BYTES) if path.suffix.lower() == ".plan" and is_file(sidecar) else None,
    )


def open_any(model: Path | ModelFile, engine: str | None = None, threads: int | None = None) -> Engine:
    """Open a model file with the engine asked for, by default the first that takes its suffix.

    A plan is opened with the runtime that its sidecar names.

    Raises:
        EngineError: if the file's suffix is unknown or the engine cannot run it.
    """
    model = ModelFile(model) if isinstance(model, Path) else model
    known, path, suffix = all_backends(), model.path, model.path.suffix.lower()
    allowed = [name for name, backend in known.items() if suffix in backend.suffixes]
    if not allowed:
        suffixes = dict.fromkeys(suffix for backend in known.values() for suffix in backend.suffixes)
        raise EngineError(f"{path} has an unsupported file type; give one of {', '.join(suffixes)}")
    if engine is not None and engine not in allowed:
        raise EngineError(f"{path} cannot be run by {engine}; choose one of {', '.join(allowed)}")
    if engine is None:
        engine = read_sidecar(path, model.sidecar).runtime if suffix == ".plan" and is_file(path) else allowed[0]
    return open_engine(model, engine, threads, known)


def all_backends() -> dict[str, Backend]:
    """Return the backends of the reader and those of this package, by name."""
    return {**backends(), **{backend.name: backend for backend in (TORCH, ROUNDING)}}


def _open_torch(model: ModelFile, threads: int) -> Engine:
    from htr_export.model import load_any
    from htr_export.torch_engine import TorchEngine

    return TorchEngine(load_any(model.path, content=model.loaded), threads)


def _open_rounding(model: ModelFile, threads: int) -> Engine:
    from htr_export.rounding_engine import RoundingEngine

    return RoundingEngine(model, threads)


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
