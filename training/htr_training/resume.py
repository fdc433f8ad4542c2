"""Beginning where a training stopped: the same one, a published one, or one for other characters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from htr_engines.errors import CharsetError, CheckpointError, one_line
from htr_engines.text import shown
from htr_export.checkpoint import check_sizes, inference_tensors, is_state_dict, read_checkpoint
from htr_training.errors import TrainingError

if TYPE_CHECKING:
    from torch import nn

    from htr_engines.charset import Charset
    from htr_export.checkpoint import Checkpoint
    from htr_training.state import TrainingState

LAST = "last.pth"
MOMENTS = ("exp_avg", "exp_avg_sq")
MAX_ITERATIONS = 2**31


def find_checkpoint(output: Path, resume: str | None) -> Path | None:
    """Return the checkpoint to continue from.

    Args:
        output: the training's folder.
        resume: ``auto`` for the folder's last one, if there is one; a file; or None to are trained from the start.

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
    if isinstance(scaler := content.get("scaler"), Mapping) and set(scaler) == set(state.scaler.state_dict()):
        state.scaler.load_state_dict(dict(scaler))
    state.iteration = _iteration_of(checkpoint, path)
    for name in ("best_cer", "best_wer"):
        if (rate := checkpoint.number(name)) is not None:
            setattr(state, name, rate)
    return [note for note in notes if note]


def _iteration_of(checkpoint: Checkpoint, path: Path) -> int:
    """Return the iterations done, 0 of bare weights."""
    iteration = checkpoint.number("nb_iter")
    if "nb_iter" not in checkpoint.content:
        return 0
    if iteration is None or not 0 <= iteration < MAX_ITERATIONS:
        raise CheckpointError(
            f"{path} does not say at which iteration it was saved ({shown(checkpoint.content['nb_iter'])}); "
            "take an earlier checkpoint, or start from it with --init-from"
        )
    return int(iteration)


def _tcm_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's textual context module, none if it has no such module."""
    saved = checkpoint.content.get("tcm_head")
    if not is_state_dict(saved):
        return {}
    tensors = {name.removeprefix("module."): tensor for name, tensor in saved.items()}
    check_sizes(tensors)
    return tensors


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


def _restore_moments(optimizer: torch.optim.Optimizer, saved: object) -> str | None:
    """Take over the moments; rates and decay stay the recipe's, so that they can be changed on the way."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = saved.get("state") if isinstance(saved, Mapping) else None
    try:
        if not isinstance(moments, Mapping) or set(moments) != set(range(len(parameters))):
            raise ValueError("of other parameters")  # noqa: TRY301 - one answer to all that does not fit
        kept = {number: _moments(moments[number], parameter) for number, parameter in enumerate(parameters)}
    except (ValueError, TypeError, RuntimeError):
        return "the checkpoint's optimiser state does not fit; its moments are collected again"
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    return None


def _moments(item: object, parameter: Tensor) -> dict[str, Tensor]:
    """Return what AdamW keeps of one parameter; ``ValueError`` if that is not what was saved."""
    if not isinstance(item, Mapping):
        raise ValueError("not a dictionary")  # noqa: TRY004 - the file is wrong, not the call
    step = torch.as_tensor(item.get("step", math.nan), dtype=torch.float32)
    moments = {name: item.get(name) for name in MOMENTS}
    for moment in (step, *moments.values()):
        if not isinstance(moment, Tensor) or moment.layout != torch.strided or moment.device.type != "cpu":
            raise ValueError("not a dense tensor")
        if moment.shape != (() if moment is step else parameter.shape) or not bool(moment.isfinite().all()):
            raise ValueError("of another shape, or not finite")
    return {"step": step, **{name: moment.contiguous() for name, moment in moments.items() if moment is not None}}


def initialise_from(state: TrainingState, path: Path, source_charset: Charset | None = None) -> list[str]:
    """Start a new training from another one's weights, on another character set too.

    Everything but what depends on the characters is taken over. Of that, each character that both sets have
    keeps its weights; the others are trained from the start.

    Returns:
        What was not taken over, one sentence each.
    """
    checkpoint = read_checkpoint(path)
    source = checkpoint.charset or source_charset
    tensors = checkpoint.state(checkpoint.default_weights)
    network = state.learner.network
    if "head.weight" not in tensors or not tensors["head.weight"].ndim:
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
    notes = [f"{known}, the others are trained from the start"]
    if state.learner.tcm is not None:
        notes.append(_initialise_tcm(state.learner.tcm, checkpoint, rows))
    return notes


def _initialise_tcm(tcm: nn.Module, checkpoint: Checkpoint, rows: dict[int, int]) -> str:
    saved = _tcm_of(checkpoint)
    own = tcm.state_dict()
    vocabulary = ("emb.weight", "classifier.weight", "classifier.bias")
    classes = len(saved["classifier.bias"]) if saved.get("classifier.bias", torch.zeros(())).ndim else 0
    shapes = {name: (classes, *own[name].shape[1:]) if name in vocabulary else own[name].shape for name in own}
    if not classes or {name: saved[name].shape for name in saved} != shapes:
        return "the textual context module is trained from the start, since the checkpoint has none of this width"
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
