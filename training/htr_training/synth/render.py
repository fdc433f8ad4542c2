"""Draw one line of text so that it looks written by hand: a random style, then rendered.

Lengths are in pixels of the finished line unless they say ``em``: the size of the font.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from htr_engines.pages.warp import warp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

EM_PER_HEIGHT = 1.5  # the font is drawn larger than needed and scaled down
SUPERSAMPLING = 2  # strokes are thickened and thinned at twice the final size
STRIP = 8  # pixels, at that size, that share one piece of the warp
FLATTEST = 4  # pixels, at that size, of a dash: one for each row of the warp
SQUEEZE = 0.75  # how narrow a long text may get before it gets smaller too


@dataclass(frozen=True)
class Style:
    """How one line is written and scanned."""

    size: float  # height of "Hg" as a share of the line's height
    stretch: float  # horizontal scale of the letters
    slant: float  # shear to the right per height
    slope: float  # rise of the baseline per length
    wander: float  # em; how far the baseline strays
    wobble: float  # em; how far strokes stray from the font's outline
    spacing: float  # em; added between letters
    unevenness: float  # em; scatter of that, and of each letter's height above the baseline
    blank: float  # width of a blank against the font's
    stroke: float  # below 0.5 thickens strokes, above thins them
    pressure: float  # 0 to 1; how much the ink varies along the line
    ink: float  # grey of the ink, 0 to 255
    paper: float  # grey of the paper, 0 to 255
    texture: float  # grey levels; unevenness of the paper
    grain: float  # grey levels; noise of the scanner
    blur: float  # pixels
    rule: bool  # whether a piece of a ruled line is seen


def random_style(rng: np.random.Generator) -> Style:
    """Return a random style."""
    return Style(
        size=rng.uniform(0.42, 0.8),
        stretch=rng.uniform(0.85, 1.3),
        slant=float(np.clip(rng.normal(0.03, 0.13), -0.3, 0.45)),
        slope=float(np.clip(rng.normal(0.0, 0.012), -0.03, 0.03)),
        wander=rng.uniform(0.0, 0.06),
        wobble=rng.uniform(0.005, 0.03),
        spacing=float(np.clip(rng.normal(0.02, 0.04), -0.015, 0.14)),
        unevenness=rng.uniform(0.0, 0.045),
        blank=rng.uniform(0.8, 2.2),
        stroke=rng.uniform(0.3, 0.72),
        pressure=rng.uniform(0.1, 0.5),
        ink=rng.uniform(10, 130),
        paper=rng.uniform(244, 262),
        texture=rng.exponential(2.0),
        grain=rng.uniform(0.3, 4.0),
        blur=rng.uniform(0.2, 0.6),
        rule=rng.random() < 0.12,  # noqa: PLR2004
    )


def render_line(
    font: Path,
    text: str,
    style: Style,
    rng: np.random.Generator,
    *,
    height: int = 64,
    width: int | None = None,
) -> NDArray[np.uint8]:
    """Render a line.

    Args:
        font: a font file that has every character of ``text``.
        text: what to write; not empty.
        style: how to write it.
        rng: decides what the style leaves open.
        height: of the image, in pixels.
        width: of the image; a long text is squeezed into it, a short one stands somewhere in it. Without one,
            the image is as wide as the text and its margins.

    Returns:
        uint8 [height, width], paper near 255.
    """
    face = _face(str(font), round(height * EM_PER_HEIGHT))
    ink_HW = _write(face, text, style, rng)
    scale_x, scale_y = _scales(face, ink_HW.shape, style, height, width)
    rows, columns = round(ink_HW.shape[0] * scale_y), round(ink_HW.shape[1] * scale_x)
    warped_HW = _bend(ink_HW, (rows * SUPERSAMPLING, columns * SUPERSAMPLING), style, rng)
    strokes_HW = _place(_stroke(warped_HW, style, rng), height, width, rng)
    return _scan(strokes_HW, style, rng)


@lru_cache(maxsize=64)
def _face(path: str, size: int) -> ImageFont.FreeTypeFont:
    # Basic layout: the other one is not installed everywhere, and would draw the same seed differently.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def _letter_height(face: ImageFont.FreeTypeFont) -> float:
    _, top, _, bottom = face.getbbox("Hg")
    return bottom - top


def _write(face: ImageFont.FreeTypeFont, text: str, style: Style, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Set the letters one by one on an uneven baseline; return their ink, cropped, 0 to 255."""
    em = face.size
    room = round(em * 1.5)
    length = sum(face.getlength(letter) for letter in text) * max(1.0, style.blank) + len(text) * em * 0.25
    canvas = Image.new("L", (round(length) + 2 * room, 2 * room))
    draw = ImageDraw.Draw(canvas)
    x = float(room)
    letters = _letters(text)
    for letter, following in zip(letters, [*letters[1:], ""], strict=True):
        spread, rise = rng.normal(0.0, style.unevenness * em, 2)
        draw.text((x, 1.2 * room + rise / 2), letter, fill=255, font=face, anchor="ls")
        advance = face.getlength(letter + following[:1]) - face.getlength(following[:1])  # with kerning
        x += advance * style.blank if letter == " " else advance + style.spacing * em + spread / 2
    box = canvas.getbbox() or (0, 0, 1, 1)
    return np.asarray(canvas.crop(box))


