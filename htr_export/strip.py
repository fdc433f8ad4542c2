"""From a training checkpoint to the network that runs, and an account of what was left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.files import sha256_of
from htr_export.checkpoint import STATE_KEYS, TRAINING_ONLY, read_checkpoint
from htr_export.model import model_from_checkpoint, save_model

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_export.checkpoint import Weights
    from htr_export.model import Model


@dataclass(frozen=True)
class StripReport:
    """What a checkpoint held beside the network, in tensors and bytes."""

    model: Model
    weights: Weights  # the ones kept
    tcm_tensors: tuple[str, ...]
    mask_token: bool
    optimizer_bytes: int
    other_weights_bytes: int  # the running weights where the averaged ones were kept, or the reverse
    bytes_before: int
    bytes_after: int


def strip_checkpoint(
    source: Path,
    target: Path,
    charset: Charset | None = None,
    weights: Weights | None = None,
    sha256: str | None = None,
) -> StripReport:
    """Write the inference network of a checkpoint as ``.safetensors``.

    Raises:
        CheckpointError: if it cannot be read, is unsafe, or is of another network.
        CharsetError: if the characters do not fit the head.
    """
    checkpoint = read_checkpoint(source)
    model = model_from_checkpoint(checkpoint, sha256 or sha256_of(source), charset, weights)
    save_model(model, target)
    kept = model.provenance["weights"]
    other = "model" if kept == "ema" else "ema"
    state = checkpoint.state(kept)
    tcm = checkpoint.content.get("tcm_head")
    inside = [name for name in state if name.startswith(TRAINING_ONLY) and name != "mask_token"]
    return StripReport(
        model=model,
        weights=kept,
        tcm_tensors=(*inside, *(tcm if isinstance(tcm, dict) else ())),
        mask_token="mask_token" in state,
        optimizer_bytes=checkpoint.bytes_of("optimizer"),
        other_weights_bytes=checkpoint.bytes_of(STATE_KEYS[other]),
        bytes_before=source.stat().st_size,
        bytes_after=target.stat().st_size,
    )
