"""What the network learns from: CTC, and the prediction of characters from their context."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from htr_training import distributed
from htr_training.guide import guide_loss
from htr_training.tcm import TextualContext, valid

if TYPE_CHECKING:
    from htr_export.network.model import HTRConvText
    from htr_training.recipe import LossRecipe

IGNORED = -100  # the class of places past the end of a text


class Losses(NamedTuple):
    """The parts of the loss over one batch, each a scalar."""

    total: Tensor
    ctc: Tensor
    tcm: Tensor


def ctc_per_line(logits_NTC: Tensor, target_NS: Tensor, length_N: Tensor) -> Tensor:
    """Return the CTC loss of each line [N], not divided by its length, 0 for a text that is too long."""
    log_p_TNC = logits_NTC.float().log_softmax(-1).transpose(0, 1)
    frames_N = torch.full_like(length_N, log_p_TNC.shape[0])
    return functional.ctc_loss(log_p_TNC, target_NS, frames_N, length_N, blank=0, reduction="none", zero_infinity=True)


def tcm_loss(logits: tuple[Tensor, Tensor], target_NS: Tensor, length_N: Tensor) -> Tensor:
    """Return the mean cross-entropy of both directions over the characters of the joint batch."""
    inside_NS = valid(target_NS, length_N)
    target = target_NS.masked_fill(~inside_NS, IGNORED).flatten()
    left, right = (
        functional.cross_entropy(part.float().flatten(0, 1), target, ignore_index=IGNORED, reduction="sum")
        for part in logits
    )
    return (left + right) / (2 * distributed.mean(inside_NS.sum().float()).clamp(min=1))


class Learner(nn.Module):
    """The network, its TCM, and the loss of both: one module, so that several processes can share it."""

    def __init__(self, network: HTRConvText, tcm: TextualContext | None, recipe: LossRecipe) -> None:
        super().__init__()
        self.network = network
        self.tcm = tcm
        self.recipe = recipe

    def forward(self, image_N1HW: Tensor, target_NS: Tensor, length_N: Tensor, guide_share: float = 0.0) -> Losses:
        """Return the losses of a batch; ``image_N1HW`` is float in [0,1], the guide's share is of CTC's weight."""
        features_NTD = self.network.features(image_N1HW)
        logits_NTC = self.network.head(features_NTD)
        ctc = ctc_per_line(logits_NTC, target_NS, length_N).mean()
        reading = ctc
        if guide_share:
            guide = guide_loss(logits_NTC, image_N1HW, target_NS, length_N)
            reading = guide_share * guide + (1 - guide_share) * ctc
        tcm = ctc.new_zeros(())
        if self.tcm is not None:
            tcm = tcm_loss(self.tcm(features_NTD, target_NS, length_N), target_NS, length_N)
        total = self.recipe.ctc_weight * reading + self.recipe.tcm_weight * tcm
        return Losses(total, ctc, tcm)
