"""The C++ reader beside the Python reader: cold start, memory, time a line, size of the program.

    python benchmarks/cpp.py demo-output/demo.htr training/demo/lines --build build/cpp -o benchmarks/results/cpp.json

A start is the whole process that reads one line; a line's time is that of many lines less that of one. The two readers
take turns, so that both see the same load; the least of all times counts. CPU time is that of all threads, and depends
less on what else the machine does. With more threads Python reads several lines at the same time, C++ one by one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import onnxruntime

from htr_export.reporting import document, write_document

UNITS = {
    "start_seconds": "s",
    "start_cpu_seconds": "s",
    "line_seconds": "s",
    "line_cpu_seconds": "s",
    "memory_mb": "MB",
    "program_bytes": "B",
}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@click.argument("lines", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--build", type=click.Path(exists=True, path_type=Path), default="build/cpp", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
def main(bundle: Path, lines: Path, build: Path, threads: int, rounds: int, output: Path) -> None:
    """Measure both readers with BUNDLE on the images of LINES."""
    images = sorted(lines.glob("*.png"))
    programs = {
        "cpp": [str(build / "htr-read")],
        "python": [sys.executable, "-c", "from htr_engines.cli import main; main()"],
    }
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    os.environ["HTR_ONNXRUNTIME"] = str(library)
    engine = ["--engine", "onnxruntime", "--threads", str(threads)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            one = _run([*program, str(bundle), str(images[0]), *engine])
            many = _run([*program, str(bundle), *map(str, images), *engine])
            lines_more = len(images) - 1
            found[name].append(
                {
                    "start_seconds": one.seconds,
                    "start_cpu_seconds": one.cpu_seconds,
                    "line_seconds": (many.seconds - one.seconds) / lines_more,
                    "line_cpu_seconds": (many.cpu_seconds - one.cpu_seconds) / lines_more,
                    "memory_mb": one.memory_mb,
                }
            )
    readers = {name: {key: min(one[key] for one in all_) for key in all_[0]} for name, all_ in found.items()}
    content = {
        "readers": readers,
        "program_bytes": _stripped_bytes(build / "htr-read"),
        "threads": threads,
        "rounds": rounds,
    }
    write_document(output, document("htr-bench cpp", content, units=UNITS))
    for name, figures in readers.items():
        click.echo(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    click.echo(f"program_bytes {content['program_bytes']}")


class Run(NamedTuple):
    """What a process took."""

    seconds: float
    cpu_seconds: float  # of all threads
    memory_mb: float  # at most, resident


def _run(command: list[str]) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise click.ClickException(f"{command[0]} failed; run it by hand to see why")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _stripped_bytes(program: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / "stripped"
        subprocess.run(["strip", "-o", str(stripped), str(program)], check=True)  # noqa: S603, S607
        return stripped.stat().st_size


if __name__ == "__main__":
    main()
