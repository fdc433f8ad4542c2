"""The window through which all facts come, so that a test can put a made-up machine behind it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.host import physical_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LONGEST = 10.0  # seconds that another program may take to answer; a driver that has to be loaded takes some
LIBRARY_FOLDERS = ("nvidia/*/lib", "tensorrt_libs", "tensorrt_rtx_libs", "torch/lib")  # of Python packages


@dataclass(frozen=True)
class Answer:
    """What another program printed, and its exit code."""

    code: int
    text: str


def run_program(command: Sequence[str]) -> Answer | None:
    """Return what a program answers, or None if it is not there or does not answer in time."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Answer(ended.returncode, ended.stdout.decode("utf-8", "replace"))


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
class Machine:
    """A machine to look at; the defaults are the one that this process runs on."""

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Answer | None] = run_program
    free: Callable[[Path], int | None] = free_bytes
    packages: Sequence[str] = field(default_factory=lambda: tuple(sys.path))  # folders of Python packages
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    python: str = field(default_factory=platform.python_version)
    system: str = field(default_factory=platform.platform)
    architecture: str = field(default_factory=platform.machine)
    cores: int = field(default_factory=physical_cores)
    in_environment: bool = sys.prefix != sys.base_prefix  # a Python environment apart from the system's
    temporary: Path = field(default_factory=_temporary_folder)
    current: Path = Path()

    def read(self, path: str) -> str | None:
        """Return the content of a file under the root, or None if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \t\n")
        except OSError:
            return None

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
        """Tell whether the dynamic linker, or a Python package that brings its libraries, has a shared library."""
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
