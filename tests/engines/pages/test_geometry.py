"""Cutting a line out of its page: level, masked, at the right scale."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cut_fakes import NONE, alto_line, alto_xml, page_line, page_xml, paper, run, save_page
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.errors import DataError
from htr_engines.pages import geometry
from htr_engines.pages.geometry import cut_line, usual_height
from htr_engines.pages.markup import Page, PageLine
from htr_engines.pages.sheets import find_scale
from htr_engines.preprocess import load_pages


def cut(*arguments, **options):
    return cut_line(*arguments, **options).image_HW


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
    line = cut(
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
    line = cut(page, NONE, baseline, height=40)
    assert line.shape[1] > 500
    assert stripe_rows(line).std() < 1


def test_a_baseline_from_right_to_left_does_not_turn_the_line_over():
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    forth = cut(page, polygon, np.array([(30.0, 150.0), (570.0, 150.0)]), 40)
    back = cut(page, polygon, np.array([(570.0, 150.0), (30.0, 150.0)]), 40)
    assert forth.shape == back.shape
    assert np.abs(forth.astype(int) - back).mean() < 1
    assert stripe_rows(forth).mean() > forth.shape[0] / 2


def test_an_upside_down_line_is_turned_over():
    """Its outline tells it from a line whose baseline was only drawn backwards."""
    page = stripe_page(lambda x: 140 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    baseline = np.array([(30.0, 150.0), (570.0, 150.0)])
    turned = cut(page[::-1, ::-1].copy(), (600, 300) - polygon, (600, 300) - baseline, 40)
    assert stripe_rows(turned).mean() == pytest.approx(stripe_rows(cut(page, polygon, baseline, 40)).mean(), abs=1)


def test_neighbours_are_painted_over_with_the_paper_around():
    tone = np.linspace(100, 230, 600)  # a shadow along the line
    page = np.broadcast_to(tone, (300, 600)).astype(np.uint8).copy()
    polygon = np.array([(30.0, 140.0), (300.0, 100.0), (570.0, 140.0), (570.0, 180.0), (30.0, 180.0)])
    page[90:112, 40:200] = 0  # a neighbour above the outline's left half
    line = cut(page, polygon, np.array([(30.0, 170.0), (570.0, 170.0)]), 40).astype(float)
    expected = np.linspace(tone[30], tone[570], line.shape[1])
    assert np.abs(line - expected)[:, 5:-5].max() < 25


def test_ink_inside_the_outline_stays():
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    line = cut(page, polygon, np.array([(30.0, 155.0), (570.0, 155.0)]), 40)
    assert (line < 60).any(axis=0)[5:-5].all()


def test_an_outline_that_misses_its_baseline_is_not_trusted():
    """Transkribus: the outline is another line's; seen in OCR-D/format-converters#16."""
    page = stripe_page(lambda x: 176 + 0 * x)
    polygon = np.array([(22.0, 89.0), (576.0, 89.0), (576.0, 141.0), (22.0, 141.0)])
    line = cut(page, polygon, np.array([(21.0, 180.0), (576.0, 182.0)]), 40)
    assert (line < 60).any(axis=0)[20:-20].all()


def test_a_baseline_of_one_point_counts_as_none():
    """eScriptorium: mittagessen/kraken#606."""
    page = stripe_page(lambda x: 150 + 0 * x)
    polygon = np.array([(30.0, 120.0), (570.0, 120.0), (570.0, 160.0), (30.0, 160.0)])
    for baseline in ([(193.0, 150.0), (193.0, 150.0)], [(193.0, 150.0), (199.0, 156.0)]):
        line = cut(page, polygon, np.array(baseline), 40)
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
        cut(paper(), polygon, baseline, 40)


COORDINATE = st.floats(-1e4, 1e4) | st.sampled_from([0.0, 1e300, -1e300, 199.5, 400.0])
CORNERS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12).map(
    lambda rows: np.array(rows, float).reshape(-1, 2)
)


@settings(max_examples=150, deadline=None)
@given(CORNERS, CORNERS, st.floats(1, 500))
def test_any_shape_gives_a_line_or_a_reason(polygon, baseline, height):
    try:
        line = cut(paper(), polygon, baseline, height)
    except DataError:
        return
    assert line.dtype == np.uint8
    assert line.shape[0] >= 8
    assert line.size < 40 * 400 * 200


def test_of_an_outline_of_many_thousand_corners_few_are_used(monkeypatch):
    pairs = []
    nearest = geometry.find_nearest
    monkeypatch.setattr(geometry, "find_nearest", lambda a, b: pairs.append(len(a) * len(b)) or nearest(a, b))
    scribble = np.random.default_rng(0).uniform(0, 400, (300_000, 2))
    cut(paper(), scribble, scribble[:200_000], 40)
    assert 0 < sum(pairs) < 1e8  # distances; without a limit some 1e12


def test_the_usual_height_comes_from_outlines_or_from_distances():
    box = np.array([(0.0, 0.0), (400.0, 0.0), (400.0, 40.0), (0.0, 40.0)])
    assert usual_height([box, NONE], [NONE], 900) == pytest.approx(40, rel=0.05)
    baselines = [np.array([(0.0, y), (100.0, y)]) for y in (50.0, 100.0, 150.0, 152.0)]
    assert usual_height([NONE], baselines, 900) == 50
    assert usual_height([], [], 900) == 30


# --- scales ---


def page_of(size, corner=(100.0, 100.0), unit="pixel") -> Page:
    line = PageLine("l", "x", np.array([(0.0, 0.0), (corner[0], 0.0), corner]), NONE)
    return Page("PAGE", "p.png", *size, unit, (line,), (0,))


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


@pytest.mark.export
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
