"""Cut pages with PAGE or ALTO XML into a data set of lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from htr_engines.errors import DataError, ImageError
from htr_engines.files import write_text
from htr_engines.pages.cut import cut_sheet
from htr_engines.pages.sheets import LeftOut, Sheet, find_sheets
from htr_engines.preprocess import Preprocessing
from htr_engines.progress import SILENT
from htr_training.cut.report import CutLine, CutPage, CutReport, write_contact_sheet
from htr_training.workers import resume_jobs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from htr_engines.progress import Progress

NO_TEXT = "it has no transcript"
LISTS = ("train.ln", "val.ln")
HEIGHT = Preprocessing().height


@dataclass(frozen=True)
class CutOptions:
    """What to cut, and how."""

    sources: tuple[Path, ...]  # XML files, and folders with such files
    output: Path  # the data set's folder
    images: Path | None = None  # another folder of page images
    image_format: str = "jpg"  # or "png"
    val: float = 0.0  # share of the pages whose lines go to val.ln
    workers: int | None = None  # processes; None means one per core
    force: bool = False


def cut(options: CutOptions, progress: Progress = SILENT) -> CutReport:
    """Cut pages into lines, in the published layout, with a contact sheet to look at.

    Whole pages go to the validation list, spread evenly: lines of one page are too much alike to judge by.

    Raises:
        DataError: if no line can be cut, or a list exists already.
    """
    for name in LISTS:
        if (options.output / name).exists() and not options.force:
            raise DataError(f"{options.output / name} exists already; give another folder or --force")
    sheets, left_out = find_sheets(options.sources, options.images)
    (options.output / "lines").mkdir(parents=True, exist_ok=True)
    pages: list[Sequence[CutLine]] = []
    progress.total(len(sheets))
    unfinished = options.output / ".cut.unfinished"
    key = (replace(options, workers=None, force=False), [_identity(sheet) for sheet in sheets])
    for result in resume_jobs(
        unfinished, key, CutPage, partial(_cut_sheet, options=options), sheets, options.workers, 1
    ):
        left_out += result.left_out
        if result.lines:
            pages.append(result.lines)
        progress.advance()
    if not pages:
        first = f", for example {left_out[0].source}: {left_out[0].reason}" if left_out else ""
        raise DataError(f"no line could be cut from {', '.join(map(str, options.sources))}{first}")
    train, val = _split(pages, options.val)
    # Last and in one piece: a list never names a line that is missing.
    for name, lines in zip(LISTS, (train, val), strict=True):
        if lines:
            write_text(options.output / name, "".join(f"{line.name}\n" for line in lines))
    sheet = options.output / "contact_sheet.html"
    report = CutReport(tuple(train), tuple(val), tuple(left_out), len(pages), sheet)
    write_contact_sheet(report, options.output / "lines")
    unfinished.unlink()
    return report


def _identity(sheet: Sheet) -> tuple[object, ...]:
    """Return what tells whether a page has changed."""
    times = (path.stat().st_mtime_ns for path in (sheet.xml, sheet.image))
    return (sheet.stem, str(sheet.xml), str(sheet.image), sheet.frame, *times)


def _split(pages: Sequence[Sequence[CutLine]], share: float) -> tuple[list[CutLine], list[CutLine]]:
    count = round(share * len(pages)) or (1 if share and len(pages) > 1 else 0)
    chosen = {int((number + 0.5) * len(pages) / count) for number in range(count)}
    train = [line for number, page in enumerate(pages) if number not in chosen for line in page]
    val = [line for number, page in enumerate(pages) if number in chosen for line in page]
    return train, val


def _cut_sheet(sheet: Sheet, options: CutOptions) -> CutPage:
    """Cut the lines of one page and write them."""
    xml = str(sheet.xml)
    lines: list[CutLine] = []
    left_out = [LeftOut(xml, line.name, NO_TEXT) for line in sheet.page.lines if not line.text]
    try:
        for line in cut_sheet(sheet, HEIGHT, wanted=lambda line: bool(line.text)):
            if line.image_HW is None:
                left_out.append(LeftOut(xml, line.line.name, str(line.reason)))
                continue
            path = options.output / "lines" / f"{sheet.stem}-{line.index + 1:03d}.{options.image_format}"
            Image.fromarray(line.image_HW).save(path, quality=90)
            path.with_suffix(".txt").write_text(line.line.text + "\n", encoding="utf-8")
            lines.append(CutLine(path.name, line.line.text, xml))
    except (DataError, ImageError) as error:
        return CutPage((), (LeftOut(xml, "", str(error)),))
    return CutPage(tuple(lines), tuple(left_out))
