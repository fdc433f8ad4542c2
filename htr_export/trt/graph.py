"""The facts of an ONNX file that a build needs, and its node names for people."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.backends.base import TensorInfo
from htr_engines.errors import ExportError
from htr_engines.files import sha256_of
from htr_engines.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto, ValueInfoProto

METADATA = ("charset", "preprocessing", "precision")  # without which a plan could not be used
AXES = (4, 3)  # of input and output


@dataclass(frozen=True)
class OnnxGraph:
    """What an ONNX file says of itself."""

    path: Path
    sha256: str
    opset: int
    precision: str
    input: TensorInfo  # [N,1,H,W]
    output: TensorInfo  # [N,T,C]
    metadata: Mapping[str, str]
    preprocessing: Preprocessing


def read_graph(path: Path) -> OnnxGraph:
    """Read the facts of an ONNX file.

    Raises:
        ExportError: if it is missing, damaged, or no line model of this package.
    """
    model = _load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if missing := [key for key in METADATA if key not in metadata]:
        raise ExportError(f"{path} does not say its {missing[0]}; give an ONNX file that 'htr-export onnx' wrote")
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise ExportError(
            f"{path} has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs, not one each"
        )
    given, made = _tensor(model.graph.input[0]), _tensor(model.graph.output[0])
    if (len(given.shape), len(made.shape)) != AXES or {given.dtype, made.dtype} != {"float32"}:
        raise ExportError(f"{path} does not take and give float32 lines; export it again with 'htr-export onnx'")
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    try:
        preprocessing = Preprocessing.from_dict(json.loads(metadata["preprocessing"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportError(f"{path} has damaged metadata; export it again with 'htr-export onnx'") from None
    return OnnxGraph(path, sha256_of(path), opset, metadata["precision"], given, made, metadata, preprocessing)


def with_modules(path: Path, message: str) -> str:
    """Return a message of TensorRT with the module behind each name of a node in it."""
    from htr_export.precision.modules import module_of

    modules = {node.name: module_of(node) for node in _load(path).graph.node}

    def explain(found: re.Match[str]) -> str:
        name = found[0]
        module = modules.get(name, name)
        return name if module == name else f"{name} (module {module})"

    return re.sub(r"\w+", explain, message)


def _load(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ExportError(f"{path} does not exist; give an ONNX file")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        raise ExportError(f"{path} is not a whole ONNX file; export it again") from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError(f"{path} keeps its weights in another file; export it again with 'htr-export onnx'")
    return model


def _tensor(value: ValueInfoProto) -> TensorInfo:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(axis.dim_param or int(axis.dim_value) or "unnamed" for axis in kind.shape.dim)
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)) if kind.elem_type else "none"
    return TensorInfo(value.name, dtype, shape)
