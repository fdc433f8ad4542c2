"""What is to be measured: a file and the engine that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.bundle import open_bundle
from htr_engines.errors import BundleError, EngineError
from htr_export.open_model import all_backends, open_any, read_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.backends.base import Engine


@dataclass(frozen=True)
class Target:
    """A model file with the engine asked for."""

    path: Path
    engine: str | None = None  # None for the first that can run the file
    sha256: str | None = None  # that the file must have
    is_reference: bool = False

    @property
    def label(self) -> str:
        """The target as it was asked for."""
        return f"{self.engine}:{self.path}" if self.engine else str(self.path)

    def open(self, threads: int | None) -> Engine:
        """Open the engine on the bytes whose hash was compared.

        Raises:
            EngineError: if the file is another one than was asked for, or the engine cannot run it.
        """
        if self.path.is_dir():
            open_bundle(self.path)  # raises what is wrong with the bundle
        model = read_model(self.path)
        if self.sha256 is not None and model.sha256 != self.sha256:
            raise EngineError(f"{self.path} was changed; copy it again, and leave it alone while it is measured")
        return open_any(model, self.engine, threads)


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
        targets += _targets(*_split(text))
    return list(dict.fromkeys(targets))


def _targets(engine: str | None, path: Path) -> list[Target]:
    alone = [Target(path, engine)]
    if not path.is_dir():
        return alone
    try:
        bundle = open_bundle(path)
    except BundleError:
        return alone  # reported in its own row when it is opened
    files = [model.file for model in bundle.models if engine is None or engine in model.engines]
    return [Target(file, engine, bundle.digests[file]) for file in files] or alone


def _split(text: str) -> tuple[str | None, Path]:
    before, colon, after = text.partition(":")
    if not colon or Path(text).exists():
        return None, Path(text)
    if before not in (known := sorted(all_backends())):
        raise EngineError(f"no engine is called {before!r}; choose one of {', '.join(known)}")
    return before, Path(after)
