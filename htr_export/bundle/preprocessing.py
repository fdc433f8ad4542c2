"""Preprocessing vectors of a bundle: images of every kind, with what preprocessing makes of them.

The files are kept as they are in ``vectors``; tests/helpers/make_vectors.py made them.
"""

from __future__ import annotations

import json
import shutil
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def write_preprocessing_vectors(folder: Path) -> dict[str, Any]:
    """Copy the images of every kind, with what preprocessing makes of them, and return their entry."""
    target = "golden/preprocessing"
    with as_file(files("htr_export.bundle") / "vectors") as vectors:
        entry: dict[str, Any] = json.loads((vectors / "vectors.json").read_text(encoding="utf-8"))
        names = {one["file"] for one in entry["images"]} | {entry["tensors"]}
        (folder / target).mkdir(parents=True)
        for name in sorted(names):
            shutil.copyfile(vectors / name, folder / target / name)
    images = [{**one, "file": f"{target}/{one['file']}"} for one in entry["images"]]
    return {**entry, "tensors": f"{target}/{entry['tensors']}", "images": images}
