"""The machine together with the GPU and the board that were found on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from htr_export.doctor.finding import Finding
from htr_export.doctor.jetson import jetson
from htr_export.doctor.nvidia import OLDEST_DRIVERS, nvidia

if TYPE_CHECKING:
    from htr_export.doctor.jetson import Jetson
    from htr_export.doctor.machine import Machine
    from htr_export.doctor.nvidia import Nvidia


@dataclass(frozen=True)
class Surroundings:
    """What decides whether a package works here."""

    machine: Machine
    board: Jetson | None
    nvidia: Nvidia

    @property
    def has_gpu(self) -> bool:
        """Whether programs may use a GPU."""
        return bool(self.nvidia.gpus) and not self.nvidia.hidden and self.nvidia.complaint is None

    @property
    def capabilities(self) -> set[int]:
        """The compute capabilities that are known, such as 89."""
        return {gpu.capability for gpu in self.nvidia.gpus if gpu.capability is not None}

    def too_new_for_driver(self, topic: str, package: str, cuda: int | None, older: str) -> list[Finding]:
        """Return a problem if the driver does not run programs of a version of CUDA.

        Args:
            topic: of the finding.
            package: what was built for that version.
            cuda: its major version, None if it is not known.
            older: the command that installs a package for an older CUDA.
        """
        runs = self.nvidia.cuda
        if cuda is None or runs is None or cuda <= runs:
            return []
        driver = f"the driver {self.nvidia.driver}" if self.nvidia.driver else "this machine"
        text = f"{package} is built for CUDA {cuda}, {driver} runs CUDA {runs}"
        newer = "" if self.board else f"install a driver of version {OLDEST_DRIVERS.get(cuda, 580)} or later, or: "
        return [Finding(topic, "problem", text, f"{newer}{older}")]


def look_around(machine: Machine) -> Surroundings:
    """Return the machine with what was found on it."""
    board = jetson(machine)
    return Surroundings(machine, board, nvidia(machine, board))
