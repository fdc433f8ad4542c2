from __future__ import annotations

import contextlib
import re
import time
import unicodedata
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from htr_engines.errors import DataError
from htr_engines.lines import read_lines
from htr_engines.preprocess import load_pages
from htr_training import cut_xml
from htr_training.cli import main
from htr_training.cut import CutOptions, cut
from htr_training.cut_geometry import cut_line, usual_height
from htr_training.cut_pages import find_scale
from htr_training.cut_xml import Page, PageLine, parse_points, read_pages

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


@pytest.fixture
def pages(tmp_path):
    """A folder with one good page of two lines."""
    folder = tmp_path / "pages"
    save_page(folder, "p.png")
    (folder / "p.xml").write_text(page_xml(LINE_A, LINE_B), encoding="utf-8")
    return folder


def run(pages: Path, **changes):
    return cut(CutOptions(**{"sources": (pages,), "output": pages.parent / "data", "workers": 1, **changes}))


# --- reading the XML ---


@pytest.mark.parametrize("version", PAGE_VERSIONS)
def test_page_xml_of_every_version(tmp_path, version):
    line = read_one(tmp_path / "p.xml", page_xml(LINE_A, version=version))
    assert (line.name, line.text) == ("a", "eins")
    assert line.polygon.tolist()[0] == [20, 20]
    assert line.baseline.tolist() == [[20, 50], [380, 50]]


@pytest.mark.parametrize("version", [2, 3, 4])
def test_alto_of_every_version(tmp_path, version):
    words = '<String CONTENT="Am"/><SP/><String CONTENT="Ber"/><HYP CONTENT="-"/>'
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line(words, "10 20 110 20 110 60"), version=version))
    assert line.text == "Am Ber-"
    assert line.polygon.tolist() == [[10, 20], [110, 20], [110, 60]]


def test_alto_without_namespace_blanks_or_polygon(tmp_path):
    content = alto_xml(alto_line('<String CONTENT="Am"/><String CONTENT="Berg"/>'))
    line = read_one(tmp_path / "a.xml", re.sub(r' xmlns="[^"]*"', "", content))
    assert line.text == "Am Berg"
    assert line.polygon.tolist() == [[10, 20], [110, 20], [110, 60], [10, 60]]


@pytest.mark.parametrize("before", ['<String CONTENT="demain-"/>', '<String CONTENT="demain"/><String CONTENT="-"/>'])
def test_a_hyphen_that_alto_gives_twice_counts_once(tmp_path, before):
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line(f'<SP/>{before}<HYP CONTENT="-"/>')))
    assert line.text == "demain-"


def test_an_alto_baseline_may_be_one_number(tmp_path):
    line = read_one(tmp_path / "a.xml", alto_xml(alto_line('<String CONTENT="x"/>', baseline="52.5")))
    assert line.baseline.tolist() == [[10, 52.5], [110, 52.5]]


def test_of_several_readings_the_lowest_index_counts(tmp_path):
    readings = "".join(
        f'<TextEquiv index="{index}"><Unicode>{text}</Unicode></TextEquiv>' for index, text in ((2, "b"), (0, "a"))
    )
    assert read_one(tmp_path / "p.xml", page_xml(page_line(None, extra=readings))).text == "a"


def test_words_stand_in_for_a_line_without_text(tmp_path):
    words = "".join(f"<Word><TextEquiv><Unicode>{word}</Unicode></TextEquiv></Word>" for word in ("Am", "Berg"))
    empty = "<TextEquiv><Unicode/></TextEquiv>"
    assert read_one(tmp_path / "p.xml", page_xml(page_line(None, extra=words + empty))).text == "Am Berg"
    assert read_one(tmp_path / "p.xml", page_xml(page_line("Im Tal", extra=words))).text == "Im Tal"


def test_texts_are_composed_and_collapsed(tmp_path):
    decomposed = unicodedata.normalize("NFD", " Köln\n  Süd ")
    assert read_one(tmp_path / "p.xml", page_xml(page_line(decomposed))).text == "Köln Süd"


