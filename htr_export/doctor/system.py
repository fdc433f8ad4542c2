"""Python, the processor, the memory and the disk."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from htr_engines.host import VNNI_FLAGS
from htr_engines.versions import release
from htr_export.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from htr_export.doctor.machine import Machine

# What INT8 arithmetic gains from: eight-bit dot products of x86 and of ARM, as /proc/cpuinfo names them.
INT8_FLAGS = (*VNNI_FLAGS, "asimddp", "i8mm")
FLAGS = ("avx2", "avx512f", *INT8_FLAGS, "avx512_bf16", "amx_bf16", "bf16")
EXPORT_BYTES = 3.6e9  # peak of htr-export onnx at the published size, benchmarks/results/chain-base.json
DISK_BYTES = 1e9  # the weights, the ONNX file, a plan, and each once more while it is written
ADD_SWAP = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
)


def system_findings(machine: Machine) -> list[Finding]:
    """Return findings on Python, the processor, the memory, and the disk of the temporary and the current folder."""
    temporary = f"temporary folder {machine.temporary}"
    return [
        _python(machine),
        _processor(machine),
        *_quota(machine),
        _memory(machine),
        _disk(machine, machine.temporary, temporary, "set TMPDIR to another folder"),
        _disk(machine, machine.current, "current folder", "free some space, or write elsewhere"),
    ]


def _python(machine: Machine) -> Finding:
    text = f"Python {machine.python} on {machine.system}"
    tested = max(release(name.rpartition(" ")[2]) for name in _classifiers())
    if release(machine.python)[:2] > tested:
        newest = ".".join(map(str, tested))
        text += f" is newer than {newest}, the newest that htr-export is tested with"
        return Finding("Python", "warning", text, f"python{newest} -m venv ENVIRONMENT")
    return Finding("Python", "ok", text)


def _classifiers() -> list[str]:
    lines = importlib.metadata.metadata("htr-export").get_all("Classifier") or []
    return [line for line in lines if re.search(r":: 3\.\d+$", line)] or ["3.13"]


def _processor(machine: Machine) -> Finding:
    name = machine.cpu_model() or machine.architecture
    present = machine.cpu_flags()
    flags = [flag for flag in FLAGS if flag in present]
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    text = f"{name}, {cores} usable" + (f", {', '.join(flags)}" if flags else "")
    if not present:
        return Finding("processor", "ok", text)
    if machine.architecture in {"x86_64", "AMD64"} and "avx2" not in present:
        text += "; the fast paths of the engines need AVX2, which it lacks"
        return Finding("processor", "warning", text, "use another machine, or give the virtual machine its host's CPU")
    if present & set(INT8_FLAGS):
        return Finding("processor", "ok", f"{text}; it multiplies in INT8, so an INT8 file can be faster here")
    text += "; no INT8 multiplication, so an INT8 file is smaller here, hardly faster"
    if machine.saturates_int8() and machine.version("openvino"):
        cure = "give bundles an FP32 file too"
        return Finding("processor", "warning", f"{text}, and OpenVINO, whose sums would saturate, refuses it", cure)
    return Finding("processor", "ok", text)


def _quota(machine: Machine) -> list[Finding]:
    """Warn of a container that may use fewer cores than it sees, which slows every engine's threads down."""
    quota, _, period = (machine.read("sys/fs/cgroup/cpu.max") or "").partition(" ")
    if not quota.isdecimal():
        quota = machine.read("sys/fs/cgroup/cpu/cpu.cfs_quota_us") or ""
        period = machine.read("sys/fs/cgroup/cpu/cpu.cfs_period_us") or ""
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return []
    cores = int(quota) / int(period)
    if cores >= machine.cores:
        return []
    text = f"the container may use the time of {cores:.3g} cores of {machine.cores}, and threads beyond that wait"
    return [Finding("processor", "warning", text, f"--threads {max(1, int(cores))}")]


@dataclass(frozen=True)
class Memory:
    """Bytes of memory."""

    total: int  # of the machine
    limit: int | None  # that the container or the service may use
    available: int  # now, without pushing anything out to swap, and within the limit
    swap: int  # free


def measure_memory(machine: Machine) -> Memory | None:
    """Return the memory of the machine, or None where the system does not report it."""
    sizes = machine.memory()
    if "MemTotal" not in sizes:
        return None
    total, available = sizes["MemTotal"], sizes.get("MemAvailable", sizes.get("MemFree", 0))
    rooms = [(limit, used) for limit, used in _limits(machine) if limit < total]
    return Memory(
        total=total,
        limit=min((limit for limit, _ in rooms), default=None),
        available=max(0, min([available, *(limit - used for limit, used in rooms)])),
        swap=sizes.get("SwapFree", 0),
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


def _memory(machine: Machine) -> Finding:
    """Judge whether free memory and swap suffice for an ONNX export of the published size."""
    found, needed = measure_memory(machine), EXPORT_BYTES
    if found is None:
        return Finding("memory", "not there", "the system does not report its memory")
    bound = f", {_gigabytes(found.limit)} allowed to this container" if found.limit is not None else ""
    swap = f"{_gigabytes(found.swap)} swap free" if found.swap else "no swap"
    have = f"{_gigabytes(found.available)} free of {_gigabytes(found.total)}{bound}, {swap}"
    need = f"an ONNX export of the published size takes {_gigabytes(needed)}"
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
    return Finding("memory", "warning", f"{have}; {need}, so the system may kill it", cure)


def _disk(machine: Machine, folder: Path, name: str, cure: str) -> Finding:
    free = machine.free(folder)
    if free is None:
        return Finding("disk", "warning", f"nothing can be written to the {name}", cure)
    text = f"{_gigabytes(free)} free in the {name}"
    if free < DISK_BYTES:
        needed = f"a build of the published size writes {_gigabytes(DISK_BYTES)}"
        return Finding("disk", "warning", f"{text}; {needed}", cure)
    return Finding("disk", "ok", text)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
