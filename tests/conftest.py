"""A network small enough to export in a test, and what grows from it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from htr_engines.charset import Charset
from htr_export.network import HTRConvText, NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

CHARSET = Charset(" abcdefghijklmnopqrstuvwxyzäöü")
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


@pytest.fixture(autouse=True)
def _same_torch_for_every_test():
    """Undo what a training or an engine in the same process sets for all of PyTorch."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def network() -> HTRConvText:
    torch.manual_seed(1)
    network = HTRConvText(CONFIG).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="session")
def checkpoint(workspace, network) -> Path:
    """A checkpoint of our own training."""
    path = workspace / "best_CER.pth"
    torch.save({**published_layout(network), "charset": CHARSET.characters, "network": CONFIG.to_dict()}, path)
    return path


@pytest.fixture(scope="session")
def safetensors(workspace, checkpoint) -> Path:
    from htr_export.strip import strip_checkpoint

    path = workspace / "model.safetensors"
    strip_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="session")
def onnx_file(workspace, safetensors) -> Path:
    """The network with dynamic axes, its export checked."""
    from htr_export.model import load_model
    from htr_export.onnx_export import export_onnx

    path = workspace / "model.onnx"
    checks = export_onnx(load_model(safetensors), path)
    assert all(check.passed for check in checks)
    return path


@pytest.fixture(scope="session")
def bundle(workspace, onnx_file) -> Path:
    from htr_export.bundle_writer import write_bundle

    path = workspace / "model.htr"
    write_bundle([onnx_file], path)
    return path


@pytest.fixture(scope="session")
def lines_dir(workspace) -> Path:
    """Eight drawn lines with their transcripts, and a list."""
    folder = workspace / "lines"
    folder.mkdir()
    names = []
    for number in range(8):
        text = f"zeile {'abcdefgh'[number]}"
        draw_line(text).save(folder / f"line-{number}.png")
        (folder / f"line-{number}.txt").write_text(text, encoding="utf-8")
        names.append(f"line-{number}.png")
    (workspace / "all.ln").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def draw_line(text: str, size: tuple[int, int] = (160, 40)) -> Image.Image:
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).text((5, 5), text, fill=0, font=ImageFont.load_default(24))
    return image
