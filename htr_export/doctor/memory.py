"""Memory: what there is, what a container allows, and what a build of the published size takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from htr_export.doctor.finding import Finding, gigabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from htr_export.doctor.machine import Machine

# Peaks of the process at the published size of 66 M parameters.
EXPORT_BYTES = 3.6e9  # htr-export onnx, benchmarks/results/chain-base.json
PLAN_BYTES = 3e9  # htr-export trt: 2.1 GB with TensorRT-RTX; the workspace in which TensorRT times kernels is a guess
READ_BYTES = 0.7e9  # htr-read, benchmarks/results/chain-base.json
DISK_BYTES = 1e9  # the weights, the ONNX file, a plan, and each once more while it is written
ADD_SWAP = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
)


@dataclass(frozen=True)
class Memory:
    """Bytes of memory."""

    total: int  # of the machine
    limit: int | None  # that the container or the service may use
    available: int  # now, without pushing anything out to swap, and within the limit
    swap: int  # free


def memory(machine: Machine) -> Memory | None:
    """Return the memory of the machine, or None where the system does not tell."""
    sizes = re.findall(r"^(\w+):\s*(\d+) kB$", machine.read("proc/meminfo") or "", re.MULTILINE)
    kilobytes = {name: int(count) for name, count in sizes}
    if "MemTotal" not in kilobytes:
        return None
    total = 1024 * kilobytes["MemTotal"]
    available = 1024 * kilobytes.get("MemAvailable", kilobytes.get("MemFree", 0))
    rooms = [(limit, used) for limit, used in _limits(machine) if limit < total]
    return Memory(
        total=total,
        limit=min((limit for limit, _ in rooms), default=None),
        available=max(0, min([available, *(limit - used for limit, used in rooms)])),
        swap=1024 * kilobytes.get("SwapFree", 0),
    )


def _limits(machine: Machine) -> Iterator[tuple[int, int]]:
    """Yield the limit and the use of each control group that this process is in; version 1 and version 2."""
    for line in (machine.read("proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            folder, limit, used, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            folder, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            place = f"{folder}/{group}"
            bytes_allowed = machine.read(f"{place}/{limit}")
            if bytes_allowed and bytes_allowed.isdecimal():  # not "max"
                freeable = re.search(rf"^{cached} (\d+)$", machine.read(f"{place}/memory.stat") or "", re.MULTILINE)
                taken = int(machine.read(f"{place}/{used}") or 0) - (int(freeable[1]) if freeable else 0)
                yield int(bytes_allowed), taken


def memory_finding(machine: Machine, needed: float, what: str) -> Finding:
    """Judge whether free memory and swap suffice.

    Args:
        machine: to look at.
        needed: bytes that the work takes at the published size.
        what: the work, such as ``an ONNX export``.
    """
    found = memory(machine)
    if found is None:
        return Finding("memory", "not there", "the system does not tell its memory")
    bound = f", {gigabytes(found.limit)} allowed to this container" if found.limit is not None else ""
    swap = f"{gigabytes(found.swap)} swap free" if found.swap else "no swap"
    have = f"{gigabytes(found.available)} free of {gigabytes(found.total)}{bound}, {swap}"
    need = f"{what} of the published size takes {gigabytes(needed)}"
    if found.available >= needed:
        return Finding("memory", "ok", f"{have}; {need}")
    if found.available + (0 if found.limit is not None else found.swap) >= needed:
        return Finding("memory", "warning", f"{have}; {need}, so it will swap and be slow", "close other programs")
    room = found.limit if found.limit is not None else found.total + found.swap
    if room >= needed:
        cure = "close other programs"
    elif found.limit is not None:
        cure = f"give the container more memory, such as docker run --memory {needed / 1e9 + 1:.0f}g"
    else:
        cure = ADD_SWAP
    return Finding("memory", "warning", f"{have}; {need}, so the system may end it", cure)


def disk_findings(machine: Machine) -> list[Finding]:
    """Judge the free disk in the temporary folder and in the current one."""
    return [
        _disk_finding(
            machine, machine.temporary, f"temporary folder {machine.temporary}", "set TMPDIR to another folder"
        ),
        _disk_finding(machine, machine.current, "current folder", "free some space, or write elsewhere"),
    ]


def _disk_finding(machine: Machine, folder: Path, name: str, cure: str) -> Finding:
    free = machine.free(folder)
    if free is None:
        return Finding("disk", "warning", f"nothing can be written to the {name}", cure)
    text = f"{gigabytes(free)} free in the {name}"
    if free < DISK_BYTES:
        needed = f"a build of the published size writes {gigabytes(DISK_BYTES)}"
        return Finding("disk", "warning", f"{text}; {needed}", cure)
    return Finding("disk", "ok", text)


def build_findings(machine: Machine, folder: Path = Path()) -> list[Finding]:
    """Return what stands against building a plan here, for a command to say before it begins.

    Args:
        machine: to look at.
        folder: where the plan will be written.
    """
    memory_and_disk = [
        memory_finding(machine, PLAN_BYTES, "a TensorRT build"),
        _disk_finding(machine, folder, f"folder {folder}", "free some space, or write elsewhere"),
    ]
    return [finding for finding in memory_and_disk if finding.status == "warning"]
