"""A validation from files to a report, as ``htr-export validate`` and ``htr-export ship`` run it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from htr_engines.charset import Charset
from htr_engines.errors import EngineError, ParityError
from htr_engines.files import sha256_of
from htr_engines.lines import fingerprint, read_lines
from htr_engines.preprocess import Preprocessing
from htr_engines.progress import SILENT
from htr_export.open_model import open_any
from htr_export.reporting import printable
from htr_export.validation.parity import ValidationOptions, ValidationResult, validate
from htr_export.validation.report import (
    Inputs,
    describe_side,
    prepare_folder,
    to_document,
    write_report,
)

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.base import Engine
    from htr_engines.progress import Progress

PRECISIONS = ("tf32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class ValidationRequest:
    """What to validate, and on what."""

    reference: Path
    candidate: Path
    lines_dir: Path
    list_file: Path | None = None
    engine: str | None = None  # of the candidate; None for the first that can run it
    threads: int | None = None  # of both engines
    limit: int | None = None  # lines, the first of the list
    report: Path | None = None  # folder
    options: ValidationOptions = field(default_factory=ValidationOptions)


@dataclass(frozen=True)
class Validation:
    """A result and the document that the report holds of it."""

    result: ValidationResult
    document: dict[str, Any]


def validate_files(request: ValidationRequest, progress: Progress = SILENT) -> Validation:
    """Open both engines, validate and write the report if one is asked for.

    Args:
        request: what to do.
        progress: counts the lines.

    Raises:
        HtrError: if a file cannot be used, or the two do not belong together.
    """
    listed = read_lines(request.lines_dir, request.list_file)
    lines = listed[: request.limit]
    if request.report is not None:
        prepare_folder(request.report)
    with (
        open_any(request.reference, None, request.threads) as reference,
        open_any(request.candidate, request.engine, request.threads) as candidate,
    ):
        charset, preprocessing = _reader_of(reference, request.reference)
        _check_same_reader(reference, candidate)
        options = replace(request.options, precision=_precision(candidate, request.candidate))
        progress.step("validating")
        progress.total(len(lines))
        result = validate(
            reference,
            candidate,
            lines,
            charset=charset,
            preprocessing=preprocessing,
            options=options,
            progress=progress,
        )
        inputs = Inputs(
            reference=describe_side(request.reference, reference.info, "fp32"),
            candidate=describe_side(request.candidate, candidate.info, options.precision),
            list_file=printable(request.list_file.name) if request.list_file else None,
            list_sha256=sha256_of(request.list_file) if request.list_file else None,
            lines_listed=len(listed),
            lines_sha256=fingerprint((line.name, line.sha256, line.truth) for line in result.records),
        )
    document = to_document(result, inputs)
    if request.report is not None:
        write_report(request.report, result, document, lines, alpha=preprocessing.alpha)
    return Validation(result, document)


def _reader_of(reference: Engine, path: Path) -> tuple[Charset, Preprocessing]:
    metadata = reference.info.metadata
    if "charset" not in metadata or "preprocessing" not in metadata:
        raise EngineError(f"{path} does not tell its characters; give the .safetensors that 'htr-export strip' wrote")
    return Charset(metadata["charset"]), Preprocessing.from_dict(json.loads(metadata["preprocessing"]))


def _check_same_reader(reference: Engine, candidate: Engine) -> None:
    """Refuse a candidate that says it was made from something else."""
    for key in ("charset", "preprocessing", "source_sha256"):
        was, now = reference.info.metadata.get(key), candidate.info.metadata.get(key)
        if was is not None and now is not None and was != now:
            raise ParityError(f"the candidate's {key} is not the reference's; give the reference that it was made from")


def _precision(candidate: Engine, path: Path) -> str:
    """Return the precision by the metadata, else by the file name: ``model.int8.onnx``."""
    if precision := candidate.info.metadata.get("precision"):
        return precision
    return next((part for part in path.name.lower().split(".") if part in PRECISIONS), "fp32")