@given(
    st.lists(st.tuples(st.integers(-9999, 99999), st.integers(-9999, 99999)), max_size=20),
    st.sampled_from(", \n\t;"),
)
def test_points_survive_every_way_of_writing_them(corners, separator):
    text = " ".join(f"{x}{separator}{y}" for x, y in corners)
    assert parse_points(text).tolist() == [list(map(float, corner)) for corner in corners]


@given(st.text(max_size=200) | st.none() | st.from_regex(r"[0-9eE+., -]{0,60}", fullmatch=True))
def test_points_never_fail(text):
    found = parse_points(text)
    assert found.ndim == 2
    assert found.shape[1] == 2
    assert np.isfinite(found).all()


# --- hostile and damaged XML ---


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><PcGts>&x;</PcGts>',
        '<!DOCTYPE PcGts SYSTEM "http://localhost/evil.dtd"><PcGts/>',
    ],
)
def test_a_document_type_is_refused(tmp_path, content):
    (tmp_path / "p.xml").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="document type"):
        read_pages(tmp_path / "p.xml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_a_document_type_is_refused_in_every_encoding(tmp_path, encoding):
    (tmp_path / "p.xml").write_bytes(BOMB.replace('<?xml version="1.0"?>', "").encode(encoding))
    with pytest.raises(DataError):
        read_pages(tmp_path / "p.xml")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no xml",
        b"<PcGts>",
        b"\x00\xff\xfe",
        b'<?xml version="1.0" encoding="nosuch"?><PcGts/>',
        b"<html/>",
        b"<a>&x;</a>",
    ],
)
def test_what_is_no_page_is_refused(tmp_path, content):
    (tmp_path / "p.xml").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.xml"):
        read_pages(tmp_path / "p.xml")


def test_a_huge_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cut_xml, "MAX_BYTES", 1 << 20)
    (tmp_path / "p.xml").write_bytes(b" " * (1 << 20) + b"<PcGts/>")
    with pytest.raises(DataError, match="more than 1 MB"):
        read_pages(tmp_path / "p.xml")


