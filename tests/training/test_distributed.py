"""A worker's end: under torchrun a process leaves with the right code, and Python is not finalised."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.fit_helpers import environment

SCRIPT = """
import socket, os, torch
from htr_engines.errors import StoppedError
from htr_training import distributed

class Last:
    def __del__(self):
        print("finalised", flush=True)

last = Last()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(free.getsockname()[1])
with distributed.processes(torch.device("cpu")):
    print("inside", end="")
    {inside}
{after}
"""


@pytest.mark.parametrize(
    ("inside", "after", "code"),
    [
        ("pass", "print(' after', end='')", 0),
        ("raise SystemExit(3)", "", 1),
        ("raise StoppedError('by a signal')", "", 130),
        ("pass", "raise ValueError('late')", 1),
    ],
)
def test_a_worker_ends_with_its_code_and_its_output(inside, after, code):
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(inside=inside, after=after)],
        env=environment(**alone),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == ("inside after" if "print" in after else "inside")
    assert ("ValueError: late" in done.stderr) == ("ValueError" in after)
