"""AdamW with sharpness-aware minimisation, the rate schedule, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from htr_training.recipe import OptimizerRecipe, ScheduleRecipe


Network = TypeVar("Network", bound=nn.Module)


def learning_rate(iteration: int, recipe: ScheduleRecipe) -> float:
    """Return the rate of an iteration, counted from 1: a linear warm-up, then a cosine.

    The published cosine counts from 0 but its period lacks the warm-up, so it rises again at the end; with
    ``monotone_cosine`` it begins where the warm-up ends and is lowest at the end.
    """
    if iteration < recipe.warm_up:
        return recipe.max_rate * (iteration + 1) / (recipe.warm_up + 1)
    length = recipe.iterations - recipe.warm_up
    place = (iteration - recipe.warm_up if recipe.monotone_cosine else iteration) / length
    return recipe.min_rate + (recipe.max_rate - recipe.min_rate) / 2 * (1 + math.cos(math.pi * place))


def make_adamw(parameters: Iterable[nn.Parameter], recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn; the rate is set before every step."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.AdamW(
        learning, lr=0.0, betas=(recipe.beta1, recipe.beta2), weight_decay=recipe.weight_decay, fused=True
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class SharpnessAware:
    """Sharpness-aware minimisation (arXiv 2010.01412): the gradient is taken where the loss is worst nearby."""

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float) -> None:
        self.parameters: list[Tensor] = [parameter for parameter in parameters if parameter.requires_grad]
        self.rho = rho
        self._saved: list[Tensor] = []

    @torch.no_grad()
    def ascend(self) -> Tensor:
        """Move ``rho`` along the gradient and clear it; return the gradient's norm over all parameters."""
        used: list[Tensor] = [parameter for parameter in self.parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in used if parameter.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # noqa: SLF001
        self._saved = [parameter.detach().clone() for parameter in self.parameters]
        factor = self.rho / (norm + 1e-12)
        torch._foreach_add_(used, list(torch._foreach_mul(gradients, factor)))  # noqa: SLF001
        for parameter in used:
            parameter.grad = None
        return norm

    @torch.no_grad()
    def restore(self) -> None:
        """Put the parameters exactly where they were before :meth:`ascend`; the gradients stay."""
        torch._foreach_copy_(self.parameters, self._saved)
        self._saved = []


def ema_decay(iteration: int, ceiling: float) -> float:
    """Return the decay of the moving average at an iteration, counted from 1: it grows from 0.14."""
    updates = iteration / 2
    return min(ceiling, (1 + updates) / (10 + updates))


class MovingAverage(Generic[Network]):
    """The exponential moving average of a network's weights and statistics.

    Attributes:
        network: a copy that is always in evaluation mode.
    """

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Move the average by ``1 - decay`` towards ``network``; counters are copied."""
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        moving = [(average, value) for average, value in pairs if average.is_floating_point()]
        torch._foreach_lerp_([average for average, _ in moving], [value for _, value in moving], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
