"""What a validation is asked for and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from htr_export.validation.statistics import RESAMPLES, SEED

if TYPE_CHECKING:
    from htr_engines.checks import Check
    from htr_engines.metrics import ErrorCounts
    from htr_export.validation.batching import BatchConsistency
    from htr_export.validation.statistics import Interval
    from htr_export.validation.tensors import TensorDifference

Mode = Literal["transcripts", "agreement"]


@dataclass(frozen=True)
class ValidationOptions:
    """What a candidate has to hold, and how it is tried."""

    max_cer_increase: float = 0.1  # percentage points that the interval's upper end may reach
    batch_size: int = 8
    min_characters: int = 0  # that the lines hold, below which nothing is proven
    precision: str = "fp32"  # of the candidate; sets the tolerance of the batch checks
    resamples: int = RESAMPLES  # of the bootstrap
    seed: int = SEED  # of the bootstrap


@dataclass(frozen=True)
class LineRecord:
    """One line, read twice."""

    name: str
    sha256: str  # of the image file
    truth: str | None
    reference: str
    candidate: str
    max_abs: float  # largest difference of its logits
    reference_errors: ErrorCounts | None  # None where the line has no transcript
    candidate_errors: ErrorCounts | None
    greedy_errors: ErrorCounts | None = None  # of the candidate, where it was decoded otherwise

    @property
    def changed(self) -> bool:
        """Whether the candidate reads something else than the reference."""
        return self.reference != self.candidate


@dataclass(frozen=True)
class SkippedLine:
    """A line whose image cannot be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Rates:
    """Error rates in per cent."""

    cer: float
    wer: float


@dataclass(frozen=True)
class Seconds:
    """Where the time went."""

    reference: float  # in the reference's engine
    candidate: float  # in the candidate's engine, the batch checks not included
    total: float


@dataclass(frozen=True)
class ValidationResult:
    """All that was found out about a candidate."""

    mode: Mode  # "agreement" where no line has a transcript
    passed: bool
    checks: tuple[Check, ...]
    lines: int  # that were read
    lines_with_transcript: int
    characters: int  # in the transcripts; in agreement mode in the reference's readings
    changed: int  # lines that the two read differently
    reference_rates: Rates | None  # None in agreement mode
    candidate_rates: Rates  # in agreement mode against the reference's readings
    cer_increase: Interval
    wer_increase: Interval
    cer_increase_of_decoder: Interval | None  # over greedy decoding of the candidate; None where it was decoded so
    tensors: TensorDifference
    batching: BatchConsistency
    options: ValidationOptions
    seconds: Seconds
    records: tuple[LineRecord, ...]
    skipped: tuple[SkippedLine, ...]


@dataclass(frozen=True)
class Findings:
    """What reading the lines has brought to light, before it is judged."""

    records: list[LineRecord]
    skipped: list[SkippedLine]
    tensors: TensorDifference
    batching: BatchConsistency
    seconds: Seconds
