"""What an ONNX file says of itself, read from its bytes before any engine sees them.

Engines trust more than they should: OpenVINO searches for minutes for an operator set of an absurd number, and any of
them opens the further files that a graph names. The wire format is that of Protocol Buffers, the field numbers are
those of ``onnx.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import EngineError
from htr_engines.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Axes = tuple[int | str, ...]

NEWEST_OPSET = 100  # ONNX 1.22 has 27
NEWEST_IR = 100
MAX_FIELDS = 500_000  # of a message and those within; a graph of size base has 60 000
MAX_STRUCTURE_BYTES = 32 << 20  # of all but the tensors' values, which a parser unpacks to many times as much
MAX_DEPTH = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_IR_VERSION, _GRAPH, _OPSET, _METADATA, _FUNCTION = 1, 7, 8, 14, 25  # of ModelProto
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12  # of GraphProto
_FUNCTION_OPSET = 9


@dataclass(frozen=True)
class OnnxFacts:
    """What a file says; an axis without a number has its name."""

    metadata: Mapping[str, str]
    inputs: tuple[Axes, ...]  # the graph's, in order
    outputs: tuple[Axes, ...]


def read_facts(content: bytes, name: str) -> OnnxFacts:
    """Read the facts of an ONNX file; ``name`` stands for it in messages.

    Raises:
        EngineError: if it is damaged, of an absurd version, or keeps tensors in other files, which no hash covers.
    """
    try:
        facts = _read(memoryview(content), name)
        # The key "location" of an external tensor is in the file's bytes, wherever the tensor stands.
        external = b"location" in content and _names_files(memoryview(content))
    except (ValueError, IndexError, UnicodeDecodeError):
        raise EngineError(f"{name} is not a whole ONNX file; export it again with 'htr-export onnx'") from None
    if external:
        raise EngineError(f"{name} keeps tensors in other files; export it again with 'htr-export onnx'")
    return facts


def _read(content: memoryview, name: str) -> OnnxFacts:
    metadata: dict[str, str] = {}
    inputs: list[Axes] = []
    outputs: list[Axes] = []
    graphs, values = 0, 0
    for number, value in _fields(content):
        if number == _IR_VERSION:
            _check_version(value, NEWEST_IR, "IR", name)
        elif number == _OPSET:
            _check_version(_number(value, 2), NEWEST_OPSET, "opset", name)
        elif number == _FUNCTION:
            for entry in _all(value, _FUNCTION_OPSET):
                _check_version(_number(entry, 2), NEWEST_OPSET, "opset", name)
        elif number == _METADATA:
            metadata[_text(value, 1)] = _text(value, 2)
        elif number == _GRAPH:
            graphs += 1
            values += sum(_values_bytes(tensor) for tensor in _all(value, _INITIALIZER))
            inputs += [_axes(entry) for entry in _all(value, _INPUT)]
            outputs += [_axes(entry) for entry in _all(value, _OUTPUT)]
    if not graphs or len(content) - values > MAX_STRUCTURE_BYTES:
        raise ValueError("no graph, or one of a size that no line model has")
    return OnnxFacts(metadata, tuple(inputs), tuple(outputs))


def _check_version(version: int | memoryview, newest: int, what: str, name: str) -> None:
    if not isinstance(version, int) or not 1 <= version <= newest:
        raise EngineError(f"{name} has the {what} version {shown(version)}, which does not exist; export it again")


def _names_files(content: memoryview) -> bool:
    """Say whether a pair of strings anywhere within has the key ``location``, as external tensors have.

    What a field holds is not known here, so bytes are tried as a message, and left alone where they are none.
    """
    level, fields = [content], 0
    for _ in range(MAX_DEPTH):
        inner: list[memoryview] = []
        for message in level:
            try:
                for number, value in _fields(message):
                    fields += 1
                    if fields > MAX_FIELDS:
                        return True
                    if isinstance(value, memoryview):
                        if number == 1 and bytes(value[:9]) == b"location":
                            return True
                        inner.append(value)
            except (ValueError, IndexError):
                continue
        level = [value for value in inner if b"location" in bytes(value)]
    return bool(level)


def _fields(message: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a message; other than integers and bytes are skipped.

    Raises:
        ValueError: if it is no message. ``IndexError`` likewise.
    """
    if isinstance(message, int):
        raise ValueError("a number is no message")  # noqa: TRY004 - it is the file that is wrong
    place, end, count = 0, len(message), 0
    while place < end:
        count += 1
        if count > MAX_FIELDS:
            raise ValueError("too many fields")
        tag, place = _varint(message, place)
        kind, number = tag & 7, tag >> 3
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif not size:
            raise ValueError("unknown wire type")
        if size > end - place:
            raise ValueError("cut short")
        if kind == _BYTES:
            yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, place
    raise ValueError("an integer without end")


def _values_bytes(tensor: int | memoryview) -> int:
    """Return the bytes of the longest field of a tensor: its values."""
    return max((len(value) for _, value in _fields(tensor) if isinstance(value, memoryview)), default=0)


def _all(message: int | memoryview, number: int) -> list[int | memoryview]:
    return [value for found, value in _fields(message) if found == number]


def _number(message: int | memoryview, number: int) -> int:
    """Return a number, 0 where it is missing, as the format has it; of several the last."""
    values = [value for value in _all(message, number) if isinstance(value, int)]
    return values[-1] if values else 0


def _text(message: int | memoryview, number: int) -> str:
    values = [value for value in _all(message, number) if isinstance(value, memoryview)]
    return bytes(values[-1]).decode("utf-8") if values else ""


def _axes(value_info: int | memoryview) -> Axes:
    """Return the shape of a ``ValueInfoProto``: type (2), tensor_type (1), shape (2), dim (1)."""
    level = [value_info]
    for number in (2, 1, 2, 1):
        level = [inner for message in level for inner in _all(message, number)]
    return tuple(_number(dim, 1) or _text(dim, 2) or "any" for dim in level)