def test_deep_nesting_does_no_harm(tmp_path):
    depth = 200_000
    (tmp_path / "p.xml").write_text("<PcGts>" + "<a>" * depth + "</a>" * depth + "</PcGts>", encoding="utf-8")
    assert read_pages(tmp_path / "p.xml") == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_raises_nothing_but_data_errors(tmp_path_factory, data):
    content = bytearray(
        data.draw(st.sampled_from([page_xml(LINE_A), alto_xml(alto_line('<String CONTENT="x"/>'))])).encode()
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.xml"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        read_pages(path)


# --- geometry ---


def stripe_page(curve, size=(600, 300), thickness: float = 3) -> np.ndarray:
    """Draw a dark stripe along ``curve`` (x to y) on paper."""
    page = paper(*size)
    y = np.arange(size[1])[:, None]
    page[np.abs(y - curve(np.arange(size[0]))) < thickness] = 20
    return page


def stripe_rows(line: np.ndarray) -> np.ndarray:
    """Return the middle of the stripe in each column, away from the ends."""
    inner = line[:, 20:-20] < 100
    rows = np.arange(line.shape[0])[:, None]
    return (rows * inner).sum(axis=0) / inner.sum(axis=0)


CURVES = {
    "level": lambda x: 150 + 0 * x,
    "skewed": lambda x: 80 + 0.25 * x,
    "arched": lambda x: 100 + 90 * ((x - 300) / 300) ** 2,
    "wavy": lambda x: 150 + 25 * np.sin(x / 90),
}


@pytest.mark.parametrize(
    ("shape", "known"),
    # An outline alone does not tell of a wave.
    [
        (shape, known)
        for shape in CURVES
        for known in ("both", "baseline", "polygon")
        if (shape, known) != ("wavy", "polygon")
    ],
)
def test_lines_come_out_level(shape, known):
    curve = CURVES[shape]
    x = np.arange(30.0, 571, 20)
    baseline = np.stack([x, curve(x)], axis=1)
    polygon = np.concatenate([baseline - (0, 30), (baseline - (0, -12))[::-1]])
    line = cut_line(
        stripe_page(curve),
        NONE if known == "baseline" else polygon,
        NONE if known == "polygon" else baseline,
        height=40,
    )
    rows = stripe_rows(line)
    assert np.isfinite(rows).all()
    assert rows.std() < (1.5 if known != "polygon" else 3.0)
    assert 30 <= line.shape[0] <= 60


def test_an_upright_line_is_laid_level():
    page = stripe_page(lambda x: 150 + 0 * x).T.copy()
    baseline = np.array([(150.0, 570.0), (150.0, 30.0)])  # written upwards
    line = cut_line(page, NONE, baseline, height=40)
    assert line.shape[1] > 500
    assert stripe_rows(line).std() < 1


def test_a_baseline_from_right_to_left_does_not_turn_the_line_over():
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    forth = cut_line(page, polygon, np.array([(30.0, 150.0), (570.0, 150.0)]), 40)
    back = cut_line(page, polygon, np.array([(570.0, 150.0), (30.0, 150.0)]), 40)
    assert forth.shape == back.shape
    assert np.abs(forth.astype(int) - back).mean() < 1
    assert stripe_rows(forth).mean() > forth.shape[0] / 2


def test_an_upside_down_line_is_turned_over():
    """Its outline tells it from a line whose baseline was only drawn backwards."""
    page = stripe_page(lambda x: 140 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    baseline = np.array([(30.0, 150.0), (570.0, 150.0)])
    turned = cut_line(page[::-1, ::-1].copy(), (600, 300) - polygon, (600, 300) - baseline, 40)
    assert stripe_rows(turned).mean() == pytest.approx(stripe_rows(cut_line(page, polygon, baseline, 40)).mean(), abs=1)


def test_neighbours_are_painted_over_with_the_paper_around():
    tone = np.linspace(100, 230, 600)  # a shadow along the line
    page = np.broadcast_to(tone, (300, 600)).astype(np.uint8).copy()
    polygon = np.array([(30.0, 140.0), (300.0, 100.0), (570.0, 140.0), (570.0, 180.0), (30.0, 180.0)])
    page[90:112, 40:200] = 0  # a neighbour above the outline's left half
    line = cut_line(page, polygon, np.array([(30.0, 170.0), (570.0, 170.0)]), 40).astype(float)
    expected = np.linspace(tone[30], tone[570], line.shape[1])
    assert np.abs(line - expected)[:, 5:-5].max() < 25


def test_ink_inside_the_outline_stays():
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    line = cut_line(page, polygon, np.array([(30.0, 155.0), (570.0, 155.0)]), 40)
    assert (line < 60).any(axis=0)[5:-5].all()


def test_an_outline_that_misses_its_baseline_is_not_trusted():
    """Transkribus: the outline is another line's; seen in OCR-D/format-converters#16."""
    page = stripe_page(lambda x: 176 + 0 * x)
    polygon = np.array([(22.0, 89.0), (576.0, 89.0), (576.0, 141.0), (22.0, 141.0)])
    line = cut_line(page, polygon, np.array([(21.0, 180.0), (576.0, 182.0)]), 40)
    assert (line < 60).any(axis=0)[20:-20].all()


def test_a_baseline_of_one_point_counts_as_none():
    """eScriptorium: mittagessen/kraken#606."""
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    for baseline in ([(193.0, 150.0), (193.0, 150.0)], [(193.0, 150.0), (199.0, 156.0)]):
        line = cut_line(page, polygon, np.array(baseline), 40)
        assert line.shape[1] > 500
        assert stripe_rows(line).std() < 1


@pytest.mark.parametrize(
    ("polygon", "baseline"),
    [
        (NONE, NONE),
        (np.array([(5.0, 5.0), (9.0, 9.0)]), NONE),
        (np.array([(-50.0, -50.0), (-10.0, -50.0), (-10.0, -10.0)]), NONE),
        (np.array([(10.0, 10.0), (90.0, 10.0), (90.0, 13.0), (10.0, 13.0)]), NONE),
    ],
)
def test_nothing_to_cut_is_a_reason(polygon, baseline):
    with pytest.raises(DataError, match=r"outline|smaller"):
        cut_line(paper(), polygon, baseline, 40)


COORDINATE = st.floats(-1e4, 1e4) | st.sampled_from([0.0, 1e300, -1e300, 199.5, 400.0])
CORNERS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12).map(
    lambda rows: np.array(rows, float).reshape(-1, 2)
)


@settings(max_examples=150, deadline=None)
@given(CORNERS, CORNERS, st.floats(1, 500))
def test_any_shape_gives_a_line_or_a_reason(polygon, baseline, height):
    try:
        line = cut_line(paper(), polygon, baseline, height)
    except DataError:
        return
    assert line.dtype == np.uint8
    assert line.shape[0] >= 8
    assert line.size < 40 * 400 * 200


def test_an_outline_of_many_thousand_corners_takes_no_longer_than_it_must():
    scribble = np.random.default_rng(0).uniform(0, 400, (300_000, 2))
    started = time.perf_counter()
    cut_line(paper(), scribble, scribble[:200_000], 40)
    assert time.perf_counter() - started < 20  # some 0.5 s; without a limit, minutes


def test_the_usual_height_comes_from_outlines_or_from_distances():
    box = np.array([(0.0, 0.0), (400.0, 0.0), (400.0, 40.0), (0.0, 40.0)])
    assert usual_height([box, NONE], [NONE], 900) == pytest.approx(40, rel=0.05)
    baselines = [np.array([(0.0, y), (100.0, y)]) for y in (50.0, 100.0, 150.0, 152.0)]
    assert usual_height([NONE], baselines, 900) == 50
    assert usual_height([], [], 900) == 30


# --- scales ---


def page_of(size, corner=(100.0, 100.0), unit="pixel") -> Page:
    line = PageLine("l", "x", np.array([(0.0, 0.0), (corner[0], 0.0), corner]), NONE)
    return Page("PAGE", "p.png", *size, unit, (line,))


def test_scales():
    assert find_scale(page_of((400, 200)), (200, 400)) == (1, 1)
    assert find_scale(page_of((400, 200)), (400, 800)) == (2, 2)
    assert find_scale(page_of((400, 200)), (401, 800)) == pytest.approx((2, 2.005))
    assert find_scale(page_of((0, 0)), (200, 400)) == (1, 1)
    assert find_scale(page_of((2540, 1270), unit="mm10"), (1500, 3000))[0] == pytest.approx(300 / 254)


def test_coordinates_beyond_their_page_were_made_on_the_image():
    assert find_scale(page_of((400, 200), corner=(790.0, 390.0)), (400, 800)) == (1, 1)


def test_scales_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="turned"):
        find_scale(page_of((400, 200)), (400, 200))
    with pytest.raises(DataError, match="another picture"):
        find_scale(page_of((400, 200)), (400, 400))
    for size in ((1e-300, 1e-300), (1e300, 1e300), (1e-300, 1e300)):
        with pytest.raises(DataError, match="another picture"):
            find_scale(page_of(size, corner=(0.0, 0.0)), (400, 400))
    with pytest.raises(DataError, match="inch1200"):
        find_scale(page_of((0, 0), unit="inch1200"), (400, 400))


