"""What a search has measured so far, in a file that survives its end: one JSON record a line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from htr_engines.errors import DataError
from htr_engines.files import read_file
from htr_export.precision.precision_map import Precision
from htr_export.search.timing import Latency  # noqa: TC001 - msgspec reads the annotations
from htr_export.validation.statistics import Interval  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SCHEMA_VERSION = 1
Part = Literal["measuring", "held back"]


@dataclass(frozen=True)
class Outcome:
    """What a precision map did to the readings of some lines, against float32 on the same engine."""

    lines: int
    changed: int  # lines that are read differently
    cer: float  # per cent; without transcripts, against the readings in float32
    cer_increase: Interval
    max_abs: float  # largest difference of a logit
    mean_abs: float
    cosine: float  # of the angle between all logits and those of float32
    sound: bool  # whether all logits are finite and no line's depend on its batch
    latency: Latency
    bytes: int  # of the ONNX file


@dataclass(frozen=True)
class Trial:
    """A precision map that was tried: an outcome, or the reason why there is none."""

    lowered: Mapping[str, Precision]  # by group
    part: Part  # of the lines
    outcome: Outcome | None
    failure: str | None = None


class Journal:
    """The trials of a search and what it measured to begin them, in a file that several searches may share.

    Args:
        path: the file; made by the first record.
        key: SHA-256 of all that the outcomes depend on. Records of other keys are left alone.

    Raises:
        DataError: if ``path`` is a folder.
    """

    def __init__(self, path: Path, key: str) -> None:
        if path.is_dir():
            raise DataError(f"{path} is a folder; remove it or give another output")
        self._path, self._key = path, key
        self._trials: dict[str, Trial] = {}
        self._values: dict[str, dict[str, float]] = {}
        rows = read_file(path).split(b"\n") if path.exists() else []
        self._torn = bool(rows and rows[-1])  # the last record has no end
        for row in rows:
            if (trial := _parse_trial(row, key)) is not None:
                self._trials[_name(trial.lowered, trial.part)] = trial
            self._values.update(_parse_values(row))

    def __len__(self) -> int:
        return len(self._trials)

    def find(self, lowered: Mapping[str, Precision], part: Part) -> Trial | None:
        """Return the trial of a precision map on a part of the lines, or None if it has not been tried."""
        return self._trials.get(_name(lowered, part))

    def add(self, trial: Trial) -> None:
        """Write a trial down; when this returns, it is on the disk."""
        self._append({"key": self._key, **asdict(trial)})
        self._trials[_name(trial.lowered, trial.part)] = trial

    def get_or_measure(self, name: str, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Return what was measured under a name, after measuring it and writing it down if it was not yet.

        Args:
            name: holds the SHA-256 of all that the values depend on, which is less than the key of a trial.
            measure: gives the values.
        """
        if name not in self._values:
            self._values[name] = dict(measure())
            self._append({"name": name, "values": self._values[name]})
        return self._values[name]

    def _append(self, record: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            if self._torn:
                file.write(b"\n")
                self._torn = False
            file.write(json.dumps({"schema_version": SCHEMA_VERSION, **record}).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _name(lowered: Mapping[str, Precision], part: Part) -> str:
    return json.dumps([part, sorted(lowered.items())])


def _parse_trial(row: bytes, key: str) -> Trial | None:
    """Return the trial of a record, or None where the record is damaged or of another search."""
    try:
        record: dict[str, Any] = json.loads(row)
        if record["key"] != key or record["schema_version"] != SCHEMA_VERSION:
            return None
        lowered = msgspec.convert(record["lowered"], dict[str, Precision])
        outcome = None if record["outcome"] is None else msgspec.convert(record["outcome"], Outcome)
        return Trial(lowered, msgspec.convert(record["part"], Part), outcome, record["failure"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _parse_values(row: bytes) -> dict[str, dict[str, float]]:
    """Return the values of a record by their name, or none where it has none."""
    try:
        record: dict[str, Any] = json.loads(row)
        if record["schema_version"] != SCHEMA_VERSION:
            return {}
        return {record["name"]: {name: float(value) for name, value in record["values"].items()}}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
