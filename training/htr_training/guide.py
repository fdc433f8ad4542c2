"""A guide for the first iterations: where a character would stand if the text were spread evenly over the ink.

CTC finds out by itself which frames belong to which character, but a small network may search for thousands of
iterations. Guided roughly, it begins to read at once, and CTC puts the rest right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def guide_share(iteration: int, iterations: int) -> float:
    """Return how much the guide counts against CTC at an iteration, counted from 1: from all to nothing."""
    return max(0.0, 1.0 - (iteration - 1) / iterations) if iterations else 0.0


def guide_loss(logits_NTC: Tensor, image_N1HW: Tensor, target_NS: Tensor, length_N: Tensor) -> Tensor:
    """Return the cross-entropy with the evenly spread text: summed over the frames, mean over the lines."""
    labels_NT = even_labels(image_N1HW, target_NS, length_N, logits_NTC.shape[1])
    summed = functional.cross_entropy(logits_NTC.float().flatten(0, 1), labels_NT.flatten(), reduction="sum")
    return summed / len(logits_NTC)


def even_labels(image_N1HW: Tensor, target_NS: Tensor, length_N: Tensor, frames: int) -> Tensor:
    """Spread each text evenly over its ink.

    Args:
        image_N1HW: float in [0,1], white = 1.
        target_NS: int64 classes.
        length_N: int64, characters of each line.
        frames: T.

    Returns:
        int64 [N,T]: the character's class in the middle half of its place, the blank elsewhere.
    """
    first_N, last_N = ink_extent(image_N1HW)
    width = image_N1HW.shape[3]
    centre_T = (torch.arange(frames, device=image_N1HW.device) + 0.5) * (width / frames)
    share_NT = (centre_T - first_N[:, None]) / (last_N + 1 - first_N)[:, None]
    place_NT = share_NT * length_N[:, None]
    number_NT = place_NT.floor().long()
    middle_NT = (place_NT - number_NT - 0.5).abs() < 0.25  # noqa: PLR2004 - half of a character's place
    inside_NT = (share_NT >= 0) & (share_NT < 1) & (length_N[:, None] > 0)
    classes_NT = target_NS.gather(1, number_NT.clamp(0, target_NS.shape[1] - 1))
    return classes_NT.masked_fill(~(middle_NT & inside_NT), 0)


def ink_extent(image_N1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last column [N] with two or more pixels darker than halfway from paper to ink."""
    pixels_NHW = image_N1HW[:, 0]
    paper_N = pixels_NHW.flatten(1).median(1).values
    halfway_N = (paper_N + pixels_NHW.flatten(1).amin(1)) / 2
    ink_NW = ((pixels_NHW < halfway_N[:, None, None]).sum(1) > 1).int()
    last = ink_NW.shape[1] - 1
    return ink_NW.argmax(1), last - ink_NW.flip(1).argmax(1)
