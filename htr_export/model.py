"""The network ready for inference with all that belongs to it, in memory and as ``.safetensors``."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from htr_engines.backends.base import MAX_MODEL_BYTES
from htr_engines.errors import CheckpointError, FileError, one_line
from htr_engines.files import atomic_path, read_file, sha256_of
from htr_engines.preprocess import Preprocessing
from htr_export.checkpoint import infer_config, inference_tensors, read_checkpoint
from htr_export.metadata import FORMAT, PROVENANCE, SCHEMA_VERSION, parse_metadata, read_metadata
from htr_export.network.model import HTRConvText

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from htr_engines.charset import Charset
    from htr_export.checkpoint import Checkpoint, Weights
    from htr_export.network.config import NetworkConfig


@dataclass(frozen=True)
class Model:
    """An inference network without code: its size, its characters, its tensors and where they came from."""

    config: NetworkConfig
    charset: Charset
    tensors: Mapping[str, Tensor]
    provenance: Mapping[str, str]  # by the names in PROVENANCE, those that are known

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network wants its lines."""
        return Preprocessing(width=self.config.image_width)

    def network(self) -> HTRConvText:
        """Return the network, ready for inference. It shares the tensors."""
        with torch.device("meta"):
            network = HTRConvText(self.config)
        network.load_state_dict(dict(self.tensors), strict=True, assign=True)
        network.materialise_constants()
        return network.eval().requires_grad_(False)

    def metadata(self) -> dict[str, str]:
        """Return all but the tensors as strings, as every artefact carries them."""
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "network": json.dumps(self.config.to_dict()),
            "charset": self.charset.characters,
            "num_classes": str(self.config.num_classes),
            "preprocessing": json.dumps(self.preprocessing.to_dict()),
            "precision": "fp32",
            **self.provenance,
        }


def model_from_checkpoint(
    checkpoint: Checkpoint, source_sha256: str, charset: Charset | None = None, weights: Weights | None = None
) -> Model:
    """Take the inference network out of a training checkpoint: the averaged weights (``ema``) where there are some.

    Checkpoints of our own training carry their characters.

    Raises:
        CheckpointError: if it is of another network.
        CharsetError: if the characters do not fit the head.
    """
    weights = weights or checkpoint.default_weights
    state = checkpoint.state(weights)
    config = checkpoint.config or infer_config(state)
    charset = charset or checkpoint.charset
    if charset is None:
        raise CheckpointError(
            "the checkpoint does not say which characters it writes; give --dataset (iam, read2016, lam, vnondb) or "
            "--charset FILE"
        )
    charset.check_fits(config.num_classes)
    provenance = {"source_sha256": source_sha256, "weights": weights}
    if (iteration := checkpoint.number("nb_iter")) is not None:
        provenance["iteration"] = f"{iteration:.0f}"
    for name in ("best_cer", "best_wer"):
        if (rate := checkpoint.number(name)) is not None:
            provenance[name] = f"{rate:g}"
    return Model(config, charset, inference_tensors(state, config), provenance)


def save_model(model: Model, path: Path) -> None:
    """Write a model as ``.safetensors``, atomically."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_path(path) as temporary:
            save_file(dict(model.tensors), temporary, metadata=model.metadata())
    except SafetensorError as error:  # how it reports other failures than a full disk
        raise OSError(errno.EIO, one_line(error), str(path)) from None


def load_model(path: Path, content: bytes | None = None) -> Model:
    """Read a ``.safetensors`` that :func:`save_model` wrote, from ``content`` where its file has been read already.

    Raises:
        CheckpointError: if it is damaged, or not one of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_file(path, MAX_MODEL_BYTES) if content is None else content
        tensors = load(content)
    except FileError as error:
        raise CheckpointError(str(error)) from None
    except (SafetensorError, KeyError) as error:  # KeyError: of a type that this PyTorch does not have
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({one_line(error)}); strip the checkpoint again"
        ) from None
    metadata = read_metadata(content, str(path))
    charset, config = parse_metadata(metadata, str(path))
    charset.check_fits(config.num_classes)
    provenance = {name: metadata[name] for name in PROVENANCE if name in metadata}
    return Model(config, charset, inference_tensors(tensors, config), provenance)


def load_any(
    path: Path, charset: Charset | None = None, weights: Weights | None = None, content: bytes | None = None
) -> Model:
    """Read a ``.safetensors`` of ours, from ``content`` if that is given, or anything else as a training checkpoint."""
    if path.suffix == ".safetensors":
        if charset or weights:
            raise CheckpointError(f"{path} carries its own characters and weights; leave the options for them out")
        return load_model(path, content)
    return model_from_checkpoint(read_checkpoint(path), sha256_of(path), charset, weights)
