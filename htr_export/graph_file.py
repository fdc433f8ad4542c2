"""Opening an ONNX graph that anybody may have made."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from htr_engines.backends.base import ModelFile
from htr_engines.errors import EngineError, ExportError, HtrError, one_line
from htr_engines.onnx_facts import read_facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from onnx import ModelProto


def load_graph(path: Path | ModelFile) -> ModelProto:
    """Read an ONNX file, or take the bytes that were read of it.

    Raises:
        ExportError: if it is missing, damaged, of an absurd version or size, or keeps its weights elsewhere.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        content = (path if isinstance(path, ModelFile) else ModelFile(path)).content
        read_facts(content, str(path))
        return onnx.load_model_from_string(content)
    except EngineError as error:
        raise ExportError(str(error)) from None
    except DecodeError:
        raise ExportError(f"{path} is not a whole ONNX file; export it again") from None


@contextlib.contextmanager
def foreign_graph(path: Path | ModelFile) -> Iterator[None]:
    """Turn whatever a library raises over a graph that is not as it should be into one error.

    Raises:
        ExportError: saying which file it is.
    """
    try:
        yield
    except (HtrError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ExportError(f"{path} is not a graph of a line model ({one_line(error)}); export it again") from error
