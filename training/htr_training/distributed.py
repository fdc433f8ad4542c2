"""Several processes, started by ``torchrun``, that learn from the joint batch as one process would."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from htr_engines.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = timedelta(hours=2)  # while the first process validates


def choose_device() -> torch.device:
    """Return this process's device: its own GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the other processes for the length of a block, if ``torchrun`` started this one.

    They leave together, so that none is gone while the first one validates. A process that joined ends without
    finalising Python, with code 0, or after an exception with the one of a command that was stopped, else 1.
    """
    if "RANK" not in os.environ or not distributed.is_available():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    code = 1
    try:
        yield
        distributed.barrier()
        code = 0
    except StoppedError as error:
        code = error.exit_code
        raise
    finally:
        distributed.destroy_process_group()
        atexit.register(_end, code)


def _end(code: int) -> None:
    """End the process at once.

    Gloo's threads outlive the group, for ``DistributedDataParallel`` holds on to it. One that drops its last tensor
    while Python finalises is refused the interpreter's lock, and the process ends in SIGABRT, its work done.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if code == 0 and hasattr(sys, "last_value") else code)


def active() -> bool:
    """Say whether there are other processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def rank() -> int:
    """Return this process's number; number 0 alone validates and writes."""
    return distributed.get_rank() if active() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if active() else 1


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes; gradients do not flow through it."""
    if not active():
        return value
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value / world_size()


def agree_to_stop(requested: bool) -> bool:
    """Say whether any process is asked to stop; all get the same answer."""
    return requested if not active() else bool(mean(torch.tensor(float(requested), device=choose_device())))


def share(learner: nn.Module) -> nn.Module:
    """Return a module whose gradients and batch statistics are those of the joint batch."""
    if not active():
        return learner
    for module in learner.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d  # keeps parameters, statistics and names as they are
    device_ids = None if next(learner.parameters()).device.type == "cpu" else [torch.cuda.current_device()]
    # The joint norms keep the statistics equal by themselves.
    return DistributedDataParallel(learner, device_ids=device_ids, broadcast_buffers=False)


def apart(learner: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Return a block within which gradients stay with their process."""
    return learner.no_sync() if isinstance(learner, DistributedDataParallel) else contextlib.nullcontext()


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes, and of its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # noqa: ANN401, ARG004 - autograd's signature
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the joint batch of equal processes. PyTorch's own does so on GPUs alone."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Apply it; the shape stays."""
        if not self.training:
            return super().forward(x_NCHW)
        x32_NCHW = x_NCHW.float()
        count = x32_NCHW.numel() / x32_NCHW.shape[1] * world_size()
        mean_C = _sum_over_processes(x32_NCHW.sum((0, 2, 3))) / count
        centred_NCHW = x32_NCHW - mean_C[:, None, None]
        variance_C = _sum_over_processes(centred_NCHW.square().sum((0, 2, 3))) / count
        self._follow(mean_C.detach(), variance_C.detach() * count / (count - 1))
        scale_C = self.weight * (variance_C + self.eps).rsqrt()
        return (centred_NCHW * scale_C[:, None, None] + self.bias[:, None, None]).to(x_NCHW.dtype)

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, variance_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C, momentum)
        self.running_var.lerp_(variance_C, momentum)
        self.num_batches_tracked += 1


def _sum_over_processes(value: Tensor) -> Tensor:
    result: Tensor = _SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return result
