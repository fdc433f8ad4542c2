"""A network small enough to export in a test, and its checkpoint in the published layout."""

from __future__ import annotations

import random

import numpy as np
import torch

from helpers.drawn import CHARSET
from htr_export.network.config import NetworkConfig
from htr_export.network.model import HTRConvText

CONFIG = NetworkConfig(
    num_classes=CHARSET.num_classes, embed_dim=32, depth=3, num_heads=2, mobilevit_head_dim=8, image_width=128
)


def published_layout(network: HTRConvText, *, prefix: str = "module.") -> dict:
    """Return a checkpoint as the published training writes it, optimizer and random states included."""
    parameters = [torch.nn.Parameter(parameter.detach().clone()) for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    ema = network.state_dict()
    return {
        "model": {prefix + name: tensor + 1 for name, tensor in ema.items()},
        "state_dict_ema": {prefix + name: tensor for name, tensor in ema.items()},
        "optimizer": optimizer.state_dict(),
        "nb_iter": 1200,
        "best_cer": np.float64(0.0625),
        "best_wer": 0.25,
        "args": {"lr": 1e-3, "data": "iam", "layers": [1, 2]},
        "random_state": random.getstate(),
        "numpy_state": np.random.get_state(),  # noqa: NPY002
        "torch_state": torch.get_rng_state(),
        "torch_cuda_state": [],
        "train_loss": 1.5,
        "train_loss_count": 3,
        "tcm_head": {"emb.weight": torch.zeros(4, 8), "dir_left": torch.zeros(1, 1, 8)},
    }
