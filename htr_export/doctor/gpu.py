"""NVIDIA GPUs, their driver, and what both allow to run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.versions import release
from htr_export.doctor.finding import Finding
from htr_export.doctor.jetson import CUDA, Jetson, find_jetson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htr_export.doctor.machine import Machine

# The oldest driver that runs programs of each major version of CUDA (CUDA Toolkit release notes, "minor version
# compatibility").
OLDEST_DRIVERS = {13: 580, 12: 525, 11: 450}
GPU_FIELDS = ("name", "driver_version", "memory.total", "memory.free", "compute_cap")
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
    smi_error: str | None = None  # why nvidia-smi fails
    hidden: bool = False  # by CUDA_VISIBLE_DEVICES
    driver_missing: bool = False  # though there is a GPU on the bus


def find_nvidia(machine: Machine, board: Jetson | None) -> Nvidia:
    """Return the driver and the GPUs by nvidia-smi, else by the kernel; a Jetson's also by its board."""
    hidden = machine.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}
    rows, smi_error = machine.query_gpus(GPU_FIELDS)
    if smi_error:  # old releases do not know compute_cap
        rows, smi_error = machine.query_gpus(GPU_FIELDS[:-1])
    driver = rows[0]["driver_version"] if rows else machine.kernel_driver()
    gpus = tuple(_gpu(row) for row in rows) if rows else _kernel_gpus(machine)
    if board is not None:
        return Nvidia(driver, CUDA.get(board.generation), (_board_gpu(board, gpus),), hidden=hidden)
    cuda = None
    if driver is not None:
        cuda = next((major for major, oldest in OLDEST_DRIVERS.items() if release(driver)[:1] >= (oldest,)), 0)
    return Nvidia(driver, cuda, gpus, smi_error, hidden, driver_missing=driver is None and _on_the_bus(machine))


def _gpu(row: Mapping[str, str]) -> Gpu:
    capability = row.get("compute_cap", "").replace(".", "")
    return Gpu(row["name"], _to_int(capability), _to_int(row["memory.total"]), _to_int(row["memory.free"]))


def _to_int(text: str) -> int | None:
    number = text.removesuffix(" MiB")
    return int(number) if number.isdecimal() else None  # "[N/A]" where memory is shared with the processor


def _kernel_gpus(machine: Machine) -> tuple[Gpu, ...]:
    gpus = []
    for path in machine.glob("proc/driver/nvidia/gpus/*/information"):
        found = re.search(r"^Model:\s*(.+)$", machine.read(str(path.relative_to(machine.root))) or "", re.MULTILINE)
        gpus.append(Gpu(found[1].strip() if found else "NVIDIA GPU", None, None, None))
    return tuple(gpus)


def _board_gpu(board: Jetson, known: tuple[Gpu, ...]) -> Gpu:
    gpu = known[0] if known else Gpu(board.name, None, None, None)
    return Gpu(gpu.name, gpu.capability or board.capability, None, None)


def _on_the_bus(machine: Machine) -> bool:
    """Return whether a display controller of NVIDIA (PCI class 03) is in the machine."""
    folders = [path.parent.relative_to(machine.root) for path in machine.glob("sys/bus/pci/devices/*/vendor")]
    return any(
        machine.read(f"{folder}/vendor") == PCI_VENDOR and (machine.read(f"{folder}/class") or "").startswith("0x03")
        for folder in folders
    )


def nvidia_findings(found: Nvidia) -> list[Finding]:
    """Judge the driver and name the GPUs."""
    newest = f"a driver of version {OLDEST_DRIVERS[13]} or later"
    if found.smi_error is not None:
        return [Finding("GPU", "problem", f"nvidia-smi fails: {found.smi_error}", f"reboot, or reinstall {newest}")]
    if found.driver_missing:
        return [Finding("GPU", "problem", "an NVIDIA GPU is here, but no driver for it", f"install {newest}")]
    if not found.gpus:
        if found.driver is None:
            return [Finding("GPU", "not there", "no NVIDIA GPU")]
        text = f"driver {found.driver}, but no GPU is visible"
        return [Finding("GPU", "problem", text, "give the container its GPU, such as docker run --gpus all")]
    findings = [_gpu_finding(gpu) for gpu in found.gpus]
    if found.driver is not None and found.cuda == 0:
        text = f"{found.driver} is too old for any supported CUDA"
        findings.append(Finding("driver", "problem", text, f"install {newest}"))
    elif found.driver is not None and found.cuda is not None:
        findings.append(Finding("driver", "ok", f"{found.driver}, which runs programs of CUDA {found.cuda}"))
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


@dataclass(frozen=True)
class Surroundings:
    """What decides whether a package works here."""

    machine: Machine
    board: Jetson | None
    nvidia: Nvidia

    @property
    def has_gpu(self) -> bool:
        """Whether programs may use a GPU."""
        return bool(self.nvidia.gpus) and not self.nvidia.hidden and self.nvidia.smi_error is None

    @property
    def capabilities(self) -> set[int]:
        """The compute capabilities that are known, such as 89."""
        return {gpu.capability for gpu in self.nvidia.gpus if gpu.capability is not None}

    def too_new_for_driver(self, topic: str, package: str, cuda: int | None, older: str) -> list[Finding]:
        """Return a problem if the driver does not run programs of the CUDA that a package was built for.

        The command ``older`` installs one for an older CUDA.
        """
        runs = self.nvidia.cuda
        if cuda is None or runs is None or cuda <= runs:
            return []
        driver = f"the driver {self.nvidia.driver}" if self.nvidia.driver else "this machine"
        text = f"{package} is built for CUDA {cuda}, {driver} runs CUDA {runs}"
        newer = "" if self.board else f"install a driver of version {OLDEST_DRIVERS.get(cuda, 580)} or later, or: "
        return [Finding(topic, "problem", text, f"{newer}{older}")]


def probe_host(machine: Machine) -> Surroundings:
    """Return the machine with what was found on it."""
    board = find_jetson(machine)
    return Surroundings(machine, board, find_nvidia(machine, board))
