"""From an image file to the array that the network reads.

The published preprocessing, bit for bit, for ordinary grey and colour images: 8-bit grey, bicubic to 64 pixels of
height, squashed if wider than the network's line, divided by 255, padded with white on the right.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from htr_engines.documents import convert, parse_json
from htr_engines.errors import DataError, FileError, ImageError, one_line
from htr_engines.files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Alpha = Literal["white", "ignore"]

MAX_BYTES = 512 << 20  # of a file
MAX_PIXELS = 50_000_000  # of all pages of a file; lines need far less, a decompression bomb far more
MAX_GREY = 65535.0
# Named one by one, since Pillow hands some other formats to outside programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2"}
)


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its lines. Travels with every artefact."""

    width: Annotated[int, Meta(ge=8, le=8192)] = 512  # pixels; a longer line is squashed, a shorter one padded
    height: Annotated[int, Meta(ge=8, le=1024)] = 64  # pixels
    alpha: Alpha = "white"  # what shows through transparency; "ignore" drops it, as published

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name, for metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Build the settings from metadata; errors as for :meth:`from_json`."""
        return convert(settings, cls, "the preprocessing", "export the model again", DataError)

    @classmethod
    def from_json(cls, text: str, name: str) -> Preprocessing:
        """Read the settings from the metadata of an artefact.

        Raises:
            DataError: if they are missing or damaged; the message begins with ``name``.
        """
        return parse_json(text, cls, f"{name}, preprocessing", "export the model again", DataError)


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
        content = source if isinstance(source, bytes) else read_file(source, MAX_BYTES)
    except FileError as error:
        raise ImageError(str(error)) from None
    if not content:
        raise ImageError(f"{name} is empty; give an image file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return _decode(image, alpha, name, upright=upright)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image that can be read; give one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageError(too_large(name)) from None
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged files
        raise ImageError(f"{name} is a damaged image ({one_line(error)}); save it again or leave it out") from None


def load_page(source: Path | bytes, alpha: Alpha = "white", *, upright: bool = True) -> NDArray[np.uint8]:
    """Decode an image of one page, as :func:`load_pages` does; one of several raises :class:`ImageError`."""
    pages = load_pages(source, alpha, upright=upright)
    if len(pages) > 1:
        name = "standard input" if isinstance(source, bytes) else str(source)
        raise ImageError(f"{name} has {len(pages)} pages, and a line is one; save each page as a file of its own")
    return pages[0]


def _decode(image: Image.Image, alpha: Alpha, name: str, *, upright: bool) -> list[NDArray[np.uint8]]:
    pages: list[NDArray[np.uint8]] = []
    pixels = 0
    for page in ImageSequence.Iterator(image) if image.format == "TIFF" else [image]:
        pixels += page.width * page.height
        if pixels > MAX_PIXELS:
            raise ImageError(too_large(name))
        try:
            pages.append(image_to_grey(page, alpha, upright=upright))
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
    return pages


def too_large(name: str) -> str:
    """Return the sentence that refuses an image of more than ``MAX_PIXELS``."""
    return f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels; cut it into lines first"


def image_to_grey(image: Image.Image, alpha: Alpha, *, upright: bool = True) -> NDArray[np.uint8]:
    """Return an open image as uint8 [H,W] with white = 255; it is turned upright in place.

    Raises:
        ImageError: if its pixels are numbers that no depth of grey has.
    """
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
    """Scale 16-bit, 32-bit and float greys to 8 bits, by the smallest depth that holds the brightest pixel.

    White is 1, 255 or 65535 in floats, where other values are refused, and in integers the brightest pixel above that.
    """
    darkest, brightest = values_HW.min(), values_HW.max()
    if not (darkest >= 0 and (brightest <= MAX_GREY or values_HW.dtype.kind in "iu")):  # NaN is neither
        raise ImageError(
            f"it has grey values from {darkest:g} to {brightest:g}, which have no white; save it with 0 to 255"
        )
    values_HW = values_HW.astype(np.float64)
    depth = next((full for full in (1.0, 255.0, MAX_GREY) if brightest <= full), brightest)
    return np.clip(np.rint(values_HW * (255.0 / depth)), 0, 255).astype(np.uint8)


def load_line(source: Path | bytes, spec: Preprocessing) -> NDArray[np.float32]:
    """Decode an image and fit it into the network's input.

    Returns:
        float32 [1, height, width], as :func:`fit_line` returns it.

    Raises:
        ImageError: if it cannot be read, or has several pages.
    """
    return fit_line(load_page(source, spec.alpha), spec)


def fit_line(grey_HW: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.float32]:
    """Fit a grey line into the network's input.

    Args:
        grey_HW: uint8, white = 255.
        spec: the network's line height and width.

    Returns:
        float32 [1, height, width] in [0, 1], white = 1, padded with white on the right.
    """
    image_1HW: NDArray[np.float32] = to_input(fit_pixels(grey_HW, spec)[None])[0]
    return image_1HW


def fit_pixels(grey_HW: NDArray[np.uint8], spec: Preprocessing) -> NDArray[np.uint8]:
    """Fit a grey line as :func:`fit_line` does, but return uint8 [height, width], white = 255."""
    width = scaled_width(grey_HW.shape, spec)
    pixels_HW = np.full((spec.height, spec.width), 255, np.uint8)
    if grey_HW.shape != (spec.height, width):
        grey_HW = np.asarray(_resize(Image.fromarray(grey_HW), width, spec.height))
    pixels_HW[:, :width] = grey_HW
    return pixels_HW


def to_input(pixels_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn fitted lines, uint8 [N,H,W], into the network's input, float32 [N,1,H,W] in [0, 1]."""
    # Times the rounded reciprocal, as PyTorch divides: the golden values hold to the last bit.
    image_N1HW: NDArray[np.float32] = pixels_NHW[:, None].astype(np.float32)
    image_N1HW *= np.float32(1 / 255)
    return image_N1HW


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize by two calls, since Pillow 13 may scale the height first where 12 and the published training did not."""
    bicubic = Image.Resampling.BICUBIC
    return image.resize((width, image.height), bicubic).resize((width, height), bicubic)


def scaled_width(shape: Sequence[int], spec: Preprocessing) -> int:
    """Return how many columns of the network's input a line of height and width ``shape`` fills."""
    height, width = shape
    return max(1, min(int(width * spec.height / height), spec.width))
