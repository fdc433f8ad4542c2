"""What HTML reports are made of: escaped text, pictures inside the page, differences between texts."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from htr_engines.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from jinja2 import Environment
    from numpy.typing import NDArray

# Control characters, halves of surrogate pairs (from file names that are not UTF-8) and overrides of the
# direction of writing: they break terminals and pages, or make a text look like another.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Kind = Literal["equal", "missing", "added"]


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that was compared with another."""

    kind: Kind  # "missing": only in the text compared with; "added": only in the text shown
    text: str


def printable(text: str) -> str:
    r"""Return a text with what must not reach a terminal or a page written as ``\u001b``."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def compare_texts(expected: str, shown: str) -> list[Piece]:
    """Cut ``shown`` into the pieces in which it agrees with ``expected`` and those in which it does not."""
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        raise MissingExtraError("rapidfuzz", "export") from None
    pieces: list[Piece] = []
    for step in Levenshtein.opcodes(expected, shown):
        if step.tag == "equal":
            pieces.append(Piece("equal", shown[step.dest_start : step.dest_end]))
            continue
        if step.src_end > step.src_start:
            pieces.append(Piece("missing", expected[step.src_start : step.src_end]))
        if step.dest_end > step.dest_start:
            pieces.append(Piece("added", shown[step.dest_start : step.dest_end]))
    return pieces


def encode_png(grey_HW: NDArray[np.uint8]) -> bytes:
    """Return an 8-bit grey image as PNG."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(grey_HW).save(content, "PNG", optimize=True)
    return content.getvalue()


def data_uri(grey_HW: NDArray[np.uint8], height: int) -> str:
    """Return an image as a URI that holds it whole, scaled down to ``height`` pixels if it is higher."""
    from PIL import Image

    if grey_HW.shape[0] > height:
        import numpy as np

        width = max(1, round(grey_HW.shape[1] * height / grey_HW.shape[0]))
        grey_HW = np.asarray(Image.fromarray(grey_HW).resize((width, height), Image.Resampling.BICUBIC))
    return "data:image/png;base64," + base64.b64encode(encode_png(grey_HW)).decode("ascii")


def html_environment(package: str) -> Environment:
    """Return the templates ``*.j2`` of a package; every value is escaped unless the template says otherwise.

    Args:
        package: dotted name of the package whose folder holds the templates.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "export") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = lambda value: printable(str(value))
    environment.filters["md"] = _markdown
    return environment


def _markdown(value: Any) -> str:  # noqa: ANN401
    """Escape a value for a cell of a Markdown table."""
    escaped = html.escape(printable(str(value)), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$^-])", r"\\\1", escaped)
