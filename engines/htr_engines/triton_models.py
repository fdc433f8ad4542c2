"""What Triton's Python backend runs: our own code before and after the network, so that lines read as elsewhere.

``htr-export triton`` writes the model repository whose ``model.py`` files name these classes. The backend brings the
module ``triton_python_backend_utils``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import infer_lines
from htr_engines.bundle import open_bundle
from htr_engines.decoder import decode_lines, open_decoder
from htr_engines.errors import HtrError, ImageError
from htr_engines.preprocess import fit_pixels, to_input
from htr_engines.selection import select
from htr_engines.sources import load_grey
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.bundle import Bundle

BUNDLE = "htr_preprocess/bundle"  # in the repository


def _open(arguments: dict[str, Any]) -> Bundle:
    return open_bundle(Path(os.fspath(arguments["model_repository"])).parent / BUNDLE)


class Preprocess:
    """Image files to the network's input, and the sizes of the images."""

    def initialize(self, arguments: dict[str, Any]) -> None:
        """Open the bundle."""
        self._spec = _open(arguments).preprocessing

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each of one or several images; one that cannot be read fails its own request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401
        import triton_python_backend_utils as triton

        images = triton.get_input_tensor_by_name(request, "image").as_numpy()
        try:
            lines = [self._load(content) for content in images.ravel()]
        except ImageError as error:
            reason = triton.TritonError(str(error), triton.TritonError.INVALID_ARG)
            return triton.InferenceResponse(error=reason)
        image_N1HW = to_input(np.stack([fit_pixels(line_HW, self._spec) for line_HW in lines]))
        shape_N2 = np.array([line_HW.shape for line_HW in lines], np.int32)
        tensors = [triton.Tensor("lines", image_N1HW), triton.Tensor("shape", shape_N2)]
        return triton.InferenceResponse(output_tensors=tensors)

    def _load(self, content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
        pages = load_grey(content, self._spec.alpha)
        if len(pages) > 1:
            raise ImageError(f"the image has {len(pages)} pages, and a line is one; send them one by one")
        return pages[0]


class Decode:
    """Logits and the sizes of the images to text, confidence and JSON."""

    def initialize(self, arguments: dict[str, Any]) -> None:
        """Open the bundle."""
        bundle = _open(arguments)
        self._spec, self._decode = bundle.preprocessing, open_decoder(bundle).decode

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each of one or several lines."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:  # noqa: ANN401
        import triton_python_backend_utils as triton

        logits_NTC = triton.get_input_tensor_by_name(request, "logits").as_numpy()
        shape_N2 = triton.get_input_tensor_by_name(request, "shape").as_numpy().tolist()
        readings = decode_lines(self._decode, logits_NTC, shape_N2, self._spec)
        columns: dict[str, Any] = {
            "text": np.array([[reading.text.encode()] for reading in readings], object),
            "confidence": np.array([[reading.confidence] for reading in readings], np.float32),
            "json": np.array([[to_json_text(reading.to_dict()).encode()] for reading in readings], object),
        }
        return triton.InferenceResponse(output_tensors=[triton.Tensor(*column) for column in columns.items()])


class Network:
    """The network on an engine of ours, where Triton has no backend for it."""

    def initialize(self, arguments: dict[str, Any]) -> None:
        """Open the engine that ``htr-read`` would take, on the threads of one instance."""
        parameters = json.loads(arguments["model_config"])["parameters"]
        self._engine = select(_open(arguments), threads=int(parameters["threads"]["string_value"])).engine

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the lines of all requests as one batch."""
        import triton_python_backend_utils as triton

        inputs = [triton.get_input_tensor_by_name(request, "lines").as_numpy() for request in requests]
        try:
            logits_NTC = infer_lines(self._engine, np.concatenate(inputs))
        except HtrError as error:
            return [triton.InferenceResponse(error=triton.TritonError(str(error))) for _ in requests]
        parts = np.split(logits_NTC, np.cumsum([len(lines) for lines in inputs])[:-1])
        return [triton.InferenceResponse(output_tensors=[triton.Tensor("logits", part)]) for part in parts]

    def finalize(self) -> None:
        """Free the engine."""
        self._engine.close()
