"""Bundles and checkpoints from the Hub: a local server stands in for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.hub_server import COMMIT, serve

from htr_engines.errors import DataError
from htr_engines.hub import Address, parse_address

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, bundle, checkpoint, lines_dir):
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(bundle, root / "owner" / "bundle")
    shutil.copytree(bundle, root / "owner" / "many" / "model.htr")
    shutil.copy(checkpoint, root / "owner" / "many" / "a.pth")
    shutil.copy(checkpoint, root / "owner" / "many" / "b.pth")
    (root / "owner" / "weights").mkdir()
    shutil.copy(checkpoint, root / "owner" / "weights" / "best_CER.pth")
    shutil.copy(next(lines_dir.glob("*.png")), root / "line.png")
    return root


@pytest.fixture(scope="module")
def endpoint(repositories):
    with serve(repositories) as address:
        yield address


@pytest.fixture
def run(endpoint, tmp_path):
    """Run a command with a cache of its own; the library reads its settings when it is imported."""

    def start(module, *arguments, **settings):
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        environment.update({"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", **settings})
        command = [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return start


def test_addresses():
    assert parse_address("hf://o/r") == Address("o/r", None, None)
    assert parse_address("hf://o/r@v1.0") == Address("o/r", None, "v1.0")
    assert parse_address("hf://o/r/sub/model.htr/") == Address("o/r", "sub/model.htr", None)
    assert parse_address("hf://o/r/best_CER.pth@refs/pr/3") == Address("o/r", "best_CER.pth", "refs/pr/3")
    for wrong in ("hf://o", "hf://", "hf://o/r@", "hf://o/r/../../x", "hf://o/r x"):
        with pytest.raises(DataError, match="OWNER/REPO"):
            parse_address(wrong)


@pytest.mark.parametrize(
    "address",
    ["hf://owner/bundle", "hf://owner/bundle@main", f"hf://owner/bundle@{COMMIT}", "hf://owner/many/model.htr"],
)
def test_a_bundle_is_downloaded_and_read_offline_after(run, repositories, address):
    line = repositories / "line.png"
    online = run("htr_engines.cli", address, line, "--engine", "onnxruntime")
    assert online.returncode == 0, online.stderr
    offline = run("htr_engines.cli", address, line, "--engine", "onnxruntime", HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, online.stdout), offline.stderr


@pytest.mark.export
def test_checkpoints(run, tmp_path):
    for number, address in enumerate(("hf://owner/weights", "hf://owner/many/a.pth")):
        result = run("htr_export.cli", "strip", address, "-o", tmp_path / f"{number}.safetensors")
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("address", "settings", "part"),
    [
        ("hf://owner/absent", {}, "does not exist or is private"),
        ("hf://owner/bundle@v9", {}, "no such revision"),
        ("hf://owner/many", {}, "several checkpoints (a.pth, b.pth)"),
        ("hf://owner/many/none", {}, "no bundle and no checkpoint"),
        ("hf://owner", {}, "OWNER/REPO"),
        ("hf://owner/bundle", {"HF_HUB_OFFLINE": "1"}, "not in the cache"),
        ("hf://owner/bundle", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "not in the cache and the Hub cannot be reached"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_sentence(run, repositories, address, settings, part):
    result = run("htr_engines.cli", address, Path(repositories / "line.png"), **settings)
    assert result.returncode == 1
    assert part in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
