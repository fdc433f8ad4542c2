"""Beginning where a training stopped: the same one, a published one, or one for other characters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from htr_engines.errors import CharsetError, CheckpointError, one_line
from htr_export.checkpoint import inference_tensors, read_checkpoint
from htr_training.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from htr_engines.charset import Charset
    from htr_export.checkpoint import Checkpoint
    from htr_training.state import TrainingState

LAST = "last.pth"
MOMENTS = ("exp_avg", "exp_avg_sq")


def find_checkpoint(output: Path, resume: str | None) -> Path | None:
    """Return the checkpoint to continue from.

    Args:
        output: the training's folder.
        resume: ``auto`` for the folder's last one, if there is one; a file; or None to begin anew.

    Raises:
        TrainingError: if a training that is there already would be overwritten.
    """
    last = output / LAST
    if resume == "auto":
        return last if last.exists() else None
    if resume is not None:
        return Path(resume)
    if last.exists():
        raise TrainingError(
            f"{output} already holds a training; give --resume auto to continue it, or another --output"
        )
    return None


def restore(state: TrainingState, path: Path) -> list[str]:
    """Continue a training from its checkpoint, ours or a published one.

    Args:
        state: a new training of the same network and character set; changed in place.
        path: the checkpoint.

    Returns:
        What could not be taken over, one sentence each.

    Raises:
        CheckpointError: if the checkpoint is of another network.
        CharsetError: if it is of another character set.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.charset is not None and checkpoint.charset != state.charset:
        raise CharsetError(
            f"{path} was trained for other characters ({_difference(checkpoint.charset, state.charset)}); "
            "set data.charset to what it was trained with, or start from it with --init-from"
        )
    config = state.learner.network.config
    state.learner.network.load_state_dict(inference_tensors(checkpoint.state("model"), config))
    state.average.network.load_state_dict(inference_tensors(checkpoint.state(checkpoint.default_weights), config))
    content = checkpoint.content
    notes = [
        _restore_tcm(state, _tcm_of(checkpoint)),
        _restore_moments(state.optimizer, content.get("optimizer")),
    ]
    if content.get("scaler"):
        state.scaler.load_state_dict(content["scaler"])
    state.iteration = int(checkpoint.number("nb_iter") or 0)
    for name in ("best_cer", "best_wer"):
        if (rate := checkpoint.number(name)) is not None:
            setattr(state, name, rate)
    return [note for note in notes if note]


def _tcm_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's textual context module, none if it has no such module."""
    saved = checkpoint.content.get("tcm_head") or {}
    return {name.removeprefix("module."): tensor for name, tensor in saved.items()}


def _restore_tcm(state: TrainingState, saved: Mapping[str, Tensor]) -> str | None:
    if state.learner.tcm is None:
        return None
    if not saved:
        return "the checkpoint has no textual context module; a new one is trained"
    try:
        state.learner.tcm.load_state_dict(saved)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's textual context module does not fit the recipe's loss.tcm_width or characters "
            f"({one_line(error, last=True).rstrip('.')}); set them to what it was trained with"
        ) from None
    return None


def _restore_moments(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any] | None) -> str | None:
    """Take over the moments; rates and decay stay the recipe's, so that they can be changed on the way."""
    fresh = "the checkpoint's optimiser state does not fit; its moments are collected anew"
    moments = saved.get("state") if saved else None
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not moments or not all(name in item for item in moments.values() for name in (*MOMENTS, "step")):
        return fresh
    shapes = {number: parameter.shape for number, parameter in enumerate(parameters)}
    if {number: item[MOMENTS[0]].shape for number, item in moments.items()} != shapes:
        return fresh
    kept = {
        number: {
            "step": torch.as_tensor(item["step"], dtype=torch.float32),
            **{name: item[name] for name in MOMENTS},
        }
        for number, item in moments.items()
    }
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    return None


def initialise_from(state: TrainingState, path: Path, source_charset: Charset | None = None) -> list[str]:
    """Start a new training from another one's weights, on another character set too.

    Everything but what depends on the characters is taken over. Of that, each character that both sets have
    keeps its weights; the others start anew.

    Args:
        state: a new training; changed in place.
        path: a checkpoint of the same network size.
        source_charset: its characters, if it does not say.

    Returns:
        What was made anew, one sentence each.
    """
    checkpoint = read_checkpoint(path)
    source = checkpoint.charset or source_charset
    tensors = checkpoint.state(checkpoint.default_weights)
    network = state.learner.network
    if "head.weight" not in tensors:
        raise CheckpointError(f"{path} has no head.weight; it is not of HTR-ConvText")
    config = replace(network.config, num_classes=len(tensors["head.weight"]))
    rows = _matching_rows(source, state.charset, config.num_classes)
    tensors = inference_tensors(tensors, config)
    own = network.state_dict()
    for name in ("head.weight", "head.bias"):
        tensors[name] = _take_rows(own[name], tensors[name], rows)
    network.load_state_dict(tensors)
    state.average.network.load_state_dict(tensors)
    known = f"{len(rows) - 1} of {len(state.charset.characters)} characters keep their weights in the head"
    notes = [f"{known}, the others begin anew"]
    if state.learner.tcm is not None:
        notes.append(_initialise_tcm(state.learner.tcm, checkpoint, rows))
    return notes


def _initialise_tcm(tcm: nn.Module, checkpoint: Checkpoint, rows: dict[int, int]) -> str:
    saved = _tcm_of(checkpoint)
    own = tcm.state_dict()
    vocabulary = ("emb.weight", "classifier.weight", "classifier.bias")
    rest = own.keys() - set(vocabulary)
    if saved.keys() != own.keys() or any(saved[name].shape != own[name].shape for name in rest):
        return "the textual context module begins anew, since the checkpoint has none of this width"
    # <pad> is the last row of either vocabulary.
    rows = {**rows, len(own["classifier.bias"]) - 1: len(saved["classifier.bias"]) - 1}
    tcm.load_state_dict(
        {name: _take_rows(own[name], saved[name], rows) if name in vocabulary else saved[name] for name in own}
    )
    return f"the textual context module keeps {len(rows) - 2} characters of its vocabulary"


def _matching_rows(source: Charset | None, target: Charset, num_classes: int) -> dict[int, int]:
    """Return target class -> source class, for the blank and every character that both have."""
    if source is None:
        return {0: 0}
    source.check_fits(num_classes)
    classes = {character: number for number, character in enumerate(source.characters, 1)}
    shared = {number: classes[c] for number, c in enumerate(target.characters, 1) if c in classes}
    return {0: 0, **shared}


def _take_rows(own: Tensor, source: Tensor, rows: dict[int, int]) -> Tensor:
    result = own.clone()
    result[list(rows.keys())] = source[list(rows.values())].to(own)
    return result


def _difference(one: Charset, other: Charset) -> str:
    only_one = "".join(sorted(one.missing_from(other.characters)))
    only_other = "".join(sorted(other.missing_from(one.characters)))
    if not only_one and not only_other:
        return "the same ones in another order"
    return f"now also {only_one!r}, no longer {only_other!r}"
