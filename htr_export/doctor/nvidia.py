"""NVIDIA GPUs and their driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_export.doctor.finding import Finding
from htr_export.doctor.jetson import CUDA, Jetson
from htr_export.doctor.versions import numbers

if TYPE_CHECKING:
    from htr_export.doctor.machine import Machine

# The oldest driver that runs programs of each major version of CUDA (CUDA Toolkit release notes, "minor version
# compatibility").
OLDEST_DRIVERS = {13: 580, 12: 525, 11: 450}
QUERIES = ("name,driver_version,memory.total,memory.free,compute_cap", "name,driver_version,memory.total,memory.free")
PCI_VENDOR = "0x10de"


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    capability: int | None  # 89 for 8.9
    memory_mb: int | None
    free_mb: int | None


@dataclass(frozen=True)
class Nvidia:
    """The driver and what it drives."""

    driver: str | None
    cuda: int | None  # the newest major version of CUDA whose programs the driver runs
    gpus: tuple[Gpu, ...]
    complaint: str | None = None  # of nvidia-smi, where it fails
    hidden: bool = False  # by CUDA_VISIBLE_DEVICES
    unserved: bool = False  # there is a GPU on the bus, but no driver


def nvidia(machine: Machine, board: Jetson | None) -> Nvidia:
    """Return the driver and the GPUs, as nvidia-smi, the kernel or the Jetson's board tell them."""
    hidden = machine.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}
    driver, gpus, complaint = _by_nvidia_smi(machine)
    if driver is None:
        driver = _kernel_driver(machine)
        gpus = _kernel_gpus(machine)
    if board is not None:
        return Nvidia(driver, CUDA.get(board.generation), (_board_gpu(board, gpus),), hidden=hidden)
    cuda = None
    if driver is not None:
        cuda = next((major for major, oldest in OLDEST_DRIVERS.items() if numbers(driver)[:1] >= (oldest,)), 0)
    return Nvidia(driver, cuda, gpus, complaint, hidden, unserved=driver is None and _on_the_bus(machine))


def _by_nvidia_smi(machine: Machine) -> tuple[str | None, tuple[Gpu, ...], str | None]:
    """Return the driver, the GPUs and nvidia-smi's complaint; old releases do not know ``compute_cap``."""
    complaint = None
    for query in QUERIES:
        answer = machine.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"])
        if answer is None:
            return None, (), None
        rows = [[cell.strip() for cell in row.split(",")] for row in answer.text.splitlines() if row.strip()]
        if answer.code == 0 and rows and all(len(row) == len(query.split(",")) for row in rows):
            return rows[0][1], tuple(_gpu(row) for row in rows), None
        complaint = answer.text.strip().partition("\n")[0] or f"nvidia-smi ended with code {answer.code}"
    return None, (), complaint


def _gpu(row: list[str]) -> Gpu:
    name, _, total, free, *capability = row
    digits = "".join(capability).replace(".", "")
    return Gpu(name, int(digits) if digits.isdecimal() else None, _whole(total), _whole(free))


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None  # "[N/A]" where memory is shared with the processor


def _kernel_driver(machine: Machine) -> str | None:
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]+)", machine.read("proc/driver/nvidia/version") or "")
    return found[1] if found else None


def _kernel_gpus(machine: Machine) -> tuple[Gpu, ...]:
    gpus = []
    for path in machine.glob("proc/driver/nvidia/gpus/*/information"):
        found = re.search(r"^Model:\s*(.+)$", machine.read(str(path.relative_to(machine.root))) or "", re.MULTILINE)
        gpus.append(Gpu(found[1].strip() if found else "NVIDIA GPU", None, None, None))
    return tuple(gpus)


def _board_gpu(board: Jetson, told: tuple[Gpu, ...]) -> Gpu:
    gpu = told[0] if told else Gpu(board.name, None, None, None)
    return Gpu(gpu.name, gpu.capability or board.capability, None, None)


def _on_the_bus(machine: Machine) -> bool:
    """Tell whether a display controller of NVIDIA (PCI class 03) is in the machine."""
    for path in machine.glob("sys/bus/pci/devices/*/vendor"):
        folder = path.parent.relative_to(machine.root)
        if machine.read(f"{folder}/vendor") == PCI_VENDOR and (machine.read(f"{folder}/class") or "").startswith(
            "0x03"
        ):
            return True
    return False


def nvidia_findings(found: Nvidia) -> list[Finding]:
    """Judge the driver and name the GPUs."""
    newest = f"a driver of version {OLDEST_DRIVERS[13]} or later"
    if found.complaint is not None:
        return [Finding("GPU", "problem", f"nvidia-smi fails: {found.complaint}", f"reboot, or install {newest} anew")]
    if found.unserved:
        return [Finding("GPU", "problem", "an NVIDIA GPU is here, but no driver for it", f"install {newest}")]
    if not found.gpus:
        if found.driver is None:
            return [Finding("GPU", "not there", "no NVIDIA GPU")]
        text = f"driver {found.driver}, but no GPU is visible"
        return [Finding("GPU", "problem", text, "give the container its GPU, such as docker run --gpus all")]
    findings = [_gpu_finding(gpu) for gpu in found.gpus]
    if found.driver is not None and found.cuda is not None:
        cuda = f"CUDA {found.cuda}" if found.cuda else "no CUDA that is supported"
        status: Finding = Finding("driver", "ok", f"{found.driver}, which runs programs of {cuda}")
        if not found.cuda:
            status = Finding(
                "driver", "problem", f"{found.driver} is too old for any CUDA of today", f"install {newest}"
            )
        findings.append(status)
    if found.hidden:
        text = "CUDA_VISIBLE_DEVICES hides every GPU from programs"
        findings.append(Finding("GPU", "problem", text, "unset CUDA_VISIBLE_DEVICES"))
    return findings


def _gpu_finding(gpu: Gpu) -> Finding:
    capability = f", compute capability {dotted(gpu.capability)}" if gpu.capability else ""
    memory = f", {gpu.memory_mb / 1024:.1f} GiB" if gpu.memory_mb else ""
    free = f" ({gpu.free_mb / 1024:.1f} free)" if gpu.memory_mb and gpu.free_mb is not None else ""
    return Finding("GPU", "ok", f"{gpu.name}{capability}{memory}{free}")


def dotted(capability: int) -> str:
    """Write a compute capability as NVIDIA does: 89 gives 8.9, 120 gives 12.0."""
    return f"{capability // 10}.{capability % 10}"
