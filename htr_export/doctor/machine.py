"""A machine as the doctor sees it: the facts of its host, its Python packages and its shared libraries."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.host import Host, physical_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LIBRARY_FOLDERS = ("nvidia/*/lib", "tensorrt_libs", "tensorrt_rtx_libs", "torch/lib")  # of Python packages


def free_bytes(folder: Path) -> int | None:
    """Return the free space of the disk that holds a folder, or None if nothing can be written there."""
    try:
        return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # it looked everywhere, and nothing can be written
        return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108


@dataclass(frozen=True)
class Machine(Host):
    """A machine to examine, by default the one that this process runs on."""

    free: Callable[[Path], int | None] = free_bytes
    packages: Sequence[str] = field(default_factory=lambda: tuple(sys.path))  # folders of Python packages
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: str = field(default_factory=platform.python_version)
    system: str = field(default_factory=platform.platform)
    architecture: str = field(default_factory=platform.machine)
    cores: int = field(default_factory=physical_cores)
    in_environment: bool = sys.prefix != sys.base_prefix  # a virtual environment
    temporary: Path = field(default_factory=_temporary_folder)
    current: Path = Path()

    def glob(self, pattern: str) -> list[Path]:
        """Return the paths under the root that match, sorted."""
        return sorted(self.root.glob(pattern))

    def version(self, *names: str) -> str | None:
        """Return the version of the first of these Python distributions that is installed."""
        for name in names:
            for found in importlib.metadata.distributions(name=name, path=list(self.packages)):
                return found.version
        return None

    def package_files(self, pattern: str) -> list[Path]:
        """Return the files of Python packages that match a pattern such as ``torch/version.py``."""
        return [path for folder in self.packages for path in sorted(Path(folder or ".").glob(pattern))]

    def package_text(self, pattern: str) -> str:
        """Return the content of the first file of Python packages that matches, empty if none does."""
        for path in self.package_files(pattern):
            try:
                return path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
        return ""

    def has_library(self, name: str) -> bool:
        """Return whether the dynamic linker, or a Python package that brings its libraries, has a shared library."""
        if any(self.package_files(f"{folder}/{name}") for folder in LIBRARY_FOLDERS):
            return True
        places = self.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
        return any(place and (Path(place) / name).exists() for place in places) or name in self._linked

    @cached_property
    def _linked(self) -> set[str]:
        """The names in the linker's cache, whose lines are ``name (kind) => path``."""
        answer = self.run(["ldconfig", "-p"])
        lines = answer.text.splitlines() if answer else []
        return {line.split(maxsplit=1)[0] for line in lines if " => " in line}
