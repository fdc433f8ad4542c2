"""A validation from files to a report, as ``htr-export validate`` and ``htr-export ship`` run it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from htr_engines.charset import Charset
from htr_engines.errors import EngineError, HtrError, MissingExtraError, ParityError
from htr_engines.files import sha256_of
from htr_engines.lines import fingerprint, read_lines
from htr_engines.preprocess import Preprocessing
from htr_engines.progress import SILENT
from htr_engines.text import printable
from htr_export.open_model import open_any
from htr_export.validation.caching import CachingEngine
from htr_export.validation.parity import ValidationOptions, ValidationResult, validate
from htr_export.validation.report import (
    EngineVerdict,
    Inputs,
    describe_side,
    engine_folder,
    prepare_folder,
    to_document,
    write_report,
)
from htr_export.validation.summary import verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from htr_engines.backends.base import Engine, EngineInfo
    from htr_engines.lines import Line
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
    sha256: Callable[[Path], str] = sha256_of  # of a file
    options: ValidationOptions = field(default_factory=ValidationOptions)


@dataclass(frozen=True)
class Validation:
    """A result and the document that the report holds of it."""

    result: ValidationResult
    document: dict[str, Any]
    report: Path | None = None  # its folder


def validate_files(request: ValidationRequest, progress: Progress = SILENT) -> Validation:
    """Open both engines, validate and write the report if one is asked for.

    Args:
        request: what to do.
        progress: counts the lines.

    Raises:
        HtrError: if a file cannot be used, or the two do not belong together.
    """
    return validate_engines(request, [request.engine], progress)[0]


def validate_engines(
    request: ValidationRequest, engines: Sequence[str | None], progress: Progress = SILENT
) -> list[Validation]:
    """Validate a candidate on several engines, against readings that the reference makes once.

    Args:
        request: what to do. The first engine's report goes to its folder, those of the others to ``FOLDER-ENGINE``.
        engines: that are to run the candidate. Those that do not open are named in the reports, unless none does.
        progress: counts the lines.

    Raises:
        HtrError: as :func:`validate_files` does.
    """
    listed = read_lines(request.lines_dir, request.list_file)
    lines = listed[: request.limit]
    if request.report is not None:
        prepare_folder(request.report)
    found: list[tuple[EngineInfo, ValidationResult]] = []
    failed: dict[str, HtrError] = {}
    with open_any(request.reference, None, request.threads) as opened:
        reference = CachingEngine(opened) if len(engines) > 1 else opened
        for name in engines:
            try:
                candidate = open_any(request.candidate, name, request.threads)
            except (EngineError, MissingExtraError) as error:
                failed[str(name)] = error
                continue
            with candidate:
                progress.step(f"validating on {candidate.info.engine}")
                progress.total(len(lines))
                found.append((candidate.info, _validate(request, reference, candidate, lines, progress)))
        information = opened.info
    if not found:
        raise next(iter(failed.values()))
    progress.step("writing the report")
    return _report(request, listed, information, found, failed)


def _validate(
    request: ValidationRequest, reference: Engine, candidate: Engine, lines: Sequence[Line], progress: Progress
) -> ValidationResult:
    charset, preprocessing = _reader_of(reference.info, request.reference)
    _check_same_reader(reference, candidate)
    options = replace(request.options, precision=_precision(candidate, request.candidate))
    return validate(
        reference,
        candidate,
        lines,
        charset=charset,
        preprocessing=preprocessing,
        options=options,
        progress=progress,
    )


def _report(
    request: ValidationRequest,
    listed: Sequence[Line],
    reference: EngineInfo,
    found: Sequence[tuple[EngineInfo, ValidationResult]],
    failed: Mapping[str, HtrError],
) -> list[Validation]:
    """Make the documents, each with the verdicts on all engines, and write the reports."""
    reference_sha256, candidate_sha256 = (request.sha256(path) for path in (request.reference, request.candidate))
    list_sha256 = request.sha256(request.list_file) if request.list_file else None
    engines = [EngineVerdict(info.engine, result.passed, verdict(result)) for info, result in found]
    engines += [
        EngineVerdict(name, None, f"not tried: {str(error).split('; ', 1)[0]}") for name, error in failed.items()
    ]
    alpha = _reader_of(reference, request.reference)[1].alpha
    validations = []
    for number, (info, result) in enumerate(found):
        inputs = Inputs(
            reference=describe_side(request.reference, reference_sha256, reference, "fp32"),
            candidate=describe_side(request.candidate, candidate_sha256, info, result.options.precision),
            list_file=printable(request.list_file.name) if request.list_file else None,
            list_sha256=list_sha256,
            lines_listed=len(listed),
            lines_sha256=fingerprint((line.name, line.sha256, line.truth) for line in result.records),
        )
        document = to_document(result, inputs, engines)
        folder = request.report
        if folder is not None:
            folder = engine_folder(folder, info.engine) if number else folder
            write_report(folder, result, document, listed[: request.limit], alpha=alpha)
        validations.append(Validation(result, document, folder))
    return validations


def _reader_of(reference: EngineInfo, path: Path) -> tuple[Charset, Preprocessing]:
    metadata = reference.metadata
    if "charset" not in metadata or "preprocessing" not in metadata:
        raise EngineError(f"{path} does not state its characters; give the .safetensors that 'htr-export strip' wrote")
    return Charset(metadata["charset"]), Preprocessing.from_json(metadata["preprocessing"], str(path))


def _check_same_reader(reference: Engine, candidate: Engine) -> None:
    """Refuse a candidate that says it was made from something else."""
    for key in ("charset", "preprocessing", "source_sha256"):
        expected, found = reference.info.metadata.get(key), candidate.info.metadata.get(key)
        if expected is not None and found is not None and expected != found:
            raise ParityError(f"the candidate's {key} is not the reference's; give the reference that it was made from")


def _precision(candidate: Engine, path: Path) -> str:
    """Return the precision by the metadata, else by the file name: ``model.int8.onnx``."""
    if precision := candidate.info.metadata.get("precision"):
        return precision
    return next((part for part in path.name.lower().split(".") if part in PRECISIONS), "fp32")
