"""Several processes, started by ``torchrun``; a single process is the case of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import Tensor


def rank() -> int:
    """Return this process's number; 0 alone writes and validates."""
    return distributed.get_rank() if active() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if active() else 1


def active() -> bool:
    """Say whether there are several processes that have found each other."""
    return distributed.is_available() and distributed.is_initialized()


def mean(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes; gradients do not flow through it."""
    if not active():
        return value
    value = value.detach().clone()
    distributed.all_reduce(value)
    return value / world_size()


def choose_device() -> torch.device:
    """Return this process's device: its own GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def start(device: torch.device) -> None:
    """Join the other processes if ``torchrun`` started this one."""
    if "RANK" not in os.environ or not distributed.is_available():
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def stop() -> None:
    """Leave the other processes."""
    if active():
        distributed.destroy_process_group()
