"""What the words on ``htr-read``'s command line stand for."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from htr_engines.errors import DataError
from htr_engines.files import is_file, is_folder


def find_documents(names: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the PAGE and ALTO files and their folders, if that is what is to be read."""
    pages = [name for name in names if _holdsfind_documents(Path(name))]
    if pages and len(pages) < len(names):
        other = next(name for name in names if name not in pages)
        raise click.UsageError(f"{other} is no PAGE or ALTO file; read pages and line images one after the other")
    return tuple(map(Path, pages))


def _holdsfind_documents(path: Path) -> bool:
    found = path.rglob("*") if is_folder(path) else [path]
    return any(file.suffix.lower() == ".xml" for file in found)


def find_images(images: tuple[str, ...]) -> list[tuple[str, Path | bytes]]:
    """Return the line images by name: files, those of folders and lists, or what standard input holds."""
    sources: list[tuple[str, Path | bytes]] = []
    for image in images:
        if image == "-":
            sources.extend(_standard_input(sys.stdin.buffer.read()))
        elif image.startswith("@"):
            sources.extend(_listed(Path(image[1:])))
        elif is_folder(Path(image)):
            from htr_engines.lines import read_lines

            sources.extend((str(line.image), line.image) for line in read_lines(Path(image)))
        else:
            sources.append((image, Path(image)))
    return sources


def _standard_input(content: bytes) -> list[tuple[str, Path | bytes]]:
    try:
        names = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return [("-", content)]
    if "\0" in "".join(names) or not any(names):
        return [("-", content)]
    return [(name, Path(name)) for name in names if name.strip()]


def _listed(path: Path) -> list[tuple[str, Path | bytes]]:
    """Return the paths in a list: relative to the current folder, to the list's, or to ``lines`` beside the list."""
    from htr_engines.text import read_text

    if not is_file(path):
        raise DataError(f"{path} does not exist; give a list of image paths after the @")
    names = [name.strip() for name in read_text(path).splitlines()]
    places = (Path(), path.parent, path.parent / "lines")
    found = {name: next((at / name for at in places if is_file(at / name)), Path(name)) for name in names if name}
    return [(name, found[name]) for name in names if name]
