"""What ``make test-scale`` sets up: a bundle, and an environment with the servers and their clients."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers.servers import free_port, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    folder = os.environ.get("HTR_SCALE_BUNDLE")
    if not folder:
        pytest.skip("needs a bundle and servers; run: make test-scale")
    return Path(folder)


@pytest.fixture(scope="session")
def demo_lines() -> list[Path]:
    return sorted((ROOT / "training" / "demo" / "lines").glob("*.png"))


@pytest.fixture(scope="session")
def expected(demo_bundle, demo_lines):
    from htr_engines import Recognizer

    with Recognizer(demo_bundle, "onnxruntime") as recognizer:
        return [recognizer.read(path) for path in demo_lines]


@pytest.fixture(scope="session")
def start_service(demo_bundle, tmp_path_factory):
    """Start ``htr-serve`` with some options: a context of its process and port."""

    def start(*options):
        port = free_port()
        program = [sys.executable, "-c", "from htr_engines.serve.command import main; main()", demo_bundle]
        program += ["--port", port, "--engine", "onnxruntime", *options]
        return port, serving(program, port, tmp_path_factory.mktemp("serve") / "log")

    return start
