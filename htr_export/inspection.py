"""What an artefact is, without running it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from htr_engines.documents import parse_json
from htr_engines.errors import HtrError, one_line
from htr_engines.files import is_folder, sha256_of
from htr_engines.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.base import TensorInfo

SCHEMA_VERSION = 1


class UnknownArtefactError(HtrError, ValueError):
    """A file that is none of the kinds this project writes or reads."""


def inspect_artefact(path: Path) -> dict[str, Any]:
    """Describe a checkpoint, a ``.safetensors``, an ONNX file, a plan or a bundle.

    Returns:
        Facts by name, fit for JSON.

    Raises:
        UnknownArtefactError: if its kind is unknown.
        HtrError: if it is damaged.
    """
    if is_folder(path):
        return {"schema_version": SCHEMA_VERSION, "kind": "bundle", **_bundle(path)}
    describe = {".safetensors": _safetensors, ".onnx": _onnx, ".plan": _plan}.get(path.suffix.lower(), _checkpoint)
    digest = sha256_of(path)  # first, since it says what is wrong with the path
    facts = {"schema_version": SCHEMA_VERSION, "file": path.name, "bytes": path.stat().st_size, "sha256": digest}
    return {**facts, **describe(path)}


def _checkpoint(path: Path) -> dict[str, Any]:
    from htr_export.checkpoint import infer_config, read_checkpoint

    checkpoint = read_checkpoint(path)
    state = checkpoint.state(checkpoint.default_weights)
    config = checkpoint.config or infer_config(state)
    return {
        "kind": "checkpoint",
        "network": config.to_dict(),
        "charset": checkpoint.charset.characters if checkpoint.charset else None,
        "iteration": checkpoint.number("nb_iter"),
        "best_cer": checkpoint.number("best_cer"),
        "best_wer": checkpoint.number("best_wer"),
        "generation": "v1" if "mask_token" in state else "v2",
        "parameters": sum(tensor.numel() for tensor in state.values() if tensor.is_floating_point()),
        "entries_bytes": {_key(name): checkpoint.bytes_of(name) for name in checkpoint.content},
    }


def _key(name: object) -> str:
    return name if isinstance(name, str) else shown(name)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
    except SafetensorError as error:
        raise UnknownArtefactError(
            f"{path} is not a whole safetensors file ({one_line(error)}); write it again"
        ) from None
    return {"kind": "model", "tensors": len(names), **_readable(metadata)}


def _onnx(path: Path) -> dict[str, Any]:
    from collections import Counter

    from htr_export.graph_file import foreign_graph, load_graph
    from htr_export.onnx.file import metadata_of, opset_of, tensor_of

    model = load_graph(path)
    with foreign_graph(path):
        operators = Counter(node.op_type for node in model.graph.node)
        return {
            "kind": "onnx",
            "opset": opset_of(model),
            "producer": f"{model.producer_name} {model.producer_version}".strip(),
            "inputs": [_in_words(tensor_of(value)) for value in model.graph.input],
            "outputs": [_in_words(tensor_of(value)) for value in model.graph.output],
            "nodes": len(model.graph.node),
            "operators": dict(operators.most_common()),
            **_readable(metadata_of(model)),
        }


def _in_words(tensor: TensorInfo) -> str:
    return f"{tensor.name} [{', '.join(map(str, tensor.shape))}]"


def _plan(path: Path) -> dict[str, Any]:
    """Tell what the sidecar says, since a plan can be read on its GPU alone."""
    from htr_engines.backends.tensorrt.sidecar import content_mismatch, gpus_of, read_sidecar

    sidecar = read_sidecar(path)
    facts = asdict(sidecar)
    facts |= _readable(facts.pop("metadata"))
    facts |= {"log": facts.pop("log"), "environment": facts.pop("environment")}  # last, since they are long
    return {"kind": "plan", "intact": not content_mismatch(sidecar, path), "gpus": gpus_of(sidecar), **facts}


def _bundle(path: Path) -> dict[str, Any]:
    from htr_engines.bundle import open_bundle

    bundle = open_bundle(path)
    manifest = dict(bundle.manifest)
    return {
        "bundle_schema_version": manifest.pop("schema_version"),
        "files_intact": not bundle.changed_files(),
        **manifest,
    }


def _readable(metadata: dict[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = dict(metadata)
    facts.pop("schema_version", None)
    for name in ("network", "preprocessing", "precision_map", "calibration"):
        if name in facts:
            facts[name] = parse_json(facts[name], dict, f"the metadata {name!r}", "write the file again")
    return facts
