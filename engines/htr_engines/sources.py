"""Whatever a caller has in hand as an image of a line, as 8-bit grey."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from htr_engines.errors import ImageError
from htr_engines.preprocess import MAX_PIXELS, Alpha, image_to_grey, load_pages, too_large

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    ImageSource: TypeAlias = str | PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]

PAGE_HEIGHT, PAGE_ASPECT = 500, 3  # pixels from which, and times its height up to which, an image may be a page
FAINTEST = 25  # levels of grey between the paper and the darkest pixel of a line that can be read
_CHANNELS = {1, 3, 4}  # grey, RGB, RGBA
_ACCEPTED = (
    "give a path, bytes, an open file, a PIL image, or an array [H,W], [H,W,3] or [H,W,4] of uint8, "
    "of floats in [0, 1] or of bool, white the largest value"
)


def load_grey(source: ImageSource, alpha: Alpha = "white") -> list[NDArray[np.uint8]]:
    """Return an image as grey pages, each uint8 [H,W] with white = 255.

    Args:
        source: a path; a file's content; a binary file; a PIL image; or an array of grey [H,W], RGB [H,W,3] or RGBA
            [H,W,4] as uint8, as floats in [0, 1] or as bool, white the largest value.
        alpha: ``white`` lays transparent images over white; ``ignore`` drops their alpha.

    Raises:
        ImageError: if it is nothing of that, or cannot be read.
    """
    if isinstance(source, np.ndarray):
        return [_array_to_grey(source, alpha)]
    if isinstance(source, Image.Image):
        _check_size(source.height, source.width)
        return [image_to_grey(ImageOps.exif_transpose(source), alpha, upright=False)]  # of a copy
    if isinstance(source, (str, PathLike)):
        return load_pages(Path(source), alpha)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return load_pages(bytes(source), alpha)
    if hasattr(source, "read"):
        content = source.read()
        if isinstance(content, bytes):
            return load_pages(content, alpha)
        raise ImageError("the file gives text, not bytes; open it in binary mode")
    raise ImageError(f"a {type(source).__name__} is no image; {_ACCEPTED}")


def doubt(grey_HW: NDArray[np.uint8]) -> str | None:
    """Say why an image is probably no line of text; None if it may be one."""
    height, width = grey_HW.shape
    if height >= PAGE_HEIGHT and width < PAGE_ASPECT * height:
        return (
            f"it looks like a page ({width} x {height} pixels), not like a line; find its lines first, "
            "for example with 'kraken -a -i page.jpg page.xml segment -bl', and read page.xml"
        )
    if _median(grey_HW) - float(grey_HW.min()) < FAINTEST:
        return "it holds no ink: nothing on it is darker than its paper"
    return None


def _median(grey_HW: NDArray[np.uint8]) -> float:
    """Return numpy's median by counting, in a tenth of its time."""
    up_to_L = np.cumsum(Image.fromarray(grey_HW).histogram())
    return float(np.searchsorted(up_to_L, [(grey_HW.size + 1) // 2, grey_HW.size // 2 + 1]).mean())


def _array_to_grey(values: NDArray[Any], alpha: Alpha) -> NDArray[np.uint8]:
    if values.ndim not in {2, 3} or (values.ndim == 3 and values.shape[2] not in _CHANNELS):  # noqa: PLR2004
        raise ImageError(f"an array of shape {list(values.shape)} is no line; {_ACCEPTED}")
    _check_size(values.shape[0], values.shape[1])
    pixels = _to_bytes(values)
    if pixels.ndim == 2 or pixels.shape[2] == 1:  # noqa: PLR2004
        return np.ascontiguousarray(pixels.reshape(pixels.shape[:2]))
    return image_to_grey(Image.fromarray(np.ascontiguousarray(pixels)), alpha)


def _to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError(f"the array of {values.dtype} has values outside [0, 1]; {_ACCEPTED}")
        pixels: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
        return pixels
    raise ImageError(f"an array of {values.dtype} is no line; {_ACCEPTED}")


def _check_size(height: int, width: int) -> None:
    if not height or not width:
        raise ImageError(f"the image is {width} x {height} pixels; give one that is not empty")
    if height * width > MAX_PIXELS:
        raise ImageError(too_large("the image"))
