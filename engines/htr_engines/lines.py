"""Folders and lists of line images with their transcripts, and their images in batches as a network takes them.

Three layouts: the published one (a list of image names; the transcript is the ``.txt`` of the same stem), a table
(CSV with commas or semicolons, or TSV: ``file<TAB>text``), and ``metadata.jsonl`` as Hugging Face writes it
(``file_name`` and ``text``). A table whose header names a ``writer``, and ``writer`` in JSONL, say who wrote a line.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.documents import parse_json
from htr_engines.errors import DataError, FileError, ImageError
from htr_engines.files import is_file, sha256_of
from htr_engines.host import physical_cores
from htr_engines.pipeline import map_in_threads
from htr_engines.preprocess import SUFFIXES, load_line
from htr_engines.text import collapse, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.preprocess import Preprocessing

LOADED_AHEAD = 16  # images
HEADERS = frozenset({"file", "file_name", "filename", "image"})  # of a table's first column


@dataclass(frozen=True)
class Line:
    """One line image and what is written on it."""

    name: str  # as the list gives it
    image: Path
    text: str | None  # None where there is no transcript
    writer: str | None = None  # where the list says who wrote it

    @property
    def identity(self) -> tuple[str, str | None, str | None]:
        """Name, SHA-256 of the image file (None where there is none) and transcript."""
        return self.name, sha256_of(self.image) if is_file(self.image) else None, self.text


@dataclass(frozen=True)
class _Row:
    """A line of ``metadata.jsonl``."""

    file_name: str
    text: str | int | float | None = None
    writer: str | int | None = None


@dataclass(frozen=True)
class LineBatch:
    """Lines whose images could be read."""

    lines: tuple[Line, ...]
    images: NDArray[np.float32]  # [N,1,H,W] in [0,1], white = 1

    def filled(self, size: int) -> NDArray[np.float32]:
        """Return the images as [size,1,H,W] for a graph of fixed batch size: the last line is repeated."""
        return np.concatenate([self.images, np.repeat(self.images[-1:], size - len(self.lines), axis=0)])


def load_batches(
    lines: Iterable[Line],
    spec: Preprocessing,
    size: int = 1,
    on_skip: Callable[[Line, str], None] = lambda _line, _reason: None,
) -> Iterator[LineBatch]:
    """Load lines and fit them into a network's input, some ahead of the batch that is asked for.

    Args:
        lines: in the order in which they are loaded.
        spec: the network's line height and width.
        size: lines per batch; the last batch may have fewer.
        on_skip: called with each line whose image cannot be read, and the reason.

    Yields:
        The lines that can be read.

    Raises:
        DataError: if none can be read.
    """
    loaded: list[Line] = []
    images: list[NDArray[np.float32]] = []
    reasons: list[str] = []
    found = False
    for line, image_1HW in map_in_threads(
        lambda line: (line, _load(line, spec)), lines, physical_cores(), LOADED_AHEAD
    ):
        if isinstance(image_1HW, str):
            reasons.append(image_1HW)
            on_skip(line, image_1HW)
            continue
        found = True
        loaded.append(line)
        images.append(image_1HW)
        if len(loaded) == size:
            yield LineBatch(tuple(loaded), np.stack(images))
            loaded, images = [], []
    if loaded:
        yield LineBatch(tuple(loaded), np.stack(images))
    if not found:
        if not reasons:
            raise DataError("there is no line to read; give a folder with line images")
        raise DataError(f"none of the {len(reasons)} line images can be read, the first because {reasons[0]}")


def _load(line: Line, spec: Preprocessing) -> NDArray[np.float32] | str:
    """Return the fitted image, or why there is none."""
    try:
        return load_line(line.image, spec)
    except ImageError as error:
        return str(error)


def fingerprint(identities: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Return one SHA-256 over lines: of each :attr:`Line.identity` as JSON, one a line."""
    digest = hashlib.sha256()
    for identity in identities:
        digest.update(json.dumps(identity).encode("ascii") + b"\n")
    return digest.hexdigest()


