"""A network small enough to export in a test, and what grows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from helpers.small import CHARSET, CONFIG, draw_line, published_layout

from htr_export.network import HTRConvText

if TYPE_CHECKING:
    from pathlib import Path


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
    from htr_export.onnx.export import export_onnx

    path = workspace / "model.onnx"
    checks = export_onnx(load_model(safetensors), path)
    assert all(check.passed for check in checks)
    return path


@pytest.fixture(scope="session")
def bundle(workspace, onnx_file) -> Path:
    from htr_export.bundle.writer import write_bundle

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
