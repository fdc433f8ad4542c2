"""Reading lines of handwriting on the device: numpy and Pillow, and one engine. No PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from htr_engines.ctc import Reading, Span
    from htr_engines.recognizer import LineResult, Recognizer

__all__ = ["LineResult", "Reading", "Recognizer", "Span"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the public names when first asked for: the commands share this package and start without numpy."""
    if name in {"Reading", "Span"}:
        from htr_engines import ctc

        return getattr(ctc, name)
    if name in {"LineResult", "Recognizer"}:
        from htr_engines import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
