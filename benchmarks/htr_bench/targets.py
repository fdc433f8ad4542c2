"""What is to be measured: a file and the engine that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.bundle import open_bundle
from htr_engines.errors import BundleError, EngineError
from htr_export.open_model import all_backends, open_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.backends.base import Engine


@dataclass(frozen=True)
class Target:
    """A model file with the engine asked for."""

    path: Path
    engine: str | None = None  # None for the first that can run the file
    is_reference: bool = False

    @property
    def label(self) -> str:
        """The target as it was asked for."""
        return f"{self.engine}:{self.path}" if self.engine else str(self.path)

    def open(self, threads: int | None) -> Engine:
        """Open the engine."""
        if self.path.is_dir():
            open_bundle(self.path)  # raises what is wrong with the bundle
        return open_any(self.path, self.engine, threads)


def parse_targets(texts: Sequence[str], reference: Path | None = None) -> list[Target]:
    """Read the targets of a command line; a bundle means each of its models.

    Args:
        texts: ``FILE`` or ``ENGINE:FILE``, a file or the folder of a bundle.
        reference: what ratios are relative to; it is measured first.

    Raises:
        EngineError: if an engine is unknown.
    """
    targets = [] if reference is None else [Target(reference, is_reference=True)]
    for text in texts:
        engine, path = _split(text)
        targets += [Target(file, engine) for file in _files(path, engine)]
    return list(dict.fromkeys(targets))


def _files(path: Path, engine: str | None) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        models = open_bundle(path).models
    except BundleError:
        return [path]  # reported in its own row when it is opened
    return [model.file for model in models if engine is None or engine in model.engines] or [path]


def _split(text: str) -> tuple[str | None, Path]:
    before, colon, after = text.partition(":")
    if not colon or Path(text).exists():
        return None, Path(text)
    if before not in (known := sorted(all_backends())):
        raise EngineError(f"no engine is called {before!r}; choose one of {', '.join(known)}")
    return before, Path(after)
