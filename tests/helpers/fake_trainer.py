"""Stands in for ``htr-train fit``: writes the log of a training that gets better with each iteration, without one."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

SPEED = 3200.0  # lines per second: 100 iterations a second at the recipes' batch of 32


def main() -> None:
    options = sys.argv[2:]
    pairs = dict(option.split("=", 1) for option in options if "=" in option)
    output = Path(options[options.index("--output") + 1])
    if output.parent.name in os.environ.get("FAKE_FAILURES", "").split() and output.name == "fit":
        sys.exit("the GPU caught fire")
    iterations = int(pairs["schedule.iterations"])
    log = output / "log.jsonl"
    done = len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0
    for iteration in range(done + 1, iterations + 1):
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")) if output.name == "fit" else 0)
        kind = "train" if iteration % 2 else "val"
        row = {"kind": kind, "iteration": iteration, "lines_per_s": SPEED, "data_wait": 0.1}
        row |= {"cer": 1 / iteration, "wer": 2 / iteration}
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
