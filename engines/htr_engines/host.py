"""Facts of a machine: its processor, memory, NVIDIA driver and GPUs, and the libraries that are installed.

GPUs are asked of ``nvidia-smi``, not of ``nvidia-ml-py``: the program comes with every driver and would remain the
fallback, so the library would only add a second way to the same facts.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LIBRARIES = (
    "htr-export",
    "numpy",
    "pillow",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-rtx-cu13",
)
VNNI_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")
PROGRAM_TIMEOUT_S = 10.0  # nvidia-smi may have to load the driver first
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.max.sm",
    "power.limit",
    "temperature.gpu",
)
_CPU_FOLDER = "sys/devices/system/cpu/cpu0/cpufreq"


@dataclass(frozen=True)
class Answer:
    """What another program printed, and its exit code."""

    code: int
    text: str


def run_program(command: Sequence[str]) -> Answer | None:
    """Return what a program answers, or None if it is not installed or does not answer in time."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        ended = subprocess.run(  # noqa: S603
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Answer(ended.returncode, ended.stdout.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Host:
    """A machine, by default the one that this process runs on. Unknown facts are None or empty."""

    root: Path = Path("/")
    run: Callable[[Sequence[str]], Answer | None] = run_program

    def read(self, path: str) -> str | None:
        """Return the content of a file under the root, or None if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \t\n")
        except OSError:
            return None

    def cpu_field(self, names: str) -> str | None:
        """Return a field of ``/proc/cpuinfo``, given its names on different processors as ``Model|Hardware``."""
        found = re.search(rf"^(?:{names})\s*:\s*(.+)$", self.read("proc/cpuinfo") or "", re.MULTILINE)
        return found[1].strip() if found else None

    def cpu_flags(self) -> set[str]:
        """Return the features of the processor as ``/proc/cpuinfo`` names them."""
        return set((self.cpu_field("flags|Features") or "").split())

    def saturates_int8(self) -> bool:
        """Say whether sums of INT8 products may saturate.

        An x86 processor without the dot products of VNNI or AMX adds the products in pairs of 16 bits, which hold
        no two of the largest. Others, and those whose features are not known, are taken as sound.
        """
        flags = set((self.cpu_field("flags") or "").split())
        return bool(flags) and not flags & set(VNNI_FLAGS)

    def cpu_model(self) -> str | None:
        """Return the processor's name."""
        return self.cpu_field("model name|Model|Hardware")

    def memory(self) -> dict[str, int]:
        """Return the bytes by name of ``/proc/meminfo``, such as ``MemTotal``."""
        sizes = re.findall(r"^(\w+):\s*(\d+) kB$", self.read("proc/meminfo") or "", re.MULTILINE)
        return {name: 1024 * int(kilobytes) for name, kilobytes in sizes}

    def kernel_driver(self) -> str | None:
        """Return the version of NVIDIA's kernel modules, proprietary or open."""
        text = self.read("proc/driver/nvidia/version") or ""
        found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]+)", text)
        return found[1] if found else None

    def jetson_release(self) -> str | None:
        """Return the line in which Jetson Linux names its release, None on other machines."""
        return self.read("etc/nv_tegra_release")

    def query_gpus(self, fields: Sequence[str]) -> tuple[list[dict[str, str]], str | None]:
        """Return these fields of every GPU by ``nvidia-smi``, and its error where it fails.

        Both are empty where there is no ``nvidia-smi``.
        """
        answer = self.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
        if answer is None:
            return [], None
        rows = [[cell.strip() for cell in row.split(",")] for row in answer.text.splitlines() if row.strip()]
        if answer.code == 0 and rows and all(len(row) == len(fields) for row in rows):
            return [dict(zip(fields, row, strict=True)) for row in rows], None
        return [], answer.text.strip().partition("\n")[0] or f"nvidia-smi ended with code {answer.code}"


def describe_environment() -> dict[str, Any]:
    """Return the machine and the libraries as JSON-able facts; unknown facts are None."""
    host = Host()
    khz, mhz = host.read(f"{_CPU_FOLDER}/scaling_cur_freq"), host.cpu_field("cpu MHz")  # the latter in virtual machines
    clock_mhz = int(khz) / 1000 if khz else float(mhz) if mhz else None
    memory = host.memory().get("MemTotal")
    return {
        "cpu": host.cpu_model() or platform.processor() or platform.machine() or None,
        "logical_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "physical_cores": physical_cores(),
        "governor": host.read(f"{_CPU_FOLDER}/scaling_governor"),
        "clock_mhz": clock_mhz,
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "memory_mb": memory >> 20 if memory else None,
        "gpus": host.query_gpus(_GPU_FIELDS)[0],
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
    }


def physical_cores() -> int:
    """Return how many physical cores this process may use."""
    logical = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return max(1, len({Host().read(siblings.format(cpu)) or str(cpu) for cpu in logical}))


def resident_bytes() -> int:
    """Return the memory that this process holds now, 0 where the system does not report it."""
    statm = Host().read("proc/self/statm")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm else 0


def cache_folder() -> Path:
    """Return the folder of files that can be made again: ``$XDG_CACHE_HOME/htr-export``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "htr-export"


def hardware_of(environment: Mapping[str, Any]) -> str:
    """Return in one line what an environment's latencies depend on: its CPU, how many cores of it, and its GPUs."""
    gpus = [str(gpu.get("name")) for gpu in environment["gpus"]]
    return ", ".join([f"{environment['cpu']} x {environment['physical_cores']}", *gpus])


def command_line() -> str:
    """Return the command that this process was started with, without the folder of its program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