def test_a_page_scaled_by_its_export_is_cut_at_the_same_place(tmp_path):
    page = stripe_page(lambda x: 150 + 0 * x)
    line = page_line("x", [(60, 240), (1140, 240), (1140, 320), (60, 320)], [(60, 305), (1140, 305)])
    alto = alto_line('<String CONTENT="x"/>', baseline="254 1291 4826 1291", box=(254, 1016, 4572, 339))
    save_page(tmp_path / "pages", "p.png", page)
    save_page(tmp_path / "pages", "q.png", page)
    (tmp_path / "pages" / "p.xml").write_text(page_xml(line, size=(1200, 600)), encoding="utf-8")
    (tmp_path / "pages" / "q.xml").write_text(
        alto_xml(alto, image="q.png", size=(5080, 2540), unit="mm10"), encoding="utf-8"
    )
    run(tmp_path / "pages", image_format="png")
    first, second = (load_pages(path)[0] for path in sorted((tmp_path / "data" / "lines").glob("*.png")))
    assert np.abs(np.subtract(first.shape, second.shape)).max() <= 2
    for line_image in (first, second):
        assert stripe_rows(line_image).mean() == pytest.approx(64 * 30 / 40, abs=2)


# --- whole runs ---


def test_writes_the_published_layout(pages):
    report = run(pages)
    lines = read_lines(pages.parent / "data" / "lines", pages.parent / "data" / "train.ln")
    assert [line.text for line in lines] == ["eins", "zwei"]
    assert [line.name for line in lines] == ["p-001.jpg", "p-002.jpg"]
    assert load_pages(lines[0].image)[0].shape[0] == 64
    assert (len(report.train), report.val, report.left_out, report.pages) == (2, (), (), 1)


