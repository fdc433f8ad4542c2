"""The inference protocol of KServe, version 2, with Triton's extension for binary tensors.

One input, ``image`` (BYTES [N]: files of line images), and three outputs for each: ``text``, ``confidence`` and
``json`` (the reading as ``htr-read --json`` prints it). In JSON, where there are no bytes, an image is base64.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from htr_engines.documents import parse_json
from htr_engines.errors import DataError
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.ctc import Reading

HEADER_LENGTH = "inference-header-content-length"
INPUT = {"name": "image", "datatype": "BYTES", "shape": [-1]}
OUTPUTS = [
    {"name": "text", "datatype": "BYTES", "shape": [-1]},
    {"name": "confidence", "datatype": "FP32", "shape": [-1]},
    {"name": "json", "datatype": "BYTES", "shape": [-1]},
]
CURE = 'send one input "image" of BYTES'


@dataclass(frozen=True)
class _Parameters:
    binary_data_size: int | None = None
    binary_data: bool = False
    binary_data_output: bool = False


@dataclass(frozen=True)
class _Input:
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters = _Parameters()
    data: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class _Output:
    name: str
    parameters: _Parameters = _Parameters()


@dataclass(frozen=True)
class _Request:
    inputs: list[_Input]
    outputs: list[_Output] = field(default_factory=list)
    id: str = ""
    parameters: _Parameters = _Parameters()


@dataclass(frozen=True)
class Inference:
    """A request: the images, and the outputs asked for, each with whether it is to be binary."""

    id: str
    images: list[bytes]
    outputs: dict[str, bool]


def parse_inference(body: bytes, header_length: str | None) -> Inference:
    """Read a request.

    Args:
        body: of the HTTP request.
        header_length: the value of its header ``Inference-Header-Content-Length``, if there is one.

    Raises:
        DataError: if it is none, or asks for what the model does not have.
    """
    length = _header_length(header_length, len(body))
    request = parse_json(body[:length], _Request, "the request", CURE, DataError)
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT["name"] or request.inputs[0].datatype != "BYTES":
        raise DataError(f"the request should have one input of images; {CURE}")
    tensor = request.inputs[0]
    names = [output["name"] for output in OUTPUTS]
    for output in request.outputs:
        if output.name not in names:
            raise DataError(f"the model has no output {output.name!r}; ask for {', '.join(map(str, names))}")
    binary = request.parameters.binary_data_output
    wanted = {output.name: output.parameters.binary_data for output in request.outputs}
    if tensor.parameters.binary_data_size is not None:
        images = _split(body[length:], tensor.parameters.binary_data_size)
    else:
        images = [_from_base64(value) for value in tensor.data]
    if not images or len(images) != _size(tensor.shape):
        raise DataError(f"the input has shape {tensor.shape} but holds {len(images)} images; send as many as it says")
    return Inference(request.id, images, wanted or dict.fromkeys(map(str, names), binary))


def _header_length(value: str | None, most: int) -> int:
    if value is None:
        return most
    if not value.isascii() or not value.isdigit() or int(value[:12]) > most:
        raise DataError("the header Inference-Header-Content-Length is not the length of the JSON; send what it is")
    return int(value)


def _size(shape: Sequence[int]) -> int:
    """Return the number of images: the first axis; others have to be 1, as Triton's batches have them."""
    return shape[0] if shape and all(axis == 1 for axis in shape[1:]) else -1


def _split(content: bytes, size: int) -> list[bytes]:
    """Return the elements of a binary BYTES tensor: each after its length, 4 bytes, little-endian."""
    elements = []
    place = 0
    if size != len(content):
        raise DataError("binary_data_size is not the size of what follows the JSON; send what it is")
    while place < size:
        if place + 4 > size or (end := place + 4 + struct.unpack_from("<I", content, place)[0]) > size:
            raise DataError("an element of the binary input is cut off; send its length in 4 bytes before it")
        elements.append(content[place + 4 : end])
        place = end
    return elements


def _from_base64(value: Any) -> bytes:  # noqa: ANN401
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise DataError("an image in JSON is not base64; encode it, or send it as a binary tensor") from None


def answer(model: str, inference: Inference, readings: Sequence[Reading]) -> tuple[bytes, dict[str, str]]:
    """Return the body of the answer and its headers."""
    values: dict[str, list[Any]] = {
        "text": [reading.text for reading in readings],
        "confidence": [reading.confidence for reading in readings],
        "json": [to_json_text(reading.to_dict()) for reading in readings],
    }
    outputs, tensors = [], []
    for output in OUTPUTS:
        name = str(output["name"])
        if name not in inference.outputs:
            continue
        entry: dict[str, Any] = {**output, "shape": [len(readings)]}
        if inference.outputs[name]:
            tensors.append(_to_binary(values[name]))
            entry["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            entry["data"] = values[name]
        outputs.append(entry)
    document = {"model_name": model, "model_version": "1", "outputs": outputs}
    header = json.dumps({**document, "id": inference.id} if inference.id else document).encode()
    if not tensors:
        return header, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return header + b"".join(tensors), headers


def _to_binary(values: Sequence[str | float]) -> bytes:
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(
        struct.pack("<f", value) if isinstance(value, float) else struct.pack("<I", len(value)) + value
        for value in encoded
    )
