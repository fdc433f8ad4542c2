"""What can be refused in the first second, before PyTorch is loaded: outputs, inputs, packages.

One rule on overwriting for every command: an older product of the same kind is replaced; anything else stays, unless
``--force`` says otherwise. A folder that is no bundle is never replaced.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from htr_engines.errors import DataError, ExportError, MissingExtraError
from htr_engines.options import ANY_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HEADER_BYTES = 1 << 16  # of a file, within which its format puts what tells our products

force_option = click.option("--force", is_flag=True, help="Replace the output whatever it is.")


def _checked_language_model(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        from htr_export.decoding import read_decoding

        read_decoding(path)
    return path


lm_option = click.option(
    "--lm",
    "language_model",
    type=ANY_PATH,
    callback=_checked_language_model,
    help="For a beam search: a .htrlm of 'htr-train lm'.",
)


def check_output(target: Path, *, force: bool) -> None:
    """Refuse to replace what is not an older product of the same kind.

    Raises:
        ExportError: if ``target`` holds something else, or is below a file.
    """
    blocked = next((parent for parent in target.parents if parent.exists()), None)
    if blocked is not None and not blocked.is_dir():
        raise ExportError(f"{blocked} is a file, so {target} cannot be written; give another path")
    if not target.exists() or _is_product(target):
        return
    if target.is_dir():
        if any(target.iterdir()):
            raise ExportError(f"{target} is a folder with other files; give another path")
    elif not force:
        raise ExportError(f"{target} exists and is not an older one of its kind; give another path, or --force")


def check_lines(lines_dir: Path, list_file: Path | None) -> None:
    """Refuse lines of which the first cannot be read.

    Raises:
        DataError: if the folder or the list is missing, malformed or empty, or names images that are not there.
    """
    from htr_engines.lines import read_lines

    lines = read_lines(lines_dir, list_file)
    if not any(line.image.is_file() for line in lines):
        raise DataError(f"{lines[0].image} does not exist, nor does any other of the {len(lines)} images listed")


def check_packages(names: Iterable[str], extra: str = "export") -> None:
    """Refuse to start where a package that is needed later is missing.

    Raises:
        MissingExtraError: naming the first that is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingExtraError(name, extra)


def _is_product(path: Path) -> bool:
    """Tell whether a path holds what this package writes under such a name."""
    recognise = _PRODUCTS.get(path.suffix.lower())
    if recognise is not None and path.is_file():
        return recognise(path)
    return any((path / manifest).is_file() for manifest in ("manifest.json", "bundle/manifest.json"))  # bundle, site


def _starts_with(*marks: bytes) -> Callable[[Path], bool]:
    def recognise(path: Path) -> bool:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        return all(mark in header for mark in marks)

    return recognise


# safetensors begins with its metadata; protobuf writes the producer of an ONNX file among the first fields.
_PRODUCTS: dict[str, Callable[[Path], bool]] = {
    ".safetensors": _starts_with(b"__metadata__", b"charset", b"preprocessing"),
    ".onnx": _starts_with(b"htr-export"),
    ".toml": _starts_with(b"# Found by: ", b"[modules]"),
    ".htrlm": _starts_with(b"HTR-LM"),
    ".plan": lambda path: path.with_name(f"{path.name}.json").is_file(),
}
