"""Whatever a caller has in hand reads as its file does, and what is no image is refused by name."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.drawn import draw_line
from PIL import Image

from htr_engines import Recognizer
from htr_engines.cli import main as htr_read
from htr_engines.errors import EngineError, ImageError
from htr_engines.sources import load_grey

GREY = np.asarray(draw_line("zeile"))


def png(array=GREY) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        str,
        lambda path: path,
        lambda path: path.read_bytes(),
        lambda path: memoryview(path.read_bytes()),
        lambda path: path.open("rb"),
        Image.open,
        lambda _: Image.fromarray(GREY).convert("RGB"),
        lambda _: GREY,
        lambda _: GREY[..., None],
        lambda _: np.stack([GREY] * 3, axis=-1),
        lambda _: np.concatenate([np.stack([GREY] * 3, axis=-1), np.full((*GREY.shape, 1), 255, np.uint8)], axis=-1),
        lambda _: GREY / 255,
        lambda _: (GREY / 255).astype(np.float32),
        lambda _: GREY[::-1][::-1],
    ],
)
def test_every_form_gives_the_same_pixels(tmp_path, make):
    path = tmp_path / "line.png"
    path.write_bytes(png())
    source = make(path)
    try:
        (grey,) = load_grey(source)
    finally:
        if hasattr(source, "close"):
            source.close()
    assert np.array_equal(grey, GREY)


def test_bool_is_white_where_true():
    (grey,) = load_grey(GREY > 127)
    assert np.array_equal(grey, np.where(GREY > 127, 255, 0))


def test_colours_and_transparency_are_weighed_as_in_a_file():
    rgba = np.random.default_rng(0).integers(0, 256, (20, 60, 4), dtype=np.uint8)
    for alpha in ("white", "ignore"):
        assert np.array_equal(load_grey(rgba, alpha)[0], load_grey(png(rgba), alpha)[0])


def test_a_pil_image_stays_as_it_was():
    image = Image.fromarray(GREY)
    image.getexif()[0x0112] = 6
    (grey,) = load_grey(image)
    assert grey.shape == GREY.shape[::-1]
    assert np.array_equal(np.asarray(image), GREY)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (np.zeros((0, 0), np.uint8), "0 x 0"),
        (np.zeros((4, 0, 3), np.uint8), "0 x 4"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \[4, 5, 2\]"),
        (np.zeros(4, np.uint8), r"shape \[4\]"),
        (np.zeros((4, 5), np.int64), "int64"),
        (np.full((4, 5), 200.0), "outside"),
        (np.full((4, 5), np.nan), "outside"),
        (np.zeros((4, 5), complex), "complex128"),
        (np.array([["a"]]), "<U1"),
        (b"", "empty"),
        (io.StringIO("text"), "binary"),
        (17, "a int is no image"),
        (None, "a NoneType"),
        ([[1, 2]], "a list"),
    ],
)
def test_what_is_no_image_is_refused_by_name(source, part):
    with pytest.raises(ImageError, match=part):
        load_grey(source)


def test_a_recognizer_reads_one_and_many_and_survives_pickling(bundle, lines_dir):
    paths = sorted(lines_dir.glob("*.png"))
    with Recognizer(bundle, "onnxruntime", threads=1) as recognizer:
        one = [recognizer.read(path) for path in paths]
        assert [reading.text for reading in recognizer.read_many(paths, batch_size=3)] == [each.text for each in one]
        assert recognizer.read(Image.open(paths[0])).to_dict() == one[0].to_dict()
        with pickle.loads(pickle.dumps(recognizer)) as again:  # noqa: S301 - our own pickle
            assert again.read(paths[0]) == one[0]
    recognizer.close()
    with pytest.raises(EngineError, match="closed"):
        recognizer.read(paths[0])


def test_pages_and_empty_paper_are_read_with_a_warning(bundle, tmp_path):
    Image.new("L", (700, 900), 255).save(tmp_path / "page.png")
    Image.new("L", (300, 64), 250).save(tmp_path / "blank.png")
    draw_line("zeile").save(tmp_path / "line.png")
    names = [str(tmp_path / name) for name in ("page.png", "blank.png", "line.png")]
    result = CliRunner().invoke(htr_read, [str(bundle), *names])
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning")]
    assert len(warnings) == 2
    assert "page.png: it looks like a page (700 x 900 pixels)" in warnings[0]
    assert "kraken" in warnings[0]
    assert "blank.png: it holds no ink" in warnings[1]
