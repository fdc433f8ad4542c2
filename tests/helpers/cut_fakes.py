"""Pages in PAGE and ALTO XML, with images to cut lines from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image

from htr_engines.pages.document import read_pages
from htr_engines.pages.markup import PageLine
from htr_training.cut.command import CutOptions, cut

if TYPE_CHECKING:
    from pathlib import Path


NONE = np.empty((0, 2))
PAGE_VERSIONS = ("2013-07-15", "2016-07-15", "2017-07-15", "2018-07-15", "2019-07-15")
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE PcGts [<!ENTITY a "lollollollol">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><PcGts>&i;</PcGts>"
)


def points(corners) -> str:
    return " ".join(f"{x},{y}" for x, y in corners)


def page_xml(
    *lines: str, image: str = "p.png", size: tuple[object, object] = (400, 200), version: str = "2013-07-15"
) -> str:
    return (
        f'<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{version}"><Metadata/>'
        f'<Page imageFilename={quoteattr(image)} imageWidth="{size[0]}" imageHeight="{size[1]}">'
        f'<TextRegion id="r"><Coords points="0,0 1,1"/>{"".join(lines)}</TextRegion></Page></PcGts>'
    )


def page_line(text: str | None, polygon=None, baseline=None, name: str = "l1", extra: str = "") -> str:
    coords = f'<Coords points="{points(polygon)}"/>' if polygon is not None else ""
    base = f'<Baseline points="{points(baseline)}"/>' if baseline is not None else ""
    written = "" if text is None else f"<TextEquiv><Unicode>{escape(text)}</Unicode></TextEquiv>"
    return f'<TextLine id="{name}">{coords}{base}{extra}{written}</TextLine>'


def alto_xml(
    *lines: str,
    image: str = "p.png",
    size: tuple[object, object] = (400, 200),
    unit: str = "pixel",
    version: int = 4,
    pages: int = 1,
) -> str:
    page = (
        f'<Page WIDTH="{size[0]}" HEIGHT="{size[1]}"><PrintSpace><TextBlock>{"".join(lines)}</TextBlock>'
        "</PrintSpace></Page>"
    )
    return (
        f'<alto xmlns="http://www.loc.gov/standards/alto/ns-v{version}#"><Description><MeasurementUnit>{unit}'
        f"</MeasurementUnit><sourceImageInformation><fileName>{image}</fileName></sourceImageInformation>"
        f"</Description><Layout>{page * pages}</Layout></alto>"
    )


def alto_line(words: str, polygon: str = "", baseline: str = "", box=(10, 20, 100, 40)) -> str:
    left, top, width, height = box
    shape = f'<Shape><Polygon POINTS="{polygon}"/></Shape>' if polygon else ""
    return (
        f'<TextLine ID="a1" HPOS="{left}" VPOS="{top}" WIDTH="{width}" HEIGHT="{height}" '
        f'BASELINE="{baseline}">{shape}{words}</TextLine>'
    )


def read_one(path: Path, content: str) -> PageLine:
    path.write_text(content, encoding="utf-8")
    return read_pages(path)[0].lines[0]


def paper(width: int = 400, height: int = 200, tone: float = 220) -> np.ndarray:
    noise = np.random.default_rng(0).normal(tone, 3, (height, width))
    return noise.clip(0, 255).astype(np.uint8)


def save_page(folder: Path, name: str, page: np.ndarray | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paper() if page is None else page).save(folder / name)


LINE_A = page_line("eins", [(20, 20), (380, 20), (380, 60), (20, 60)], [(20, 50), (380, 50)], "a")
LINE_B = page_line("zwei", [(20, 100), (380, 100), (380, 140), (20, 140)], [(20, 130), (380, 130)], "b")

LINE_C = page_line("drei", [(20, 20), (180, 20), (180, 60), (20, 60)], [(20, 50), (180, 50)], "c")


def run(pages: Path, **changes):
    return cut(CutOptions(**{"sources": (pages,), "output": pages.parent / "data", "workers": 1, **changes}))
