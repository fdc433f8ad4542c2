"""Servers as processes of their own, for tests that speak to them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 180


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(arguments, port, log, environment=None):
    """Run a server until it is ready; yield its process, and end it."""
    with log.open("wb") as stream:
        server = subprocess.Popen(
            list(map(str, arguments)), stdout=stream, stderr=stream, env={**os.environ, **(environment or {})}
        )
    try:
        _wait(server, port, log)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait(server, port, log):
    for _ in range(START_S * 5):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.2)
    pytest.fail(f"not ready: {log.read_text(errors='replace')[-3000:]}")


@contextmanager
def tritonserver(repository: Path, folder: Path):
    """Run the tritonserver that nvidia-pytriton brings; yield its process and its ports for HTTP, gRPC and metrics."""
    import pytriton

    package = Path(pytriton.__file__).parent / "tritonserver"
    version = ".".join(sysconfig.get_python_version().split(".")[:2])
    backend = folder / "backends" / "python"
    shutil.copytree(package / "backends" / "python", backend)
    shutil.copy(package / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    libraries = [package.parents[1] / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",  # the stub takes the first Python there
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }
    ports = [free_port() for _ in range(3)]
    options = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
    program = [package / "bin" / "tritonserver", f"--model-repository={repository}", *options]
    program += [f"--backend-directory={backend.parent}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    with serving(program, ports[0], folder / "triton.log", environment) as server:
        yield server, *ports
