"""Cut pages with PAGE or ALTO XML into a data set of lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from htr_engines.errors import DataError, ImageError
from htr_engines.files import write_text
from htr_engines.pages.geometry import cut_line, usable_baseline, usable_polygon, usual_height
from htr_engines.pages.sheets import LeftOut, Sheet, find_scale, find_sheets
from htr_engines.preprocess import load_pages
from htr_training.cut.report import CutLine, CutReport, write_contact_sheet
from htr_training.workers import map_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

NO_TEXT = "it has no transcript"
LISTS = ("train.ln", "val.ln")


@dataclass(frozen=True)
class CutOptions:
    """What to cut, and how."""

    sources: tuple[Path, ...]  # XML files, and folders with such files
    output: Path  # the data set's folder
    images: Path | None = None  # where else the page images may lie
    height: int = 64  # pixels of a line
    image_format: str = "jpg"  # or "png"
    val: float = 0.0  # share of the pages whose lines go to val.ln
    workers: int | None = None  # processes; None means one per core
    overwrite: bool = False


def cut(options: CutOptions, on_page: Callable[[int, int], None] | None = None) -> CutReport:
    """Cut pages into lines, in the published layout, with a contact sheet to look at.

    Whole pages go to the validation list, spread evenly: lines of one page are too much alike to judge by.

    Args:
        options: what to cut.
        on_page: told the number of pages done and the number of all, after each page.

    Raises:
        DataError: if no line can be cut, or a list exists already.
    """
    for name in LISTS:
        if (options.output / name).exists() and not options.overwrite:
            raise DataError(f"{options.output / name} exists already; give another folder or --overwrite")
    sheets, left_out = find_sheets(options.sources, options.images)
    (options.output / "lines").mkdir(parents=True, exist_ok=True)
    pages: list[list[CutLine]] = []
    for done, results in enumerate(map_jobs(partial(_cut_sheet, options=options), sheets, options.workers, 1), 1):
        lines = [result for result in results if isinstance(result, CutLine)]
        left_out += [result for result in results if isinstance(result, LeftOut)]
        if lines:
            pages.append(lines)
        if on_page:
            on_page(done, len(sheets))
    if not pages:
        first = f", for example {left_out[0].source}: {left_out[0].reason}" if left_out else ""
        raise DataError(f"no line could be cut from {', '.join(map(str, options.sources))}{first}")
    train, val = _split(pages, options.val)
    # Last and in one piece: a list never names a line that is not there.
    for name, lines in zip(LISTS, (train, val), strict=True):
        if lines:
            write_text(options.output / name, "".join(f"{line.name}\n" for line in lines))
    sheet = options.output / "contact_sheet.html"
    report = CutReport(tuple(train), tuple(val), tuple(left_out), len(pages), sheet)
    write_contact_sheet(report, options.output / "lines")
    return report


def _split(pages: Sequence[Sequence[CutLine]], share: float) -> tuple[list[CutLine], list[CutLine]]:
    count = round(share * len(pages)) or (1 if share and len(pages) > 1 else 0)
    chosen = {int((number + 0.5) * len(pages) / count) for number in range(count)}
    train = [line for number, page in enumerate(pages) if number not in chosen for line in page]
    val = [line for number, page in enumerate(pages) if number in chosen for line in page]
    return train, val


def _cut_sheet(sheet: Sheet, options: CutOptions) -> list[CutLine | LeftOut]:
    """Cut the lines of one page and write them."""
    xml = str(sheet.xml)
    try:
        page_HW = _load_page(sheet)
        scale = find_scale(sheet.page, page_HW.shape)
    except (DataError, ImageError) as error:
        return [LeftOut(xml, "", str(error))]
    outlines = [usable_polygon(line.polygon * scale, page_HW.shape) for line in sheet.page.lines]
    baselines = [usable_baseline(line.baseline * scale, page_HW.shape) for line in sheet.page.lines]
    height = usual_height(outlines, baselines, page_HW.shape[0])
    results: list[CutLine | LeftOut] = []
    for number, line in enumerate(sheet.page.lines):
        if not line.text:
            results.append(LeftOut(xml, line.name, NO_TEXT))
            continue
        try:
            line_HW = cut_line(page_HW, outlines[number], baselines[number], height)
        except DataError as error:
            results.append(LeftOut(xml, line.name, str(error)))
            continue
        path = options.output / "lines" / f"{sheet.stem}-{number + 1:03d}.{options.image_format}"
        _fit_height(line_HW, options.height).save(path, quality=90)
        path.with_suffix(".txt").write_text(line.text + "\n", encoding="utf-8")
        results.append(CutLine(path.name, line.text, xml))
    return results


def _load_page(sheet: Sheet) -> NDArray[np.uint8]:
    frames = load_pages(sheet.image)
    if sheet.frame >= len(frames):
        raise DataError(f"it is page {sheet.frame + 1}, but {sheet.image} has {len(frames)}")
    return frames[sheet.frame]


def _fit_height(line_HW: NDArray[np.uint8], height: int) -> Image.Image:
    width = max(1, round(line_HW.shape[1] * height / line_HW.shape[0]))
    return Image.fromarray(np.ascontiguousarray(line_HW)).resize((width, height), Image.Resampling.BICUBIC)
