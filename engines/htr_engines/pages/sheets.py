"""Find the pages to cut, the image of each, and the scale between the two."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.errors import DataError
from htr_engines.pages.document import read_pages
from htr_engines.preprocess import SUFFIXES, Alpha, load_pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.pages.markup import Page

ASPECT = 0.05  # by which a page and its image may differ in shape
MOST = 1000  # times that a page and its image may differ in size, which leaves room for any unit
BEYOND = 1.1  # coordinates that pass the page's own edge by more than this are not in its units


@dataclass(frozen=True, eq=False)
class Sheet:
    """One page with its image."""

    stem: str  # begins the names of its lines; no two sheets share it
    place: Path  # of the XML file, relative to the folder that was given
    xml: Path
    page: Page
    image: Path
    frame: int  # which page of the image file


@dataclass(frozen=True)
class LeftOut:
    """A line, or a whole page, that was not cut."""

    source: str  # the XML file
    line: str  # empty for a whole page
    reason: str


def find_sheets(
    sources: Sequence[Path], image_folder: Path | None = None, *, unique: bool = True
) -> tuple[list[Sheet], list[LeftOut]]:
    """Read the pages of XML files and of the folders with such files, and find their images.

    Of several files on one picture, such as a PAGE and an ALTO file, one is taken where pages are to be ``unique``.

    Raises:
        DataError: if there is no XML file at all.
    """
    files = list(_xml_files(sources))
    if not files:
        raise DataError(f"{', '.join(map(str, sources))}: no .xml file; give PAGE or ALTO files or their folder")
    images = _index_images([*sources, *([image_folder] if image_folder else [])])
    sheets: list[Sheet] = []
    left_out: list[LeftOut] = []
    for xml, stem, place in files:
        read = _read_sheets(xml, stem, place, images)
        if isinstance(read, LeftOut):
            left_out.append(read)
        else:
            sheets += read
    return _deduplicate(sheets, left_out) if unique else sheets, left_out


def _read_sheets(xml: Path, stem: str, place: Path, images: Mapping[str, Sequence[Path]]) -> list[Sheet] | LeftOut:
    try:
        pages = read_pages(xml)
        names = [stem] if len(pages) == 1 else [f"{stem}_{number + 1}" for number in range(len(pages))]
        return [
            Sheet(name, place, xml, page, find_image(xml, page.image, images), frame)
            for frame, (name, page) in enumerate(zip(names, pages, strict=True))
        ]
    except DataError as error:
        return LeftOut(str(xml), "", str(error))


def find_image(xml: Path, name: str, images: Mapping[str, Sequence[Path]]) -> Path:
    """Find the image of a page, by the name that the XML gives or else its own; the nearest one counts.

    Raises:
        DataError: if there is none, or several elsewhere.
    """
    for stem in (_stem(name), xml.stem.lower()):
        found = images.get(stem, [])
        for folder in (xml.parent, xml.parent.parent):
            near = [path for path in found if path.parent == folder]
            if near:
                return min(near, key=lambda path: (path.name != name, path.name))
        if len(found) > 1:
            raise DataError(f"{xml}: its image could be {found[0]} or {found[1]}; give --images the right folder")
        if found:
            return found[0]
    raise DataError(f"{xml}: no image {name or xml.stem} beside it or above it; say where with --images")


def find_scale(page: Page, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return what the page's coordinates are multiplied by to fit an image of this shape, across and down.

    Raises:
        DataError: if the page's size is needed but missing, or has another shape than the image.
    """
    height, width = shape
    if not page.width > 0 or not page.height > 0:
        if page.unit == "pixel":
            return 1.0, 1.0
        raise DataError(f"its coordinates are in {page.unit}, but the size of the page is missing")
    reach = np.max([[0.0, 0.0], *(line.polygon.max(axis=0) for line in page.lines if len(line.polygon))], axis=0)
    if (reach > np.multiply((page.width, page.height), BEYOND)).any() and (reach <= (width, height)).all():
        return 1.0, 1.0  # the page's size is wrong: the coordinates were made on this very image
    across, down = width / page.width, height / page.height
    if 1 / MOST < across < MOST and abs(across / down - 1) <= ASPECT:
        return across, down
    turned = abs(across / down - 1) > ASPECT and abs((height / page.width) / (width / page.height) - 1) <= ASPECT
    raise DataError(
        f"the page is {page.width:g} x {page.height:g}, but its image {width} x {height}: "
        f"{'the image is turned' if turned else 'another picture'}"
    )


