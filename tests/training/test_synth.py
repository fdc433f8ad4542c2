from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from helpers.recorded_progress import RecordedProgress

from htr_engines.errors import DataError
from htr_engines.lines import read_lines
from htr_engines.preprocess import load_pages
from htr_training.cli import main
from htr_training.synth.fonts import find_fonts, read_coverage
from htr_training.synth.render import _letters, random_style, render_line
from htr_training.synth.synth import SynthOptions, read_texts, synthesize

DEMO = Path(__file__).parents[2] / "training" / "demo"
CAVEAT = DEMO / "fonts" / "Caveat-Regular.ttf"


def make_font(path: Path, characters: str, empty: str = "") -> Path:
    """Write a font whose letters are squares, and whose ``empty`` letters have no outline."""
    pen = TTGlyphPen(None)
    for index, point in enumerate([(100, 0), (100, 700), (500, 700), (500, 0)]):
        (pen.lineTo if index else pen.moveTo)(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    names = {ord(c): f"u{ord(c):04X}" for c in characters + empty}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    blank = {f"u{ord(c):04X}" for c in empty}
    builder.setupGlyf({name: nothing if name in blank else square for name in [".notdef", *names.values()]})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def options(tmp_path: Path, text: str, **changes: object) -> SynthOptions:
    source = tmp_path / "text.txt"
    source.write_text(text, encoding="utf-8")
    settings = {"fonts": DEMO / "fonts", "output": tmp_path / "data", "workers": 1, **changes}
    return SynthOptions(text=source, **settings)


def test_writes_the_published_layout(tmp_path):
    report = synthesize(options(tmp_path, "Großer  Weg\n\nZum Süßen Grund\n"))
    lines = read_lines(tmp_path / "data" / "lines", tmp_path / "data" / "train.ln")
    assert [line.text for line in lines] == ["Großer Weg", "Zum Süßen Grund"]
    assert report.lines == 2
    for line in lines:
        grey = load_pages(line.image)[0]
        assert grey.shape[0] == 64
        assert grey.min() < 160
        assert np.median(grey) > 230


def test_a_small_dash_alone_is_drawn():
    rng = np.random.default_rng(1)
    style = replace(random_style(rng), size=0.2, ink=20.0)
    line_HW = render_line(CAVEAT, "-", style, rng, width=256)
    assert line_HW.shape == (64, 256)
    assert line_HW.min() < 200


def test_a_seed_gives_the_same_images_with_any_number_of_workers(tmp_path):
    contents = []
    for name, seed, workers in (("a", 7, 1), ("b", 7, 2), ("c", 8, 1)):
        output = tmp_path / name
        synthesize(options(tmp_path, "Haus\nHof\n", count=5, seed=seed, workers=workers, output=output))
        contents.append([path.read_bytes() for path in sorted((output / "lines").iterdir())])
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_seed_does_not_depend_on_where_the_fonts_lie(tmp_path):
    for folder, first, second in (("x", "a", "b"), ("y", "a", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{first}.ttf").write_bytes(CAVEAT.read_bytes())
        (tmp_path / folder / f"{second}.ttf").write_bytes((DEMO / "fonts/IndieFlower-Regular.ttf").read_bytes())
        synthesize(options(tmp_path, "Tal\n", count=4, fonts=tmp_path / folder, output=tmp_path / f"out{folder}"))
    images = [sorted((tmp_path / out / "lines").glob("*.png")) for out in ("outx", "outy")]
    assert [p.read_bytes() for p in images[0]] == [p.read_bytes() for p in images[1]]


def test_draws_a_text_only_in_fonts_that_have_all_of_it(tmp_path):
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    make_font(fonts / "ascii.ttf", "abc")
    make_font(fonts / "umlaut.ttf", "aä")
    report = synthesize(options(tmp_path, "abc\naä\nabä\n", fonts=fonts))
    assert report.lines == 2
    assert report.skipped == {"abä": "b"}


def test_refuses_texts_that_no_font_can_draw(tmp_path):
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    make_font(fonts / "ascii.ttf", "abc")
    with pytest.raises(DataError, match=r"no font in .*missing: xyz"):
        synthesize(options(tmp_path, "zyx\n", fonts=fonts))


def test_an_empty_glyph_is_no_coverage_but_a_blank_is(tmp_path):
    font = make_font(tmp_path / "f.ttf", "ab", empty="ß ")
    assert read_coverage(font, "abcß ") == frozenset("ab ")


def test_decomposed_text_is_drawn_and_written_composed(tmp_path):
    text = unicodedata.normalize("NFD", "Köln")
    synthesize(options(tmp_path, text + "\n"))
    assert read_lines(tmp_path / "data" / "lines")[0].text == "Köln"


def test_combining_marks_stay_with_their_letters():
    assert _letters("a\u0304b\u0323\u0302c") == ["a\u0304", "b\u0323\u0302", "c"]
    assert _letters("\u0304a") == ["\u0304", "a"]


def test_width_holds_for_long_and_short_texts():
    rng = np.random.default_rng(0)
    for text in ("i", "Berg", "Am alten Wasserwerk hinter der Stadtmauer " * 3):
        for _ in range(5):
            image = render_line(CAVEAT, text.strip(), random_style(rng), rng, width=256)
            assert image.shape == (64, 256)
            assert image.dtype == np.uint8


def test_other_heights_scale_the_line():
    rng = np.random.default_rng(0)
    small = render_line(CAVEAT, "Berg", random_style(np.random.default_rng(5)), rng, height=32)
    large = render_line(CAVEAT, "Berg", random_style(np.random.default_rng(5)), rng, height=128)
    assert small.shape[0] == 32
    assert large.shape[0] == 128
    assert 2 < large.shape[1] / small.shape[1] < 8


def test_ink_stays_inside_the_image():
    """Nothing is cut off: a frame of paper stays around tall and slanted letters."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = render_line(CAVEAT, "ÄjÖgÜ", random_style(rng), rng, width=256).astype(float)
        assert image[:, :1].mean() > image.mean()
        assert image[:, -1:].mean() > image.mean()


def test_wrap_breaks_texts_at_blanks(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("eins zwei drei vier\n", encoding="utf-8")
    assert read_texts(path, 10) == ["eins zwei", "drei vier"]


def test_an_existing_list_is_kept_unless_told_otherwise(tmp_path):
    synthesize(options(tmp_path, "Haus\n"))
    with pytest.raises(DataError, match="exists already"):
        synthesize(options(tmp_path, "Hof\n"))
    synthesize(options(tmp_path, "Hof\n", force=True))
    assert read_lines(tmp_path / "data" / "lines")[0].text == "Hof"


def test_no_list_is_left_by_an_interrupted_run(tmp_path):
    class Interrupting(RecordedProgress):
        def advance(self, amount=1):
            super().advance(amount)
            if self.done == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(options(tmp_path, "Haus\n", count=5), Interrupting())
    assert not (tmp_path / "data" / "train.ln").exists()


@pytest.mark.parametrize("name", ["broken.ttf", "empty.otf"])
def test_a_damaged_font_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no font" if name.startswith("broken") else b"")
    with pytest.raises(DataError, match=name):
        find_fonts(tmp_path, "a")


def test_a_folder_without_fonts_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no font"):
        find_fonts(tmp_path, "a")


def test_an_empty_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no text"):
        synthesize(options(tmp_path, " \n\n"))


def test_the_command_says_what_it_left_out(tmp_path):
    (tmp_path / "t.txt").write_text("Haus\n漢字\n", encoding="utf-8")
    arguments = [
        "synth",
        "--fonts",
        DEMO / "fonts",
        "--text",
        tmp_path / "t.txt",
        "-o",
        tmp_path / "d",
        "--workers",
        1,
    ]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "漢字" in result.output
    assert "1 lines from 5 fonts" in result.output


def test_the_demo_lines_are_what_their_recipe_writes(tmp_path):
    lines = read_lines(DEMO / "lines", DEMO / "demo.ln")
    assert [line.text for line in lines] == read_texts(DEMO / "texts.txt")
    for line in lines:
        grey = load_pages(line.image)[0]
        assert grey.shape == (64, 256)
    shorter = options(tmp_path, f"{lines[0].text}\n", seed=3, width=256, list_name="demo.ln")
    synthesize(shorter)
    again = load_pages(tmp_path / "data" / "lines" / lines[0].name)[0].astype(float)
    # Other versions of FreeType draw edges a little differently.
    assert np.abs(again - load_pages(lines[0].image)[0]).mean() < 4
