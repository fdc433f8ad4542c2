"""A network small enough to export in a test, and what grows from it.

The reader's tests also run where PyTorch is missing: HTR_TEST_EXPORTS names a folder to which a run with PyTorch writes
what it exports, and from which one without takes it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.drawn import CHARSET, draw_line

if TYPE_CHECKING:
    from htr_export.network.model import HTRConvText

HAS_TORCH = importlib.util.find_spec("torch") is not None
NEEDS_EXPORT = "needs the extra 'export'"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("export") and not HAS_TORCH:
            item.add_marker(pytest.mark.skip(reason=NEEDS_EXPORT))


@pytest.fixture(autouse=True)
def _same_torch_for_every_test():
    """Undo what a training or an engine in the same process sets for all of PyTorch."""
    before = sys.modules.get("torch")
    threads = before.get_num_threads() if before else None
    yield
    if threads and (torch := sys.modules.get("torch")):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def network() -> HTRConvText:
    torch = pytest.importorskip("torch", reason=NEEDS_EXPORT)
    from helpers.small import CONFIG

    from htr_export.network.model import HTRConvText

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
def exports(workspace) -> Path:
    folder = Path(os.environ.get("HTR_TEST_EXPORTS", workspace))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def checkpoint(exports, request) -> Path:
    """A checkpoint of our own training."""
    path = exports / "best_CER.pth"
    if not path.exists():
        network = request.getfixturevalue("network")
        import torch
        from helpers.small import published_layout

        content = {"charset": CHARSET.characters, "network": network.config.to_dict()}
        torch.save({**published_layout(network), **content}, path)
    return path


@pytest.fixture(scope="session")
def safetensors(exports, checkpoint) -> Path:
    path = exports / "model.safetensors"
    if not path.exists():
        pytest.importorskip("torch", reason=NEEDS_EXPORT)
        from htr_export.strip import strip_checkpoint

        strip_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="session")
def graphs_once(tmp_path_factory):
    """Let PyTorch export each graph once in a run, which takes seconds; what follows the export is as ever."""
    pytest.importorskip("torch", reason=NEEDS_EXPORT)
    from htr_export.onnx import export

    def write_once(model, path, options):
        digest = hashlib.sha256(json.dumps([model.metadata(), options.opset, options.batch, options.width]).encode())
        for name in sorted(model.tensors):
            digest.update(model.tensors[name].numpy().tobytes())
        kept = folder / digest.hexdigest()
        if not kept.exists():
            write_graph(model, kept, options)
        shutil.copyfile(kept, path)

    folder, write_graph = tmp_path_factory.mktemp("graphs"), export.write_graph
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "write_graph", write_once)
        yield


@pytest.fixture(scope="session")
def onnx_file(exports, safetensors, request) -> Path:
    """The network with dynamic axes, its export checked."""
    path = exports / "model.onnx"
    if not path.exists():
        request.getfixturevalue("graphs_once")
        from htr_export.model import load_model
        from htr_export.onnx.export import export_onnx

        checks = export_onnx(load_model(safetensors), path)
        assert all(check.passed for check in checks)
    return path


@pytest.fixture(scope="session")
def bundle(exports, onnx_file) -> Path:
    path = exports / "model.htr"
    if not path.exists():
        pytest.importorskip("torch", reason=NEEDS_EXPORT)
        from htr_export.bundle.writer import write_bundle

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
