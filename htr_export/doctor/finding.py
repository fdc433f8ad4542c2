"""One judged fact of a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem", "not there"]


@dataclass(frozen=True)
class Finding:
    """One fact about the machine, judged."""

    topic: str  # "memory", "TensorRT" ...
    status: Status
    text: str  # one sentence
    cure: str | None = None  # a command, or what to do


def usable(findings: list[Finding]) -> bool:
    """Return whether no finding keeps its topic from working."""
    return all(finding.status in {"ok", "warning"} for finding in findings)