def read_lines(lines_dir: Path, list_file: Path | None = None) -> list[Line]:
    """Collect the lines of a folder.

    Args:
        lines_dir: the folder of line images or of PAGE and ALTO files, to which the names in the list are relative.
        list_file: a ``.ln`` or ``.txt`` list of images or of PAGE and ALTO files, ``.csv``, ``.tsv`` or ``.jsonl``;
            without one, every line of every page in the folder, or else every image in it by name.

    Returns:
        The lines in the order of the list. Whether each image exists and can be read is not looked at.

    Raises:
        DataError: if the folder or the list is missing, malformed or empty.
    """
    if not lines_dir.is_dir():
        raise DataError(f"{lines_dir} is not a folder; give the folder that holds the line images")
    if list_file is None:
        return _all_of(lines_dir)
    if not is_file(list_file):
        raise DataError(f"{list_file} does not exist; give the list of lines to read")
    suffix = list_file.suffix.lower()
    if suffix == ".jsonl":
        lines = list(_from_jsonl(lines_dir, list_file))
    elif suffix in {".csv", ".tsv"}:
        lines = list(_from_table(lines_dir, list_file))
    else:
        lines = list(_from_names(lines_dir, list_file))
    if not lines:
        raise DataError(f"{list_file} names no line; it should hold one image file name per line")
    return lines


def _all_of(lines_dir: Path) -> list[Line]:
    """Return every line of every page in a folder, or else every image in it by name."""
    if any(path.suffix.lower() == ".xml" for path in lines_dir.rglob("*")):
        return _from_pages([lines_dir])
    names = sorted(path.name for path in lines_dir.iterdir() if path.suffix.lower() in SUFFIXES)
    if not names:
        raise DataError(f"{lines_dir} holds no image and no page; give the folder that holds the line images")
    return [_published(lines_dir, name) for name in names]


def _from_names(lines_dir: Path, list_file: Path) -> Iterator[Line]:
    for name in read_text(list_file).splitlines():
        if name.strip().lower().endswith(".xml"):
            yield from _from_pages([lines_dir / name.strip()])
        elif name.strip():
            yield _published(lines_dir, name.strip())


def _published(lines_dir: Path, name: str) -> Line:
    image = lines_dir / name
    try:
        text = collapse(read_text(image.with_suffix(".txt")))
    except (FileError, ValueError):  # a name that no file can have costs its own line
        text = None
    return Line(name, image, text)


def _from_pages(sources: list[Path]) -> list[Line]:
    from htr_engines.pages.lines import page_lines

    lines = [Line(name, image, text) for name, image, text in page_lines(sources)]
    if not lines:
        raise DataError(f"{sources[0]}: no line of its pages has a transcript; give pages with text")
    return lines


def _from_jsonl(lines_dir: Path, list_file: Path) -> Iterator[Line]:
    for number, row in enumerate(read_text(list_file).splitlines(), 1):
        if not row.strip():
            continue
        record = parse_json(row, _Row, f"{list_file}, line {number},", 'expected {"file_name": ..., "text": ...}')
        text = None if record.text is None else collapse(str(record.text))
        writer = None if record.writer is None else str(record.writer)
        yield Line(record.file_name, lines_dir / record.file_name, text, writer)


def _csv_delimiter(content: str) -> str:
    """Return the comma, or the semicolon that spreadsheets write where the comma is the decimal mark."""
    name, semicolon, _ = content.lstrip().partition("\n")[0].partition(";")
    name = name.strip('"').lower()
    return ";" if semicolon and (name in HEADERS or name.endswith(tuple(SUFFIXES))) else ","


def _from_table(lines_dir: Path, list_file: Path) -> Iterator[Line]:
    content = read_text(list_file)
    delimiter = "\t" if list_file.suffix.lower() == ".tsv" else _csv_delimiter(content)
    # A TSV is not quoted: a transcript may begin with a quotation mark.
    rows = csv.reader(
        content.splitlines(), delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    )
    place = None  # of the writer's column
    for number, row in enumerate(_checked(rows, list_file), 1):
        if not row:
            continue
        if number == 1 and row[0].lower() in HEADERS:
            names = [name.strip().lower() for name in row]
            place = names.index("writer") if names[2:].count("writer") else None
            continue
        if len(row) < 2:  # noqa: PLR2004
            raise DataError(f"{list_file}, line {number}: expected a file name and a text, found one column")
        # Without more columns in its header, a TSV's transcript may hold tabs.
        text = delimiter.join(row[1:]) if delimiter == "\t" and place is None else row[1]
        writer = row[place] if place is not None and place < len(row) else None
        yield Line(row[0], lines_dir / row[0], collapse(text), writer or None)


def _checked(rows: Iterator[list[str]], list_file: Path) -> Iterator[list[str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise DataError(f"{list_file} is no table ({error}); save it again as CSV or TSV") from None
