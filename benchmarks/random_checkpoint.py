"""Writes a checkpoint of the published size with random weights: python benchmarks/random_checkpoint.py FILE abc..."""

from __future__ import annotations

import sys
from pathlib import Path


def write_checkpoint(path: Path, characters: str, size: str = "base") -> None:
    """Write a checkpoint as training does, AdamW's moments included."""
    import torch

    from htr_export.network.config import PRESETS, NetworkConfig
    from htr_export.network.model import HTRConvText

    torch.manual_seed(2512)
    config = NetworkConfig(len(characters) + 1, **PRESETS[size])
    state = HTRConvText(config).state_dict()
    moments = {
        number: {"step": torch.tensor(1.0), "exp_avg": tensor.clone(), "exp_avg_sq": tensor.clone()}
        for number, tensor in enumerate(state.values())
    }
    content = {
        "model": state,
        "state_dict_ema": {name: tensor.clone() for name, tensor in state.items()},
        "optimizer": {"state": moments, "param_groups": []},
        "charset": characters,
        "network": config.to_dict(),
        "nb_iter": 1,
    }
    torch.save(content, path)


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]), sys.argv[2])
