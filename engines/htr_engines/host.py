"""What a measurement ran on, so that its figures can be judged later."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.max.sm",
    "power.limit",
    "temperature.gpu",
)
_CPU_FOLDER = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def describe_environment() -> dict[str, Any]:
    """Return the machine and the libraries as JSON-able facts; what the system does not tell is None."""
    return {
        "cpu": _cpu_model(),
        "logical_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "physical_cores": physical_cores(),
        "governor": _read(_CPU_FOLDER / "scaling_governor"),
        "clock_mhz": _clock_mhz(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "memory_mb": _memory_mb(),
        "gpus": _gpus(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": _libraries(),
    }


def physical_cores() -> int:
    """Return how many physical cores this process may use."""
    logical = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in logical:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text(encoding="ascii") if siblings.exists() else str(cpu))
    return max(1, len(cores))


def resident_bytes() -> int:
    """Return the memory that this process holds now, 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def hardware_of(environment: Mapping[str, Any]) -> str:
    """Return in one line what an environment's latencies depend on: its CPU, how many cores of it, and its GPUs."""
    gpus = [str(gpu.get("name")) for gpu in environment["gpus"]]
    return ", ".join([f"{environment['cpu']} x {environment['physical_cores']}", *gpus])


def command_line() -> str:
    """Return the command that this process was started with, without the folder of its program."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _cpu_model() -> str | None:
    cpuinfo = _read(Path("/proc/cpuinfo")) or ""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine() or None


def _clock_mhz() -> float | None:
    """Return the first core's clock, which a virtual machine tells in /proc/cpuinfo only."""
    if khz := _read(_CPU_FOLDER / "scaling_cur_freq"):
        return int(khz) / 1000
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", _read(Path("/proc/cpuinfo")) or "", re.MULTILINE)
    return float(found[1]) if found else None


def _memory_mb() -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", _read(Path("/proc/meminfo")) or "", re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def _gpus() -> list[dict[str, str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [row.split(", ") for row in answer.splitlines() if row.strip()]
    return [dict(zip(_GPU_FIELDS, row, strict=False)) for row in rows]


def _libraries() -> dict[str, str]:
    versions = {name: _version(name) for name in LIBRARIES}
    return {name: version for name, version in versions.items() if version is not None}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
