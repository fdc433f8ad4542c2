"""A diagnosis for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from htr_engines.checks import mark
from htr_export import reporting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from htr_export.doctor.examine import Ability, Diagnosis

SCHEMA_VERSION = 1
KIND = "htr-export doctor"
MARKS = {"ok": mark(passed=True), "warning": "!", "problem": mark(passed=False), "not there": mark(passed=None)}


def to_json(diagnosis: Diagnosis, environment: Mapping[str, Any]) -> str:
    """Return the diagnosis as JSON."""
    content = {**asdict(diagnosis), "choice": diagnosis.choice}
    return reporting.to_json(reporting.document(KIND, content, environment=environment, schema_version=SCHEMA_VERSION))


def to_lines(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    """Yield the status and the text of each line: a finding, or its cure under it, then what follows from them."""
    for finding in diagnosis.findings:
        yield finding.status, f"-[{MARKS[finding.status]}] {finding.topic}: {finding.text}"
        if finding.cure:
            yield "cure", f"      {finding.cure}"
    yield "", ""
    yield "", f"can build  {_possible(diagnosis.builds)}"
    yield "", f"can run    {_possible(diagnosis.engines)}"
    yield "", conclusion(diagnosis)


def conclusion(diagnosis: Diagnosis) -> str:
    """Return which engine htr-read takes, or what to install if there is none."""
    if diagnosis.choice is None:
        return "htr-read  finds no engine here; install one with: pip install 'htr-export[cpu]'"
    return f"htr-read   takes {diagnosis.choice} of a bundle that has a model for each of them"


def _possible(abilities: Sequence[Ability]) -> str:
    return ", ".join(ability.name for ability in abilities if ability.possible) or "nothing"
