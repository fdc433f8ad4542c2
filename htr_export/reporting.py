"""What every report is made of: the JSON envelope, escaped text, pictures inside the page, text differences."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from htr_engines.errors import MissingExtraError
from htr_engines.files import write_text
from htr_engines.text import printable, to_json_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from jinja2 import Environment
    from numpy.typing import NDArray

Kind = Literal["equal", "missing", "added"]


@dataclass(frozen=True)
class Piece:
    """A stretch of a text that was compared with another."""

    kind: Kind  # "missing": only in the text compared with; "added": only in the text shown
    text: str


def document(
    kind: str,
    content: Mapping[str, Any],
    *,
    units: Mapping[str, str] | None = None,
    environment: Mapping[str, Any] | None = None,
    schema_version: int = 1,
) -> dict[str, Any]:
    """Return a report as a JSON document: what it is, when, how and where it was made, and its content.

    Args:
        kind: the command and its product, such as ``htr-export validation``.
        content: the fields of this kind of report.
        units: of the figures, by field.
        environment: by :func:`htr_engines.host.describe_environment`, where it was described before the work; by
            default it is described now.
        schema_version: of this kind of report.
    """
    from htr_engines.host import command_line, describe_environment

    return {
        "schema_version": schema_version,
        "kind": kind,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command_line(),
        "environment": describe_environment() if environment is None else dict(environment),
        "units": dict(units or {}),
        **content,
    }


def to_json(report: Mapping[str, Any]) -> str:
    """Return a document as JSON in valid UTF-8, whatever file names it holds; what is not finite becomes null."""
    return to_json_text(_without_nan(report), indent=1) + "\n"


def write_document(path: Path, report: Mapping[str, Any]) -> None:
    """Write a document as JSON, atomically."""
    write_text(path, to_json(report))


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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

    ``page.css.j2`` is there for all.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("jinja2", "export") from None
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(name, "") for name in (package, "htr_export")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = lambda value: printable(str(value))
    environment.filters["md"] = markdown
    return environment


def markdown(value: object) -> str:
    """Escape a value for a cell of a Markdown table."""
    escaped = html.escape(printable(str(value)), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$^-])", r"\\\1", escaped)
