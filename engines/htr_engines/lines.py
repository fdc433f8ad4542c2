"""Folders and lists of line images with their transcripts.

Three layouts: the published one (a list of image names; the transcript is the ``.txt`` of the same stem), CSV or TSV
(``file<TAB>text``), and ``metadata.jsonl`` as Hugging Face writes it (``file_name`` and ``text``).
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import DataError
from htr_engines.preprocess import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENCODINGS = ("utf-8-sig", "cp1258", "cp1252", "latin-1")


@dataclass(frozen=True)
class Line:
    """One line image and what is written on it."""

    name: str  # as the list gives it
    image: Path
    text: str | None  # None where there is no transcript


def read_lines(lines_dir: Path, list_file: Path | None = None) -> list[Line]:
    """Collect the lines of a folder.

    Args:
        lines_dir: the folder of images, to which the names in the list are relative.
        list_file: a ``.ln`` or ``.txt`` list, ``.csv``, ``.tsv`` or ``.jsonl``; without one, every image in the
            folder by name.

    Returns:
        The lines in the order of the list. Whether each image exists and can be read is not looked at.

    Raises:
        DataError: if the folder or the list is missing, malformed or empty.
    """
    if not lines_dir.is_dir():
        raise DataError(f"{lines_dir} is not a folder; give the folder that holds the line images")
    if list_file is None:
        names = sorted(path.name for path in lines_dir.iterdir() if path.suffix.lower() in SUFFIXES)
        lines = [_published(lines_dir, name) for name in names]
        if not lines:
            raise DataError(f"{lines_dir} holds no image; give the folder that holds the line images")
        return lines
    if not list_file.is_file():
        raise DataError(f"{list_file} does not exist; give the list of lines to read")
    suffix = list_file.suffix.lower()
    if suffix == ".jsonl":
        lines = list(_from_jsonl(lines_dir, list_file))
    elif suffix in {".csv", ".tsv"}:
        lines = list(_from_table(lines_dir, list_file, "\t" if suffix == ".tsv" else ","))
    else:
        names = [name.strip() for name in read_text(list_file).splitlines()]
        lines = [_published(lines_dir, name) for name in names if name]
    if not lines:
        raise DataError(f"{list_file} names no line; it should hold one image file name per line")
    return lines


def read_text(path: Path) -> str:
    """Decode a text file as the published training does: UTF-8, else cp1258, else cp1252."""
    content = path.read_bytes()
    for encoding in ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 decodes any bytes")


def collapse(text: str) -> str:
    """Collapse white space to single blanks and strip the ends."""
    return " ".join(text.split())


def _published(lines_dir: Path, name: str) -> Line:
    image = lines_dir / name
    transcript = image.with_suffix(".txt")
    text = collapse(read_text(transcript)) if transcript.is_file() else None
    return Line(name, image, text)


def _from_jsonl(lines_dir: Path, list_file: Path) -> Iterator[Line]:
    for number, row in enumerate(read_text(list_file).splitlines(), 1):
        if not row.strip():
            continue
        try:
            record = json.loads(row)
            name, text = record["file_name"], record.get("text")
        except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
            raise DataError(f'{list_file}, line {number}: expected {{"file_name": ..., "text": ...}}') from None
        yield Line(str(name), lines_dir / str(name), None if text is None else collapse(str(text)))


def _from_table(lines_dir: Path, list_file: Path, delimiter: str) -> Iterator[Line]:
    content = read_text(list_file)
    # A TSV is not quoted: a transcript may begin with a quotation mark.
    rows = csv.reader(
        content.splitlines(), delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    )
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and row[0].lower() in {"file", "file_name", "filename", "image"}):
            continue
        if len(row) < 2:  # noqa: PLR2004
            raise DataError(f"{list_file}, line {number}: expected a file name and a text, found one column")
        text = delimiter.join(row[1:]) if delimiter == "\t" else row[1]
        yield Line(row[0], lines_dir / row[0], collapse(text))
