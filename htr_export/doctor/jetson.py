"""NVIDIA Jetson: its release, its power mode and its clocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_engines.versions import release
from htr_export.doctor.finding import Finding

if TYPE_CHECKING:
    from htr_export.doctor.machine import Machine

# Compute capability by the chip that the device tree names.
CHIPS = {"tegra210": 53, "tegra186": 62, "tegra194": 72, "tegra234": 87, "tegra264": 110}
# JetPack by the release of Jetson Linux (developer.nvidia.com/embedded/jetpack-archive).
JETPACKS = {
    (35, 1): "5.0.2",
    (35, 2): "5.1",
    (35, 3): "5.1.1",
    (35, 4): "5.1.2",
    (35, 5): "5.1.3",
    (35, 6): "5.1.4",
    (36, 2): "6.0",
    (36, 3): "6.0",
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2.1",
    (36, 4): "6.2",
    (38, 2): "7.0",
    (38, 4): "7.1",
}
FAMILIES = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}
CUDA = {4: 10, 5: 11, 6: 12, 7: 13}  # CUDA's major version by JetPack's


@dataclass(frozen=True)
class Jetson:
    """A Jetson and its software."""

    name: str
    capability: int | None  # 87 for Orin
    linux: str  # release of Jetson Linux, "36.4.3"
    jetpack: str | None
    power_mode: str | None
    best_mode: tuple[int, str] | None  # number and name of the mode without limits
    clocks_fixed: bool | None

    @property
    def generation(self) -> int:
        """JetPack's major version, 0 where it is not known."""
        return release(self.jetpack)[0] if self.jetpack else 0

    def older_than(self, major: int, minor: int) -> bool:
        """Return whether JetPack is certainly older; of some releases only the major version is known."""
        known = release(self.jetpack or "")
        return len(known) > 0 and known < (major, minor) and (len(known) > 1 or known[0] < major)


def find_jetson(machine: Machine) -> Jetson | None:
    """Return the Jetson that this machine is, or None."""
    banner = machine.jetson_release()
    chip = re.search(r"nvidia,(tegra\d+)", machine.read("proc/device-tree/compatible") or "")
    if banner is None and chip is None:
        return None
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", banner or "")
    linux = f"{found[1]}.{found[2]}" if found else ""
    return Jetson(
        name=machine.read("proc/device-tree/model") or "NVIDIA Jetson",
        capability=CHIPS.get(chip[1]) if chip else None,
        linux=linux,
        jetpack=_jetpack(release(linux)),
        power_mode=_power_mode(machine),
        best_mode=_best_mode(machine),
        clocks_fixed=_clocks_fixed(machine),
    )


def jetson_findings(found: Jetson) -> list[Finding]:
    """Judge the release, the power mode and the clocks."""
    return [_release_finding(found), *_power_findings(found), *_clock_findings(found)]


def _jetpack(linux: tuple[int, ...]) -> str | None:
    if not linux:
        return None
    return JETPACKS.get(linux[:3]) or JETPACKS.get(linux[:2]) or FAMILIES.get(linux[0])


def _power_mode(machine: Machine) -> str | None:
    answer = machine.run(["nvpmodel", "-q"])
    found = re.search(r"NV Power Mode:\s*(\S+)", answer.text) if answer else None
    return found[1] if found else None


def _best_mode(machine: Machine) -> tuple[int, str] | None:
    """Return the mode without limits by nvpmodel's table, MAXN_SUPER before MAXN where both are there."""
    table = machine.read("etc/nvpmodel.conf") or ""
    modes = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(MAXN\w*)\s*>", table)
    return max(((int(number), name) for number, name in modes), key=lambda mode: len(mode[1]), default=None)


def _clocks_fixed(machine: Machine) -> bool | None:
    """Return whether jetson_clocks holds the GPU at its highest clock."""
    for lowest in machine.glob("sys/class/devfreq/*gpu*/min_freq"):
        folder = lowest.parent.relative_to(machine.root)
        return machine.read(f"{folder}/min_freq") == machine.read(f"{folder}/max_freq")
    return None


def _release_finding(found: Jetson) -> Finding:
    jetpack = f"JetPack {found.jetpack}" if found.jetpack else "an unknown JetPack"
    text = f"{found.name}, Jetson Linux {found.linux or 'of an unknown release'}, {jetpack}"
    if found.older_than(6, 1):
        text += ": its TensorRT is older than 10.3, the oldest that htr-export works with"
        return Finding("Jetson", "problem", text, "install JetPack 6.1 or later")
    return Finding("Jetson", "ok", text)


def _power_findings(found: Jetson) -> list[Finding]:
    if found.power_mode is None:
        return []
    number, name = found.best_mode or (0, "MAXN")
    if found.power_mode == name:
        return [Finding("power mode", "ok", f"{name}, which limits nothing")]
    text = f"{found.power_mode} limits the clocks; {name} does not"
    return [Finding("power mode", "warning", text, f"sudo nvpmodel -m {number}")]


def _clock_findings(found: Jetson) -> list[Finding]:
    if found.clocks_fixed is None:
        return []
    if found.clocks_fixed:
        return [Finding("clocks", "ok", "held at their highest")]
    return [Finding("clocks", "warning", "they vary with the load, so measurements scatter", "sudo jetson_clocks")]
