"""Reading lines of handwriting on the device: numpy and Pillow, and one engine. No PyTorch."""

from htr_engines.ctc import Reading, Span
from htr_engines.recognizer import LineResult, Recognizer

__all__ = ["LineResult", "Reading", "Recognizer", "Span"]
