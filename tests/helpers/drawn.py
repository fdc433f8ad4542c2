"""The characters of the small network, and a drawn line."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from htr_engines.charset import Charset

CHARSET = Charset(" abcdefghijklmnopqrstuvwxyzäöü")


def draw_line(text: str, size: tuple[int, int] = (160, 40)) -> Image.Image:
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).text((5, 5), text, fill=0, font=ImageFont.load_default(24))
    return image
