"""Versions: what is installed against what htr-export asks for."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING

from htr_export.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from htr_export.doctor.machine import Machine


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``2.13.0+cpu`` gives (2, 13, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def short(version: str) -> str:
    """Return a version's first three numbers."""
    return ".".join(map(str, numbers(version)[:3])) or version


def required(extra: str) -> list[Requirement]:
    """Return what an extra of htr-export brings for this Python."""
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in importlib.metadata.requires("htr-export") or []]
    return [
        requirement
        for requirement in found
        if requirement.marker is not None
        and requirement.marker.evaluate({"extra": extra})
        and not requirement.marker.evaluate({"extra": ""})
    ]


def missing(machine: Machine, extra: str) -> list[str]:
    """Return the packages of an extra that are not installed."""
    return [requirement.name for requirement in required(extra) if machine.version(requirement.name) is None]


def out_of_range(machine: Machine, topic: str, extra: str) -> list[Finding]:
    """Return a problem for each package of an extra whose version htr-export does not work with."""
    found = []
    for requirement in required(extra):
        version = machine.version(requirement.name)
        if version is not None and not requirement.specifier.contains(version, prereleases=True):
            text = f"{requirement.name} {version} is installed, but htr-export works with {requirement.specifier}"
            found.append(Finding(topic, "problem", text, f"pip install --upgrade 'htr-export[{extra}]'"))
    return found
