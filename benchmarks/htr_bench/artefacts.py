"""What is known of a model file before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.charset import Charset
from htr_engines.errors import HtrError
from htr_engines.files import sha256_of
from htr_engines.preprocess import Preprocessing
from htr_export.inspection import inspect_artefact

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Artefact:
    """Facts of a file; None where it does not tell them."""

    sha256: str | None
    bytes: int | None
    precision: str | None
    charset: Charset | None
    preprocessing: Preprocessing | None


def describe(path: Path) -> Artefact:
    """Read the facts of a file. What is wrong with a file shows when it is run, so nothing is raised here."""
    if not path.is_file():
        return Artefact(None, None, None, None, None)
    sha256, size = sha256_of(path), path.stat().st_size
    try:
        facts = inspect_artefact(path)
        charset, preprocessing = facts.get("charset"), facts.get("preprocessing")
        return Artefact(
            sha256=sha256,
            bytes=size,
            precision=facts.get("precision"),
            charset=Charset(charset) if charset else None,
            preprocessing=Preprocessing.from_dict(preprocessing) if preprocessing else None,
        )
    except (HtrError, ImportError, KeyError, TypeError, ValueError):
        return Artefact(sha256, size, None, None, None)


def common_preprocessing(artefacts: Iterable[Artefact]) -> Preprocessing:
    """Return what the first file that tells it asks for: all targets of a run are given the same lines."""
    return next((item.preprocessing for item in artefacts if item.preprocessing), Preprocessing())
