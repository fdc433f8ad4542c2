"""Makes the preprocessing vectors of every bundle: an image of every kind, and what Pillow makes of it.

Run by hand where a kind is added, with a Pillow older than 13, whose single call of ``resize`` is the published
preprocessing: ``PYTHONPATH=engines python tests/helpers/make_vectors.py``. Encoders differ between releases, so the
files are kept as they are and only written where they are missing.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont

from htr_engines.preprocess import load_pages

FOLDER = Path(__file__).parents[2] / "htr_export" / "bundle" / "vectors"
WIDTH, HEIGHT = 128, 64
# Grey levels by which readers may be off where a platform's decoder gives them 8 bits of 16, or a colour transform.
INEXACT = 4


def ink(seed: int, width: int, height: int) -> Image.Image:
    """Return a line of text on uneven paper, mode L."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (width, height), 0)
    font = ImageFont.load_default(max(6, int(height * 0.7)))
    word = "".join(rng.choice(list("abcdefghklmnoprstuw"), 12))
    ImageDraw.Draw(image).text((height // 8, height // 10), word, fill=255, font=font)
    rows, columns = np.mgrid[:height, :width]
    paper = 225 + 25 * np.sin(columns / 7 + seed) * np.cos(rows / 5)
    grey = np.where(np.asarray(image) > 0, 255 - np.asarray(image) * 0.9, paper)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def colour(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return the same with another text in every channel."""
    bands = [ink(seed + number, width, height) for number in range(len(Image.new(mode, (1, 1)).getbands()))]
    if mode in {"RGBA", "LA"}:  # every alpha from none to full
        ramp = np.linspace(0, 255, width).astype(np.uint8)[None].repeat(height, 0)
        bands[-1] = Image.fromarray(ramp)
    return Image.merge(mode, bands)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image as a file's content."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: np.ndarray, bits: int, colour_type: int, *extra: bytes, interlaced: bool = False) -> bytes:
    """Return a PNG from raw samples [H,W] or [H,W,channels], with further chunks before the pixels."""
    height, width = samples.shape[:2]

    def rows(part: np.ndarray) -> bytes:
        if bits == 16:
            packed = part.reshape(len(part), -1).astype(">u2").view(np.uint8)
        elif bits == 8:
            packed = part.reshape(len(part), -1).astype(np.uint8)
        else:
            flat = np.unpackbits(part.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
            packed = np.packbits(flat.reshape(len(part), -1), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in packed)

    if interlaced:
        passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        parts = [samples[top::down, left::across] for top, left, down, across in passes]
        data = b"".join(rows(part) for part in parts if part.size)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))
    body = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def exif(orientation: int, order: str = "<") -> bytes:
    """Return EXIF data that holds an orientation alone."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def sizes() -> dict[str, bytes]:
    """Return grey PNGs of the sizes that take each path through resampling."""
    named = {
        "exact": (100, 64),
        "smaller": (60, 31),
        "larger": (150, 97),
        "squashed": (260, 50),
        "squashed-larger": (400, 90),
        "squashed-exact-height": (200, 64),
        "full-width": (128, 64),
        "one-column-more": (129, 64),
        "tall": (20, 90),
        "very-tall": (9, 200),
        "narrow": (3, 64),
        "one-pixel": (1, 1),
        "flat": (300, 3),
        "odd": (97, 53),
    }
    return {f"size-{name}.png": encoded(ink(seed, *size)) for seed, (name, size) in enumerate(named.items())}


def greys() -> dict[str, bytes]:
    """Return PNGs of grey and palette kinds."""
    grey = np.asarray(ink(50, 90, 40))
    palette = colour(51, 90, 40).quantize(16)
    alphas = bytes(range(0, 256, 17))
    colours = bytes(palette.getpalette()[:48])
    indices = np.asarray(palette)
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    return {
        "grey-1-bit.png": png(grey >> 7, 1, 0),
        "grey-2-bit.png": png(grey >> 6, 2, 0),
        "grey-4-bit.png": png(grey >> 4, 4, 0),
        "grey-16-bit.png": png(grey.astype(np.uint16) * 257 - np.arange(90, dtype=np.uint16), 16, 0),
        "grey-trns.png": png(grey, 8, 0, chunk(b"tRNS", struct.pack(">H", int(np.bincount(grey.ravel()).argmax())))),
        "grey-gamma.png": png(grey, 8, 0, gamma),
        "grey-interlaced.png": png(grey, 8, 0, interlaced=True),
        "palette.png": png(indices, 8, 3, chunk(b"PLTE", colours)),
        "palette-4-bit.png": png(indices, 4, 3, chunk(b"PLTE", colours)),
        "palette-trns.png": png(indices, 8, 3, chunk(b"PLTE", colours), chunk(b"tRNS", alphas)),
        "palette-one-trns.png": png(indices, 4, 3, chunk(b"PLTE", colours), chunk(b"tRNS", b"\xff\xff\0\xff")),
        "exif-6.png": png(grey, 8, 0, chunk(b"eXIf", exif(6))),
    }


def colours() -> dict[str, bytes]:
    """Return PNGs of colour kinds."""
    rgb = np.asarray(colour(60, 90, 40))
    rgba = np.asarray(colour(63, 90, 40, "RGBA"))
    la = np.asarray(colour(70, 90, 40, "LA"))
    key = np.array(rgb)
    key[:, 20:50] = (200, 10, 40)
    gamma = chunk(b"gAMA", struct.pack(">I", 45_455)) + chunk(b"sRGB", b"\0")
    return {
        "rgb.png": png(rgb, 8, 2),
        "rgb-16-bit.png": png(rgb.astype(np.uint16) * 256 + 200, 16, 2),
        "rgb-trns.png": png(key, 8, 2, chunk(b"tRNS", struct.pack(">HHH", 200, 10, 40))),
        "rgb-gamma.png": png(rgb, 8, 2, gamma),
        "rgb-linear.png": png(rgb, 8, 2, chunk(b"gAMA", struct.pack(">I", 100_000))),
        "rgb-interlaced.png": png(rgb, 8, 2, interlaced=True),
        "rgba.png": png(rgba, 8, 6),
        "rgba-16-bit.png": png(rgba.astype(np.uint16) * 256 + 77, 16, 6),
        "rgba-interlaced.png": png(rgba, 8, 6, interlaced=True),
        "la.png": png(la, 8, 4),
        "la-16-bit.png": png(la.astype(np.uint16) * 256 + 30, 16, 4),
    }


def jpegs() -> dict[str, bytes]:
    """Return JPEGs of every sampling, mode, scan order and orientation."""
    grey, rgb = ink(80, 150, 57), colour(81, 150, 57)
    found = {
        "jpeg-grey.jpg": encoded(grey, "JPEG", quality=70),
        "jpeg-grey-progressive.jpg": encoded(grey, "JPEG", quality=70, progressive=True),
        "jpeg-444.jpg": encoded(rgb, "JPEG", quality=60, subsampling="4:4:4"),
        "jpeg-422.jpg": encoded(rgb, "JPEG", quality=60, subsampling="4:2:2"),
        "jpeg-420.jpg": encoded(rgb, "JPEG", quality=60, subsampling="4:2:0"),
        "jpeg-420-progressive.jpg": encoded(rgb, "JPEG", quality=60, subsampling="4:2:0", progressive=True),
        "jpeg-420-odd.jpg": encoded(rgb.crop((0, 0, 77, 33)), "JPEG", quality=60, subsampling="4:2:0"),
        "jpeg-rgb.jpg": encoded(rgb, "JPEG", quality=60, keep_rgb=True),
        "jpeg-cmyk.jpg": encoded(colour(85, 90, 40, "CMYK"), "JPEG", quality=60),
    }
    for orientation in range(2, 9):
        data = b"Exif\0\0" + exif(orientation, "<" if orientation % 2 else ">")
        found[f"jpeg-exif-{orientation}.jpg"] = encoded(ink(90 + orientation, 70, 45), "JPEG", quality=50, exif=data)
    return found


def fit_as_published(content: bytes, alpha: str) -> np.ndarray:
    """Return the tensor as uint8 [H,W] by the published single call of ``resize``."""
    (grey_HW,) = load_pages(content, alpha)
    height, width = grey_HW.shape
    scaled = max(1, min(int(width * HEIGHT / height), WIDTH))
    tensor_HW = np.full((HEIGHT, WIDTH), 255, np.uint8)
    tensor_HW[:, :scaled] = Image.fromarray(grey_HW).resize((scaled, HEIGHT), Image.Resampling.BICUBIC)
    return tensor_HW


def main() -> None:
    """Write the files that are missing, the list and the tensors."""
    if int(PIL.__version__.split(".")[0]) >= 13:
        raise SystemExit("run this with a Pillow older than 13, whose resize is the published one")
    images, tensors = [], []
    for name, made in {**sizes(), **greys(), **colours(), **jpegs()}.items():
        path = FOLDER / name
        if not path.exists():
            path.write_bytes(made)
        inexact = "16-bit" in name or "cmyk" in name
        transparent = any(part in name for part in ("rgba", "la.", "la-", "trns")) and not inexact
        for alpha in ("white", "ignore") if transparent else ("white",):
            images.append({"file": name, "alpha": alpha, "tolerance": INEXACT if inexact else 0})
            tensors.append(fit_as_published(path.read_bytes(), alpha))
    document = {"width": WIDTH, "height": HEIGHT, "tensors": "expected.npy", "images": images}
    (FOLDER / "vectors.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    np.save(FOLDER / "expected.npy", np.stack(tensors))


if __name__ == "__main__":
    main()
