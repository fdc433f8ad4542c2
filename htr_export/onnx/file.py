"""The only reader of what an ONNX file says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from htr_engines.backends.base import TensorInfo
from htr_engines.documents import parse_json
from htr_engines.errors import ExportError
from htr_engines.files import sha256_of
from htr_engines.preprocess import Preprocessing
from htr_export.graph_file import foreign_graph, load_graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto, ValueInfoProto

METADATA = ("charset", "preprocessing", "precision")  # without which a line model could not be used
AXES = (4, 3)  # of input and output


@dataclass(frozen=True)
class OnnxFile:
    """The facts of a line model."""

    path: Path
    sha256: str
    opset: int
    precision: str
    input: TensorInfo  # [N,1,H,W]
    output: TensorInfo  # [N,T,C]
    metadata: Mapping[str, str]
    preprocessing: Preprocessing  # of the graph's own width, where that is fixed

    @property
    def batch(self) -> int:
        """Lines per run: the graph's own number where it is fixed, else 1."""
        batch = self.input.shape[0]
        return batch if isinstance(batch, int) else 1


def read_onnx(path: Path) -> OnnxFile:
    """Read the facts of a line model.

    Raises:
        ExportError: if the file is missing, damaged, or no line model of this package.
    """
    model = load_graph(path)
    with foreign_graph(path):
        return _facts(path, model)


def _facts(path: Path, model: ModelProto) -> OnnxFile:
    metadata = metadata_of(model)
    if missing := [key for key in METADATA if key not in metadata]:
        raise ExportError(f"{path} does not say its {missing[0]}; give an ONNX file that 'htr-export onnx' wrote")
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ExportError(
            f"{path} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs, not one each"
        )
    image, logits = tensor_of(model.graph.input[0]), tensor_of(model.graph.output[0])
    if (len(image.shape), len(logits.shape)) != AXES or {image.dtype, logits.dtype} != {"float32"}:
        raise ExportError(f"{path} does not take and give float32 lines; export it again with 'htr-export onnx'")
    name, cure = f"{path}, preprocessing", "export it again with 'htr-export onnx'"
    preprocessing = parse_json(metadata["preprocessing"], Preprocessing, name, cure, ExportError)
    width = image.shape[3]
    if isinstance(width, int):
        preprocessing = replace(preprocessing, width=width)
    precision = metadata["precision"]
    return OnnxFile(path, sha256_of(path), opset_of(model), precision, image, logits, metadata, preprocessing)


def metadata_of(model: ModelProto) -> dict[str, str]:
    """Return the metadata by name."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: ModelProto) -> int:
    """Return the version of ONNX's own operators, 0 where the graph does not say it."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def tensor_of(value: ValueInfoProto) -> TensorInfo:
    """Return the facts of an input or output."""
    import onnx

    kind = value.type.tensor_type
    shape = tuple(axis.dim_param or int(axis.dim_value) or "unnamed" for axis in kind.shape.dim)
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else "none"
    return TensorInfo(value.name, dtype, shape)


def name_modules(path: Path, message: str) -> str:
    """Return a message of a foreign library with the module behind each name of a node in it."""
    from htr_export.precision.casting import module_of

    modules = {node.name: module_of(node) for node in load_graph(path).graph.node}

    def explain(found: re.Match[str]) -> str:
        name = found[0]
        module = modules.get(name, name)
        return name if module == name else f"{name} (module {module})"

    return re.sub(r"\w+", explain, message)