def load_sheet(sheet: Sheet, alpha: Alpha = "white") -> NDArray[np.uint8]:
    """Load a page's image as uint8 [H,W], turned as its EXIF data say unless only the unturned one fits the page.

    Raises:
        DataError: if the image file lacks the page.
        ImageError: if it cannot be read.
    """
    upright_HW = _load_frame(sheet, alpha, upright=True)
    if _fits(sheet.page, upright_HW.shape):
        return upright_HW
    stored_HW = _load_frame(sheet, alpha, upright=False)
    return stored_HW if _fits(sheet.page, stored_HW.shape) else upright_HW


def _load_frame(sheet: Sheet, alpha: Alpha, *, upright: bool) -> NDArray[np.uint8]:
    frames = load_pages(sheet.image, alpha, upright=upright)
    if sheet.frame >= len(frames):
        raise DataError(f"it is page {sheet.frame + 1}, but {sheet.image} has {len(frames)}")
    return frames[sheet.frame]


def _fits(page: Page, shape: tuple[int, ...]) -> bool:
    try:
        find_scale(page, shape)
    except DataError:
        return False
    return True


def _xml_files(sources: Iterable[Path]) -> Iterable[tuple[Path, str, Path]]:
    """Yield the XML files, each with a name that is unique among them and its place below its source."""
    used: set[str] = set()
    for source in sources:
        root = source if source.is_dir() else source.parent
        found = source.rglob("*") if source.is_dir() else [source]
        for path in sorted(path for path in found if path.suffix.lower() == ".xml" and path.is_file()):
            stem = "_".join(path.relative_to(root).with_suffix("").parts).replace(" ", "_")
            while stem in used:
                stem += "+"
            used.add(stem)
            yield path, stem, path.relative_to(root)


def _index_images(sources: Iterable[Path]) -> dict[str, list[Path]]:
    images = defaultdict(set)
    for source in sources:
        found = source.rglob("*") if source.is_dir() else []
        around = [path for folder in (source.parent, source.parent.parent) for path in folder.glob("*")]
        for path in [*found, *(around if source.is_file() else [])]:
            if path.suffix.lower() in SUFFIXES:
                images[path.stem.lower()].add(path)
    return {stem: sorted(paths) for stem, paths in images.items()}


def _stem(name: str) -> str:
    base, dot, suffix = name.rpartition(".")
    return (base if f"{dot}{suffix}".lower() in SUFFIXES else name).lower()


def _deduplicate(sheets: list[Sheet], left_out: list[LeftOut]) -> list[Sheet]:
    """Keep one sheet for each picture: the one with the most transcripts, PAGE before ALTO."""
    chosen: dict[tuple[Path, int], Sheet] = {}
    for sheet in sorted(sheets, key=_worth, reverse=True):
        chosen.setdefault((sheet.image, sheet.frame), sheet)
    kept = []
    for sheet in sheets:
        winner = chosen[sheet.image, sheet.frame]
        if winner is sheet:
            kept.append(sheet)
        else:
            left_out.append(LeftOut(str(sheet.xml), "", f"{winner.xml} describes the same image"))
    return kept


def _worth(sheet: Sheet) -> tuple[int, bool]:
    return sum(bool(line.text) for line in sheet.page.lines), sheet.page.form == "PAGE"
