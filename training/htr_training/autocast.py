"""Which arithmetic a training computes in: what the recipe asks for, where the device has it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from htr_training.recipe import Precision

CPU_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")  # x86 and Arm name the same ability differently


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """Return the autocast's type on ``device``; None is float32 throughout.

    A GPU does what the recipe says. On a CPU BF16 pays only where the processor multiplies in it (AVX512_BF16, AMX);
    elsewhere it is emulated and slower than float32. FP16 needs a GPU.
    """
    if device.type == "cuda":
        return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.bfloat16 if precision == "bf16" and cpu_multiplies_bf16() else None


def cpu_multiplies_bf16() -> bool:
    """Say whether this processor has instructions that multiply BF16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in CPU_FEATURES)


def autocast(dtype: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context of a forward pass in ``dtype``."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def precision_note(precision: Precision, device: torch.device) -> str | None:
    """Return what to say if the device does not compute in the precision that the recipe asks for."""
    if precision == "fp32" or autocast_dtype(precision, device) is not None:
        return None
    if precision == "fp16":
        return "run.precision = fp16 needs a GPU; training in float32"
    return "this processor has neither AVX512_BF16 nor AMX, which run.precision = bf16 needs; training in float32"