def test_workers_change_nothing(pages):
    for number in range(3):
        save_page(pages, f"n{number}.png")
        (pages / f"n{number}.xml").write_text(page_xml(LINE_A, image=f"n{number}.png"), encoding="utf-8")
    run(pages)
    run(pages, output=pages.parent / "data2", workers=2)
    for path in (pages.parent / "data").rglob("*.jpg"):
        assert path.read_bytes() == (pages.parent / "data2" / "lines" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("xml", "image", "named"),
    [
        ("page/0001.xml", "0001.jpg", "0001.jpg"),  # Transkribus
        ("page/0001.xml", "0001.jpg", "0001.tif"),  # converted since
        ("0001.xml", "0001.PNG", "x/y/0001.png"),
        ("0001.xml", "0001.png", "C:\\scans\\0001.png"),
        ("0001.xml", "images/0001.png", "../images/0001.png"),
        ("0001.xml", "0001.png", ""),
        ("scan.v2_1.xml", "scan.v2_1.png", ""),
        ("a.xml", "scan.v2_1.png", "scan.v2_1.png"),
    ],
)
def test_images_are_found_where_exports_put_them(tmp_path, xml, image, named):
    pages = tmp_path / "pages"
    for path in (xml, image):
        (pages / path).parent.mkdir(parents=True, exist_ok=True)
    save_page((pages / image).parent, (pages / image).name)
    (pages / xml).write_text(page_xml(LINE_A, image=named), encoding="utf-8")
    assert len(run(pages).train) == 1
    assert len(run(pages / xml, output=tmp_path / "one", images=pages).train) == 1


def test_a_name_cannot_reach_outside_the_folders(tmp_path):
    save_page(tmp_path, "secret.png")
    pages = tmp_path / "pages" / "deep" / "er"
    pages.mkdir(parents=True)
    (pages / "p.xml").write_text(page_xml(LINE_A, image=str(tmp_path / "secret.png")), encoding="utf-8")
    with pytest.raises(DataError, match="no image secret"):
        run(tmp_path / "pages", output=tmp_path / "data")


def test_the_nearest_of_several_images_is_taken(pages):
    save_page(pages / "thumbs", "p.png", paper(40, 20))
    assert len(run(pages).train) == 2
    (pages / "p.png").rename(pages / "thumbs" / "p.jpg")
    with pytest.raises(DataError, match="could be"):
        run(pages, overwrite=True)


def test_page_and_alto_of_one_image_are_cut_once(pages):
    (pages / "alto").mkdir()
    (pages / "alto" / "p.xml").write_text(
        alto_xml(alto_line('<String CONTENT="a"/>'), alto_line('<String CONTENT="b"/>')), encoding="utf-8"
    )
    report = run(pages)
    assert [line.text for line in report.train] == ["eins", "zwei"]
    assert "describes the same image" in report.lost_pages[0].reason


def test_bad_pages_cost_only_themselves(pages):
    (pages / "mets.xml").write_text("<mets/>", encoding="utf-8")
    (pages / "bomb.xml").write_text(BOMB, encoding="utf-8")
    (pages / "lost.xml").write_text(page_xml(LINE_A, image="lost.png"), encoding="utf-8")
    (pages / "turned.xml").write_text(page_xml(LINE_C, image="turned.png", size=(200, 400)), encoding="utf-8")
    save_page(pages, "turned.png")
    (pages / "broken.xml").write_text(page_xml(LINE_A, image="broken.png"), encoding="utf-8")
    (pages / "broken.png").write_bytes(b"no image")
    report = run(pages)
    assert len(report.train) == 2
    reasons = {left.source.rpartition("/")[2]: left.reason for left in report.lost_pages}
    assert "neither PAGE nor ALTO" in reasons["mets.xml"]
    assert "document type" in reasons["bomb.xml"]
    assert "no image lost.png" in reasons["lost.xml"]
    assert "turned" in reasons["turned.xml"]
    assert "not an image" in reasons["broken.xml"]


