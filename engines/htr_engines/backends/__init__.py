"""The registry of backends: every module of this package whose ``BACKENDS`` says which engines it opens.

A new engine is one file here. It states a :class:`~htr_engines.backends.base.Backend` and a class with the methods of
:class:`~htr_engines.backends.base.Engine`; ``htr-read``, ``htr-export validate`` and ``doctor`` and ``htr-bench`` find
it by this registry. Its library is imported when the engine is opened, not when the module is.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.backends.base import ModelFile
from htr_engines.errors import EngineError
from htr_engines.files import is_file
from htr_engines.host import physical_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htr_engines.backends.base import Backend, Engine

DEFAULT_ENGINE = "onnxruntime"  # runs ONNX files where no engine is named


def backends() -> dict[str, Backend]:
    """Return all backends by name, the default one first."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    declared: list[Backend] = [backend for module in modules for backend in getattr(module, "BACKENDS", ())]
    declared.sort(key=lambda backend: backend.name != DEFAULT_ENGINE)
    return {backend.name: backend for backend in declared}


def engines_of(suffix: str) -> list[str]:
    """Return the names of the engines that run files of a suffix such as ``.onnx``, the default one first."""
    return [backend.name for backend in backends().values() if suffix in backend.suffixes]


def open_engine(
    model: Path | ModelFile,
    engine: str = DEFAULT_ENGINE,
    threads: int | None = None,
    known: Mapping[str, Backend] | None = None,
    streams: int = 1,
) -> Engine:
    """Open a model file with the engine asked for, and with no other.

    Args:
        model: an ONNX file, or for TensorRT a plan; where it has been read already, those bytes are opened.
        engine: the name of a backend.
        threads: CPU threads; by default all physical cores.
        known: the backends to choose from; by default :func:`backends`.
        streams: batches that run at the same time, each on its share of the threads, where the backend can.

    Raises:
        MissingExtraError: if the engine is not installed.
        EngineError: if the engine is unknown, or does not take the file on this device.
    """
    if isinstance(model, Path):
        model = ModelFile(model)
    if model.loaded is None and not is_file(model.path):
        raise EngineError(f"{model} does not exist; give a model file")
    if threads is not None and threads < 1:
        raise EngineError(f"threads should be at least 1, not {threads}")
    known = backends() if known is None else known
    if engine not in known:
        raise EngineError(f"no engine is called {engine!r}; choose one of {', '.join(known)}")
    options = {"streams": streams} if known[engine].streams and streams > 1 else {}
    return known[engine].open(model, threads or physical_cores(), **options)
