"""A bundle as a web page: a static folder that any web server serves, and that reads in the visitor's browser."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from htr_engines.bundle import MANIFEST, open_bundle
from htr_engines.errors import BundleError, ExportError
from htr_engines.files import atomic_folder
from htr_export.preflight import check_output

if TYPE_CHECKING:
    from htr_engines.bundle import Bundle

PAGE = Path(__file__).parent / "page"  # `make web` builds it, and the wheel holds it
WORKER = "sw.js"
ENGINE = "onnxruntime"  # whose build for browsers runs there


def write_site(folder: Path, target: Path) -> Bundle:
    """Write the page with a bundle, atomically.

    Args:
        folder: the bundle. Of its models those go with it that a browser can run.
        target: the folder to write; an older site there is replaced.

    Raises:
        BundleError: if the bundle was changed, or no browser can run a model of it.
        ExportError: if this installation has no page, or ``target`` is something else than a site.
    """
    check_output(target, force=False)
    if not (PAGE / WORKER).is_file():
        raise ExportError(
            "the page is not built in this checkout; run 'make web-page', which needs node, or install a wheel"
        )
    bundle = open_bundle(folder)
    bundle.check_unchanged()
    left_out = {model.file for model in bundle.models if ENGINE not in model.engines}
    if len(left_out) == len(bundle.models):
        raise BundleError(f"{folder} has no model for browsers; bundle its ONNX file too")
    with atomic_folder(target) as temporary:
        shutil.copytree(PAGE, temporary, dirs_exist_ok=True)
        for path in (folder / MANIFEST, *(path for path in bundle.digests if path not in left_out)):
            copy = temporary / "bundle" / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        worker = temporary / WORKER
        worker.write_text(
            worker.read_text(encoding="utf-8").replace("__VERSION__", _digest(temporary)), encoding="utf-8"
        )
    return bundle


def _digest(folder: Path) -> str:
    """Return a digest of the page and of the manifest, which names the bundle's files by theirs."""
    digest = hashlib.sha256((folder / "bundle" / MANIFEST).read_bytes())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
