"""Image files of every kind, bit-equal to the published preprocessing where that is defined."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib

import numpy as np
import pytest
from helpers.golden_weights import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from htr_engines.errors import ImageError
from htr_engines.preprocess import MAX_PIXELS, Preprocessing, fit_line, load_line, load_pages

EXPECTED = json.loads((GOLDEN / "preprocess_sha256.json").read_text(encoding="utf-8"))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_images_match_to_the_last_bit(name):
    image_1HW = fit_line(load_pages(GOLDEN / "preprocess" / name, "ignore")[0], Preprocessing())
    assert image_1HW.shape == (1, 64, 512)
    assert image_1HW.dtype == np.float32
    assert hashlib.sha256(image_1HW.astype("<f4").tobytes()).hexdigest() == EXPECTED[name]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16", "I", "F"])
def test_a_mid_grey_stays_a_mid_grey_in_every_mode(mode):
    grey = Image.new("L", (30, 20), 128)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 128 * 257, np.uint16))
    elif mode in {"I", "F"}:
        image = Image.fromarray(np.full((20, 30), 128, np.int32 if mode == "I" else np.float32))
    else:
        image = grey.convert(mode)
    content = encoded(image, "TIFF")
    (page,) = load_pages(content)
    assert page.shape == (20, 30)
    if mode == "1":
        assert set(np.unique(page)) <= {0, 255}
    else:
        assert np.abs(page.astype(int) - 128).max() <= 1


def test_16_bit_png_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, 0)
    (page,) = load_pages(encoded(Image.fromarray(ramp)))
    assert np.array_equal(page[0], np.arange(256))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_paper_is_white_unless_ignored(mode):
    image = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    if mode == "P":
        content = encoded(image.convert("P"), "PNG", transparency=image.convert("P").getpixel((0, 0)))
    else:
        content = encoded(image.convert(mode))
    assert load_pages(content, "white")[0].min() == 255
    assert load_pages(content, "ignore")[0].max() == 0


def test_exif_rotation_is_applied():
    image = Image.new("L", (40, 10), 255)
    image.paste(0, (0, 0, 5, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise to be upright
    (page,) = load_pages(encoded(image, "JPEG", exif=exif, quality=95))
    assert page.shape == (40, 10)
    assert page[:3].max() < 60
    assert page[10:].min() > 200


def test_every_page_of_a_tiff_is_a_line():
    pages = [Image.new("L", (20 + number, 10), 40 * number) for number in range(3)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    loaded = load_pages(content)
    assert [page.shape for page in loaded] == [(10, 20), (10, 21), (10, 22)]
    assert [int(page[0, 0]) for page in loaded] == [0, 40, 80]


def bomb() -> bytes:
    """A PNG that claims 60 000 x 60 000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"not an image", "not an image"),
        (encoded(Image.effect_noise((300, 60), 80))[:900], "damaged"),
        (encoded(Image.effect_noise((300, 60), 80), "JPEG")[:700], "damaged"),
        (bomb(), "million pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, content, said):
    path = tmp_path / "line.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=said) as refusal:
        load_pages(path)
    assert str(path) in str(refusal.value)


def test_a_page_over_the_limit_is_refused():
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ImageError, match="million pixels"):
        load_pages(encoded(Image.new("1", (side, side), 1)))


def test_many_pages_together_over_the_limit_are_refused():
    page = Image.new("1", (5000, 4000), 1)
    content = encoded(page, "TIFF", save_all=True, append_images=[page] * 3, compression="group4")
    with pytest.raises(ImageError, match="million pixels"):
        load_pages(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        load_pages(tmp_path / "none.png")


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_pages_or_an_image_error(content):
    try:
        pages = load_pages(content)
    except ImageError:
        return
    assert pages


@given(
    height=st.integers(1, 200),
    width=st.integers(1, 3000),
    line=st.sampled_from([Preprocessing(), Preprocessing(width=256), Preprocessing(width=32)]),
)
@settings(max_examples=60, deadline=None)
def test_every_size_fits_and_is_padded_with_white(height, width, line):
    image_1HW = fit_line(np.zeros((height, width), np.uint8), line)
    filled = max(1, min(int(width * 64 / height), line.width))
    assert image_1HW.shape == (1, 64, line.width)
    assert (image_1HW[:, :, :filled] == 0).all()
    assert (image_1HW[:, :, filled:] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 1e30, 70_000.0])
def test_float_greys_without_a_white_are_refused(value):
    values = np.full((20, 30), 128, np.float32)
    values[3, 4] = value
    with pytest.raises(ImageError, match="grey values"):
        load_pages(encoded(Image.fromarray(values), "TIFF"))


def test_negative_integers_are_refused():
    with pytest.raises(ImageError, match="grey values"):
        load_pages(encoded(Image.fromarray(np.full((20, 30), -5, np.int32)), "TIFF"))


def test_a_line_of_several_pages_is_refused_where_one_is_needed():
    pages = [Image.new("L", (20, 10), 40 * number) for number in range(3)]
    content = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="3 pages"):
        load_line(content, Preprocessing())
