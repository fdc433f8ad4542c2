"""Runs one target alone in a process of its own: whether it runs at all, and how much memory it takes.

The parent calls :func:`run_alone`; the child is ``python -m htr_bench.alone``, its request JSON on its input.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from htr_engines.errors import EngineError, HtrError

RUNS = 3  # the first ones fill the engine's memory pools
TIMEOUT_S = 900


@dataclass(frozen=True)
class Request:
    """What the child is to run."""

    path: str
    engine: str | None
    sha256: str | None
    threads: int | None
    batch: int
    height: int
    width: int


@dataclass(frozen=True)
class Peak:
    """Resident memory of a process, in bytes."""

    bytes: int  # at the peak, Python and the libraries included
    before: int  # at the peak before the engine was imported


def run_alone(request: Request) -> Peak:
    """Run a target alone.

    Raises:
        EngineError: with the reason, if it does not run, even if its process crashed.
    """
    command = [sys.executable, "-m", "htr_bench.alone"]
    try:
        done = subprocess.run(  # noqa: S603 - this very interpreter
            command,
            input=json.dumps(asdict(request)),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"it did not end within {TIMEOUT_S} s; give a smaller batch") from None
    if done.returncode:
        raise EngineError(reason_of(done.returncode, done.stderr))
    return Peak(**json.loads(done.stdout.strip().splitlines()[-1]))


def reason_of(code: int, errors: str) -> str:
    """Return why a process of ours failed, by its exit code and what it wrote on stderr."""
    if code < 0:
        return f"the process died of signal {-code}; the machine's memory may be too small"
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1].removeprefix("Error: ") if lines else f"the process ended with code {code}"


def peak_bytes() -> int:
    """Return the highest resident memory of this process; Linux resets it for each program."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Run the request on standard input and print the peak."""
    import numpy as np

    from htr_bench.targets import Target
    from htr_engines.backends.base import infer_lines

    request = Request(**json.load(sys.stdin))
    before = peak_bytes()
    image_N1HW = np.ones((request.batch, 1, request.height, request.width), np.float32)
    try:
        with Target(Path(request.path), request.engine, request.sha256).open(request.threads) as engine:
            for _ in range(RUNS):
                infer_lines(engine, image_N1HW)
    except HtrError as error:
        sys.exit(f"Error: {error}")
    sys.stdout.write(json.dumps(asdict(Peak(peak_bytes(), before))) + "\n")


if __name__ == "__main__":
    main()