def _letters(text: str) -> list[str]:
    """Split a text into its letters, each with the marks that combine with it."""
    letters: list[str] = []
    for character in text:
        if letters and unicodedata.combining(character):
            letters[-1] += character
        else:
            letters.append(character)
    return letters


def _scales(
    face: ImageFont.FreeTypeFont, shape: tuple[int, int], style: Style, height: int, width: int | None
) -> tuple[float, float]:
    """Choose the scales that bring the ink to the style's size, and into the image."""
    ink_height, ink_width = shape
    rise = (abs(style.slope) * ink_width * style.stretch + abs(style.slant) * ink_height * 0.2) / ink_height
    scale_y = min(style.size * height / _letter_height(face), (height - 2) / (ink_height * (1.06 + rise)))
    scale_x = scale_y * style.stretch
    if width is None:
        return scale_x, scale_y
    fitting = (width - 4) / (ink_width + abs(style.slant) * ink_height)
    if scale_x > fitting:
        scale_y = min(scale_y, fitting / SQUEEZE)
        scale_x = fitting
    return scale_x, scale_y


def _bend(
    ink_HW: NDArray[np.uint8], shape: tuple[int, int], style: Style, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Scale the ink to ``shape``, slant it, bend its baseline and strokes. Returns it cropped again."""
    source_height, source_width = ink_HW.shape
    height, width = max(FLATTEST, shape[0]), shape[1]
    em = source_height / 1.2
    across = round(abs(style.slant) * height / 2) + STRIP
    down = round(abs(style.slope) * width / 2 + 0.08 * height)
    columns = np.arange(0, width + 2 * across + STRIP, STRIP)
    rows = np.linspace(0, height + 2 * down, 5).round().astype(int)
    x, y = np.meshgrid(columns - across, rows - down)
    t, lean = x / height, y / height - 0.5
    source_x = (x + style.slant * height * lean) * source_width / width
    source_y = (y + style.slope * (x - width / 2)) * source_height / height
    source_x = source_x + style.wobble * em * _waves(t + 0.7 * lean, 0.35, rng)
    source_y = source_y + style.wobble * em * _waves(t - 0.7 * lean, 0.3, rng)
    source_y = source_y + style.wander * em * _waves(t, 2.5, rng)
    bent = Image.fromarray(warp(ink_HW, columns, rows, np.stack([source_x, source_y], axis=-1)))
    return np.asarray(bent.crop(bent.getbbox() or (0, 0, 1, 1)))


def _waves(t: NDArray[np.float64], wavelength: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth random curve over ``t``, about -1 to 1, near zero in the mean."""
    curve = np.zeros_like(t)
    for _ in range(3):
        curve += np.sin(2 * np.pi * (t / (wavelength * rng.uniform(0.6, 2.5)) + rng.random())) / 2
    return curve


def _stroke(ink_HW: NDArray[np.uint8], style: Style, rng: np.random.Generator) -> NDArray[np.float32]:
    """Thicken or thin the strokes, and let the ink vary along them. Returns 0 to 1."""
    padded = Image.fromarray(np.pad(ink_HW, 3))
    soft_HW = np.asarray(padded.filter(ImageFilter.GaussianBlur(0.8 * SUPERSAMPLING)), np.float32) / 255
    # A light font is fainter than a bold one once it is soft, so the threshold follows its own strength.
    strength = float(np.quantile(soft_HW[soft_HW > 0.1], 0.8)) if (soft_HW > 0.1).any() else 1.0  # noqa: PLR2004
    edge = style.stroke * strength
    solid_HW = np.clip((soft_HW - edge) / (0.3 * strength) + 0.5, 0, 1)
    ink_HW = solid_HW * (1 - style.pressure * _clouds(solid_HW.shape, 24, rng))
    return ink_HW.astype(np.float32)


def _clouds(shape: tuple[int, ...], period: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise [H,W] between 0 and 1, uneven over about ``period`` pixels."""
    height, width = shape
    knots = rng.random((height // period + 2, width // period + 2), np.float32)
    resized = Image.fromarray(knots).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized).clip(0, 1)


def _place(
    strokes_HW: NDArray[np.float32], height: int, width: int | None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Shrink the strokes to their final size and lay them somewhere on the line [height, width]."""
    box = (max(1, strokes_HW.shape[1] // SUPERSAMPLING), max(1, strokes_HW.shape[0] // SUPERSAMPLING))
    limit = (min(box[0], width - 2) if width else box[0], min(box[1], height))
    small_HW = np.asarray(Image.fromarray(strokes_HW).resize(limit, Image.Resampling.BOX))
    ink_height, ink_width = small_HW.shape
    if width is None:
        left, right = rng.integers(2, height // 3, 2)
        width = int(left + ink_width + right)
    else:
        left = int((width - ink_width) * rng.beta(1.2, 2.0))
    top = round((height - ink_height) * rng.beta(4.0, 4.0))
    line_HW = np.zeros((height, width), np.float32)
    line_HW[top : top + ink_height, left : left + ink_width] = small_HW
    return line_HW


def _scan(strokes_HW: NDArray[np.float32], style: Style, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lay the strokes on paper and scan it."""
    shape = strokes_HW.shape
    paper_HW = style.paper - style.texture * _clouds(shape, 20, rng)
    if style.rule:
        _draw_rule(paper_HW, rng)
    bite_HW = 1 - 0.25 * rng.random(shape, np.float32)  # ink takes unevenly to the paper's fibres
    scan_HW = paper_HW - strokes_HW * bite_HW * (paper_HW - style.ink)
    blurred = Image.fromarray(_to_bytes(scan_HW)).filter(ImageFilter.GaussianBlur(style.blur))
    noisy_HW = np.asarray(blurred) + style.grain * rng.standard_normal(shape, np.float32)
    return _to_bytes(noisy_HW)


def _to_bytes(grey_HW: NDArray[np.floating]) -> NDArray[np.uint8]:
    clipped: NDArray[np.uint8] = np.rint(grey_HW).clip(0, 255).astype(np.uint8)
    return clipped


def _draw_rule(paper_HW: NDArray[np.float32], rng: np.random.Generator) -> None:
    height, width = paper_HW.shape
    top = height - int(rng.integers(1, max(2, height // 10)))
    start, stop = sorted(rng.integers(0, width + 1, 2))
    paper_HW[top : top + 1, start:stop] -= rng.uniform(40, 150)
