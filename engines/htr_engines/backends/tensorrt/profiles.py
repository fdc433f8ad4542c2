"""Which optimisation profile of a plan runs a batch, and how batches that fit none are split or padded.

* A batch that a profile takes is run as it is. Of several such profiles the one tuned for the nearest batch size is
  used.
* A larger batch is split into sub-batches of the largest size that any profile takes, and the rest.
* A smaller batch is padded with white lines, whose results are dropped. Lines of a batch do not affect each other, so
  this changes nothing, which ``htr-export validate`` checks.
* A width outside all profiles is refused. It cannot be padded: attention and group normalisation reach over the whole
  line, so that each pixel of padding changes every logit. A network reads at the width it was trained with, and that is
  the width to build a plan for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.backends.tensorrt.sidecar import Profile, Shape


@dataclass(frozen=True)
class SubBatch:
    """Consecutive lines of a batch that are run together."""

    profile: int  # index
    lines: int  # of the batch
    shape: Shape  # [N,1,H,W] of the input; N - lines of them are white


def split_batch(profiles: Sequence[Profile], shape: tuple[int, ...]) -> list[SubBatch]:
    """Split a batch [N,1,H,W] as described above.

    Raises:
        EngineError: if the batch is empty, or no profile takes lines of that size.
    """
    if len(shape) != 4 or shape[0] == 0:  # noqa: PLR2004
        raise EngineError(f"a batch should have the shape [N,1,H,W] with N at least 1, not {list(shape)}")
    fitting = {number: profile for number, profile in enumerate(profiles) if _takes(profile, shape)}
    if not fitting:
        sizes = " or ".join(dict.fromkeys(_sizes(profile) for profile in profiles))
        raise EngineError(
            f"the plan takes lines of {sizes} pixels, these have {shape[2]} x {shape[3]}; build it with "
            f"'htr-export trt --min-shapes/--opt-shapes/--max-shapes image:Nx1x{shape[2]}x{shape[3]}'"
        )
    largest = max(profile.max[0] for profile in fitting.values())
    sub_batches, left = [], shape[0]
    while left:
        lines = min(left, largest)
        number = min(fitting, key=lambda candidate: _cost(fitting[candidate], lines))
        batch = max(lines, fitting[number].min[0])
        sub_batches.append(SubBatch(number, lines, (batch, shape[1], shape[2], shape[3])))
        left -= lines
    return sub_batches


def _takes(profile: Profile, shape: tuple[int, ...]) -> bool:
    axes = zip(profile.min[1:], shape[1:], profile.max[1:], strict=True)
    return all(low <= axis <= high for low, axis, high in axes)


def _cost(profile: Profile, lines: int) -> tuple[bool, int, int]:
    """Order the profiles for a number of lines: those that take it, with the least padding, tuned the nearest."""
    batch = max(lines, profile.min[0])
    return batch > profile.max[0], batch, abs(profile.opt[0] - batch)


def _sizes(profile: Profile) -> str:
    low, high = profile.min[3], profile.max[3]
    return f"{profile.min[2]} x {low}" if low == high else f"{profile.min[2]} x {low} to {high}"
