"""Image files of every kind that readers in other languages decode, drawn by number."""

from __future__ import annotations

import numpy as np
from PIL import Image

from helpers import make_vectors


def drawn(number: int) -> tuple[str, bytes]:
    """Return the name and content of an image of some kind and size."""
    rng = np.random.default_rng(number)
    height = int(rng.integers(1, 150))
    width = int(rng.integers(1, 700)) if number % 3 else int(rng.integers(1, 2 * height + 1))
    kind = KINDS[number % len(KINDS)]
    return f"{number:04d}-{kind.__name__.strip('_')}{kind.suffix}", kind(number, width, height, rng)


def kind(suffix):
    def mark(function):
        function.suffix = suffix
        KINDS.append(function)
        return function

    return mark


KINDS: list = []


@kind(".png")
def grey(seed, width, height, rng):
    bits = int(rng.choice([1, 2, 4, 8, 16]))
    samples = rng.integers(0, 1 << bits, (height, width)).astype(np.uint16)
    extra = (make_vectors.chunk(b"tRNS", int(samples[0, 0]).to_bytes(2, "big")),) if bits > 2 and seed % 2 else ()
    return make_vectors.png(samples, bits, 0, *extra, interlaced=bool(rng.integers(2)))


@kind(".png")
def line(seed, width, height, _):
    return make_vectors.encoded(make_vectors.ink(seed, width, height))


@kind(".png")
def rgb(seed, width, height, rng):
    bits = int(rng.choice([8, 16]))
    samples = rng.integers(0, 1 << bits, (height, width, 3)).astype(np.uint16)
    key = b"".join(int(value).to_bytes(2, "big") for value in samples[0, 0])
    extra = (make_vectors.chunk(b"tRNS", key),) if bits == 8 and seed % 2 else ()
    return make_vectors.png(samples, bits, 2, *extra, interlaced=bool(rng.integers(2)))


@kind(".png")
def alpha(seed, width, height, rng):
    bits, channels = int(rng.choice([8, 16])), 2 + 2 * (seed % 2)
    samples = rng.integers(0, 1 << bits, (height, width, channels)).astype(np.uint16)
    return make_vectors.png(samples, bits, 2 + channels, interlaced=bool(rng.integers(2)))


@kind(".png")
def palette(seed, width, height, rng):
    bits = int(rng.choice([1, 2, 4, 8]))
    colours = rng.integers(0, 256, 3 << bits, dtype=np.uint8).tobytes()
    alphas = rng.integers(0, 256, 1 << bits, dtype=np.uint8).tobytes()[: 1 + seed % (1 << bits)]
    extra = (make_vectors.chunk(b"tRNS", alphas),) if seed % 2 else ()
    samples = rng.integers(0, 1 << bits, (height, width)).astype(np.uint16)
    exif = make_vectors.chunk(b"eXIf", make_vectors.exif(1 + seed % 8))
    return make_vectors.png(samples, bits, 3, make_vectors.chunk(b"PLTE", colours), *extra, exif)


@kind(".jpg")
def jpeg(seed, width, height, rng):
    mode = str(rng.choice(["L", "RGB", "CMYK"]))
    return make_vectors.encoded(
        make_vectors.colour(seed, width, height, mode),
        "JPEG",
        quality=int(rng.integers(5, 100)),
        subsampling=int(rng.integers(3)),
        progressive=bool(rng.integers(2)),
        exif=b"Exif\0\0" + make_vectors.exif(1 + seed % 8, "<>"[seed % 2]),
    )


@kind(".jpg")
def photograph(seed, width, height, rng):
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return make_vectors.encoded(noise, "JPEG", quality=20 + seed % 80, subsampling=seed % 3)


@kind(".tif")
def tiff(seed, width, height, rng):
    mode = str(rng.choice(["1", "L", "RGB", "RGBA", "LA", "P", "CMYK"]))
    base = make_vectors.colour(seed, width, height, "RGBA" if mode == "RGBA" else "RGB")
    compression = str(rng.choice(["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"]))
    return make_vectors.encoded(base.convert(mode), "TIFF", compression=compression)
