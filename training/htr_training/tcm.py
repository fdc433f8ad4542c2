"""The textual context module (TCM): in training, it predicts each character from its neighbours and the line.

That teaches the encoder what tends to stand beside what; reading needs no TCM, and exports hold none.

Tensor names end in their axes: N batch, S characters of the longest transcript, K characters of context,
T frames, D embedding, E text width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from htr_training.recipe import LossRecipe


class Contexts(NamedTuple):
    """Each character's neighbours as ids of the TCM's vocabulary."""

    left: Tensor  # int64 [N,S,K], in reading order, padded on the left
    right: Tensor  # int64 [N,S,K], in reading order, padded on the right


def contexts(target_NS: Tensor, length_N: Tensor, size: int, pad: int) -> Contexts:
    """Collect the ``size`` characters before and after each character.

    Args:
        target_NS: int64 classes; what stands past a line's length is not looked at.
        length_N: int64, characters of each line.
        size: K.
        pad: the id of ``<pad>``, also everywhere past a line's end.
    """
    steps = target_NS.shape[1]
    valid_NS = valid(target_NS, length_N)
    padded = functional.pad(target_NS.masked_fill(~valid_NS, pad), (size, size), value=pad)
    windows = padded.unfold(1, 2 * size + 1, 1)[:, :steps]
    outside = ~valid_NS[..., None]
    return Contexts(windows[..., :size].masked_fill(outside, pad), windows[..., size + 1 :].masked_fill(outside, pad))


def valid(target_NS: Tensor, length_N: Tensor) -> Tensor:
    """Return bool [N,S]: whether a place is within its line."""
    return torch.arange(target_NS.shape[1], device=target_NS.device) < length_N[:, None]


class TextualContext(nn.Module):
    """Predicts characters from their left and from their right context."""

    def __init__(self, num_classes: int, dim: int, recipe: LossRecipe) -> None:
        super().__init__()
        width = recipe.tcm_width
        self.pad = num_classes
        self.context = recipe.tcm_context
        self.dropout = recipe.tcm_dropout
        self.dir_left = nn.Parameter(torch.zeros(1, 1, width))
        self.dir_right = nn.Parameter(torch.zeros(1, 1, width))
        self.emb = nn.Embedding(num_classes + 1, width, padding_idx=self.pad)
        self.ctx_conv = nn.Conv1d(width, width, 3, padding=1)
        self.txt_proj = nn.Linear(width, dim)
        self.q_norm = nn.LayerNorm(dim)
        self.kv_norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes + 1)
        nn.init.normal_(self.dir_left, std=0.02)
        nn.init.normal_(self.dir_right, std=0.02)

    def forward(self, features_NTD: Tensor, target_NS: Tensor, length_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits [N,S,C+1] from the left and from the right contexts."""
        near = contexts(target_NS, length_N, self.context, self.pad)
        memory_NTD = self.kv_norm(features_NTD)
        return (
            self._predict(near.left, self.dir_left, memory_NTD),
            self._predict(near.right, self.dir_right, memory_NTD),
        )

    def _predict(self, context_NSK: Tensor, direction_11E: Tensor, memory_NTD: Tensor) -> Tensor:
        n, steps, size = context_NSK.shape
        text = self.emb(context_NSK).reshape(n * steps, size, -1).transpose(1, 2)
        text_NSE = self.ctx_conv(text).mean(2).reshape(n, steps, -1) + direction_11E
        query_NSD = self.q_norm(self.txt_proj(text_NSE))
        weight_NST = (query_NSD @ memory_NTD.transpose(1, 2) * memory_NTD.shape[-1] ** -0.5).softmax(-1)
        seen_NSD = functional.dropout(weight_NST @ memory_NTD, self.dropout, self.training)
        logits_NSC: Tensor = self.classifier(seen_NSD)
        return logits_NSC
