"""Python, the operating system and the processor."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING

from htr_export.doctor.finding import Finding
from htr_export.doctor.versions import numbers

if TYPE_CHECKING:
    from htr_export.doctor.machine import Machine

# What INT8 arithmetic gains from: eight-bit dot products of x86 and of ARM, as /proc/cpuinfo names them.
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
FLAGS = ("avx2", "avx512f", *INT8_FLAGS, "avx512_bf16", "amx_bf16", "bf16")


def system_findings(machine: Machine) -> list[Finding]:
    """Return findings on Python, the operating system and the processor."""
    return [_python(machine), _processor(machine), *_quota(machine)]


def _python(machine: Machine) -> Finding:
    text = f"Python {machine.python} on {machine.system}"
    tested = max(numbers(name.rpartition(" ")[2]) for name in _classifiers())
    if numbers(machine.python)[:2] > tested:
        newest = ".".join(map(str, tested))
        text += f" is newer than {newest}, the newest that htr-export is tested with"
        return Finding("Python", "warning", text, f"python{newest} -m venv ENVIRONMENT")
    return Finding("Python", "ok", text)


def _classifiers() -> list[str]:
    lines = importlib.metadata.metadata("htr-export").get_all("Classifier") or []
    return [line for line in lines if re.search(r":: 3\.\d+$", line)] or ["3.13"]


def _processor(machine: Machine) -> Finding:
    cpuinfo = machine.read("proc/cpuinfo") or ""
    name = _line(cpuinfo, "model name|Model|Hardware") or machine.architecture
    present = set(_line(cpuinfo, "flags|Features").split())
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
    return Finding("processor", "ok", f"{text}; no INT8 multiplication, so an INT8 file is smaller here, hardly faster")


def _line(cpuinfo: str, names: str) -> str:
    found = re.search(rf"^(?:{names})\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


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
