"""The lines of a page as a network reads them: cut, and scaled to one height.

Training and reading both cut here, so that a network meets on the device what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from htr_engines.errors import DataError
from htr_engines.pages.geometry import LineCut, cut_line, usable_baseline, usable_polygon, usual_height
from htr_engines.pages.sheets import find_scale, load_sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from htr_engines.pages.markup import PageLine
    from htr_engines.pages.sheets import Sheet
    from htr_engines.preprocess import Alpha

ROOM = 1.2  # a cut line is higher than the outlines' usual height by about this


@dataclass(frozen=True, eq=False)
class SheetLine:
    """One line of a page, cut; or why it could not be."""

    index: int  # among the lines of its page, from 0
    line: PageLine
    image_HW: NDArray[np.uint8] | None  # of the height asked for
    reason: str | None  # why there is no image
    cut: LineCut | None = None
    scale: tuple[float, float] = (1.0, 1.0)  # of the page's units to pixels, across and down

    def polygon(self, start: float, end: float) -> NDArray[np.float64]:
        """Return the outline, in the page's units, of the columns from ``start`` to ``end`` of the line's image."""
        assert self.cut is not None
        assert self.image_HW is not None
        factor = self.cut.image_HW.shape[1] / self.image_HW.shape[1]
        return self.cut.polygon(start * factor, end * factor) / self.scale


def cut_sheet(
    sheet: Sheet,
    height: int,
    alpha: Alpha = "white",
    wanted: Callable[[PageLine], bool] = lambda _line: True,
) -> Iterator[SheetLine]:
    """Cut the lines of a page, ``height`` pixels high, those that are ``wanted``, in the order of the document.

    Raises:
        DataError: if the page does not belong to its image.
        ImageError: if the image cannot be read.
    """
    page_HW = load_sheet(sheet, alpha)
    scale = find_scale(sheet.page, page_HW.shape)
    outlines = [usable_polygon(line.polygon * scale, page_HW.shape) for line in sheet.page.lines]
    baselines = [usable_baseline(line.baseline * scale, page_HW.shape) for line in sheet.page.lines]
    usual = usual_height(outlines, baselines, page_HW.shape[0])
    if (factor := round(ROOM * usual / height)) > 1:  # the pixels that scaling would lose cost time all the way there
        page_HW = np.asarray(Image.fromarray(page_HW).reduce(factor))
        outlines, baselines = ([points / factor for points in group] for group in (outlines, baselines))
        usual, scale = usual / factor, (scale[0] / factor, scale[1] / factor)
    for index, line in enumerate(sheet.page.lines):
        if not wanted(line):
            continue
        try:
            cut = cut_line(page_HW, outlines[index], baselines[index], usual)
        except DataError as error:
            yield SheetLine(index, line, None, str(error))
        else:
            yield SheetLine(index, line, fit_height(cut.image_HW, height), None, cut, scale)


def fit_height(line_HW: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Scale a line to a height, its shape kept."""
    width = max(1, round(line_HW.shape[1] * height / line_HW.shape[0]))
    image = Image.fromarray(np.ascontiguousarray(line_HW)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