def test_lines_without_text_or_place_are_left_out_with_the_reason(pages):
    lines = (LINE_A, page_line("", [(0, 0), (90, 0), (90, 50)], name="b"), page_line("drei", name="c"))
    (pages / "p.xml").write_text(page_xml(*lines), encoding="utf-8")
    report = run(pages)
    assert [(left.line, left.reason) for left in report.left_out] == [
        ("b", "it has no transcript"),
        ("c", "it has neither an outline nor a baseline on the image"),
    ]


def test_whole_pages_are_kept_for_validation(pages):
    for number in range(9):
        save_page(pages, f"n{number}.png")
        (pages / f"n{number}.xml").write_text(page_xml(LINE_A, LINE_B, image=f"n{number}.png"), encoding="utf-8")
    report = run(pages, val=0.2)
    assert (len(report.train), len(report.val)) == (16, 4)
    assert not {line.source for line in report.train} & {line.source for line in report.val}
    listed = (pages.parent / "data" / "val.ln").read_text(encoding="utf-8").split()
    assert listed == [line.name for line in report.val]


def test_an_alto_file_of_two_pages_uses_both_pages_of_its_tiff(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    light, dark = Image.fromarray(paper(tone=230)), Image.fromarray(paper(tone=90))
    light.save(pages / "p.tif", save_all=True, append_images=[dark])
    content = alto_xml(alto_line('<String CONTENT="x"/>'), image="p.tif", pages=2)
    (pages / "p.xml").write_text(content, encoding="utf-8")
    report = run(pages)
    means = [load_pages(tmp_path / "data" / "lines" / line.name)[0].mean() for line in report.train]
    assert means == pytest.approx([230, 90], abs=5)
    light.save(pages / "p.tif")
    assert "it is page 2" in run(pages, overwrite=True).lost_pages[0].reason


def test_pages_of_the_same_name_do_not_overwrite_each_other(tmp_path):
    for folder in ("one", "two"):
        save_page(tmp_path / folder, "p.png")
        (tmp_path / folder / "p.xml").write_text(page_xml(LINE_A), encoding="utf-8")
    report = run(tmp_path / "one", sources=(tmp_path / "one", tmp_path / "two"), output=tmp_path / "data")
    assert len({line.name for line in report.train}) == 2


def test_an_existing_list_is_kept_unless_told_otherwise(pages):
    run(pages)
    with pytest.raises(DataError, match="exists already"):
        run(pages)
    run(pages, overwrite=True)


def test_nothing_to_cut_is_refused(tmp_path):
    (tmp_path / "pages").mkdir()
    with pytest.raises(DataError, match=r"no \.xml file"):
        run(tmp_path / "pages")
    (tmp_path / "pages" / "p.xml").write_text(page_xml(LINE_A), encoding="utf-8")
    with pytest.raises(DataError, match=r"no line could be cut.*no image"):
        run(tmp_path / "pages")


class _Sheet(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_contact_sheet_is_self_contained_and_escaped(pages):
    evil = page_line("<script>alert(1)</script>", [(20, 20), (380, 20), (380, 60), (20, 60)], None, "x&quot;y")
    lost = page_line("", name="&lt;img src=x&gt;")
    (pages / "p.xml").write_text(page_xml(evil, lost), encoding="utf-8")
    report = run(pages)
    sheet = _Sheet()
    sheet.feed(report.contact_sheet.read_text(encoding="utf-8"))
    tags = [tag for tag, _ in sheet.tags]
    assert "script" not in tags
    assert tags.count("img") == 1
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in sheet.tags)
    assert "link" not in tags


def test_the_command_tells_what_was_left_out_and_where_to_look(pages):
    (pages / "p.xml").write_text(page_xml(LINE_A, page_line("", name="b")), encoding="utf-8")
    (pages / "mets.xml").write_text("<mets/>", encoding="utf-8")
    output = pages.parent / "data"
    result = CliRunner().invoke(main, ["cut", str(pages), "-o", str(output), "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "1 lines to train on" in result.output
    assert "1 lines, because it has no transcript" in result.output
    assert "neither PAGE nor ALTO" in result.output
    assert str(output / "contact_sheet.html") in result.output
