"""From an image file to the array that the network reads.

The published preprocessing, bit for bit, for ordinary grey and colour images: 8-bit grey, bicubic to 64 pixels of
height, squashed if wider than the network's line, divided by 255, padded with white on the right.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from htr_engines.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Alpha = Literal["white", "ignore"]

MAX_PIXELS = 50_000_000  # of all pages of a file; lines need far less, a decompression bomb far more
# Named one by one, since Pillow hands some other formats to outside programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2"}
)


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its lines. Travels with every artefact."""

    width: int = 512  # pixels; a longer line is squashed, a shorter one padded
    height: int = 64  # pixels
    alpha: Alpha = "white"  # what shows through transparency; "ignore" drops it, as published

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name, for metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Build the settings from metadata."""
        return cls(int(settings["width"]), int(settings["height"]), settings.get("alpha", "white"))


def load_pages(source: Path | bytes, alpha: Alpha = "white", *, upright: bool = True) -> list[NDArray[np.uint8]]:
    """Decode an image into 8-bit grey pages.

    Args:
        source: a file, or its content.
        alpha: ``white`` lays transparent images over white; ``ignore`` drops their alpha.
        upright: turn the image as its EXIF data say.

    Returns:
        One array [H,W] per page: several for a TIFF of several pages, else one.

    Raises:
        ImageError: if it is empty, damaged, too large or no image.
    """
    name = "standard input" if isinstance(source, bytes) else str(source)
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; check the path") from None
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror}); check the path and its permissions") from None
    if not content:
        raise ImageError(f"{name} is empty; give an image file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's bomb warning: the limit here is lower
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _decode(image, alpha, name, upright=upright)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image that can be read; give one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(name)) from None
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged files
        raise ImageError(f"{name} is a damaged image ({error}); save it again or leave it out") from None


def _decode(image: Image.Image, alpha: Alpha, name: str, *, upright: bool) -> list[NDArray[np.uint8]]:
    pages: list[NDArray[np.uint8]] = []
    pixels = 0
    for page in ImageSequence.Iterator(image) if image.format == "TIFF" else [image]:
        pixels += page.width * page.height
        if pixels > MAX_PIXELS:
            raise ImageError(_too_large(name))
        pages.append(image_to_grey(page, alpha, upright=upright))
    return pages


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; cut it into lines first"


def image_to_grey(image: Image.Image, alpha: Alpha, *, upright: bool = True) -> NDArray[np.uint8]:
    """Return an open image as uint8 [H,W] with white = 255; it is turned upright in place."""
    image.load()
    if upright:
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a page takes long
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_grey(np.asarray(image))
    if alpha == "white" and image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("L"))


def _deep_to_grey(values_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale 16-bit, 32-bit and float greys to 8 bits, by the smallest depth that holds the brightest pixel."""
    values_HW = values_HW.astype(np.float64)
    brightest = values_HW.max()
    depth = next((full for full in (1.0, 255.0, 65535.0) if brightest <= full), brightest)
    return np.clip(np.rint(values_HW * (255.0 / depth)), 0, 255).astype(np.uint8)


def load_line(source: Path | bytes, spec: Preprocessing) -> NDArray[np.float32]:
    """Decode an image, of several pages the first, and fit it into the network's input.

    Args:
        source: a file, or its content.
        spec: the network's line height and width.

    Returns:
        float32 [1, height, width], as :func:`fit_line` returns it.

    Raises:
        ImageError: if it cannot be read.
    """
    return fit_line(load_pages(source, spec.alpha)[0], spec)


def fit_line(grey_HW: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float32]:
    """Fit a grey line into the network's input.

    Args:
        grey_HW: uint8, white = 255.
        spec: the network's line height and width.

    Returns:
        float32 [1, height, width] in [0, 1], white = 1, padded with white on the right.
    """
    width = scaled_width(grey_HW, spec)
    resized = Image.fromarray(grey_HW).resize((width, spec.height), Image.Resampling.BICUBIC)
    image_1HW = np.ones((1, spec.height, spec.width), np.float32)
    # Times the rounded reciprocal, as PyTorch divides: the golden values hold to the last bit.
    image_1HW[0, :, :width] = np.asarray(resized, np.float32) * np.float32(1 / 255)
    return image_1HW


def scaled_width(grey_HW: NDArray[np.uint8], spec: Preprocessing) -> int:
    """Return how many columns of the network's input a line fills."""
    height, width = grey_HW.shape
    return max(1, min(int(width * spec.height / height), spec.width))
