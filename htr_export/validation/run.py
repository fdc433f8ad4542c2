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
from htr_export.decoding import GREEDY, Decoding, read_decoding
from htr_export.open_model import open_any, read_model
from htr_export.validation.caching import CachingEngine
from htr_export.validation.parity import ValidationOptions, ValidationResult, validate
from htr_export.validation.report import (
    EngineVerdict,
    Inputs,
    Side,
    describe_side,
    engine_folder,
    prepare_folder,
    to_document,
    write_report,
)
from htr_export.validation.summary import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from htr_engines.backends.base import Engine, EngineInfo
    from htr_engines.lines import Line
    from htr_engines.preprocess import Alpha
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
    language_model: Path | None = None  # to decode both with by beam search; None: greedy
    options: ValidationOptions = field(default_factory=ValidationOptions)


@dataclass(frozen=True)
class Validation:
    """A result and the document that the report holds of it."""

    result: ValidationResult
    document: dict[str, Any]
    report: Path | None = None  # its folder


def validate_files(request: ValidationRequest, progress: Progress = SILENT) -> Validation:
    """Open both engines, validate and write the report if one is asked for.

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
    decoding = read_decoding(request.language_model)
    listed = read_lines(request.lines_dir, request.list_file)
    lines = listed[: request.limit]
    if request.report is not None:
        prepare_folder(request.report)
    reference_file, candidate_file = read_model(request.reference), read_model(request.candidate)
    found: list[tuple[Side, ValidationResult]] = []
    failed: dict[str, HtrError] = {}
    with open_any(reference_file, None, request.threads) as opened:
        charset, preprocessing = reader_of(opened.info, request.reference)
        decode = None if decoding == GREEDY else decoding.decoder(charset)
        reference_side = describe_side(reference_file, opened.info, "fp32")
        reference = CachingEngine(opened) if len(engines) > 1 else opened
        for name in engines:
            try:
                candidate = open_any(candidate_file, name, request.threads)
            except (EngineError, MissingExtraError) as error:
                failed[str(name)] = error
                continue
            with candidate:
                _check_same_reader(reference, candidate)
                progress.step(f"validating on {candidate.info.engine}")
                progress.total(len(lines))
                options = replace(request.options, precision=_precision(candidate, request.candidate))
                result = validate(
                    reference,
                    candidate,
                    lines,
                    charset=charset,
                    preprocessing=preprocessing,
                    options=options,
                    decode=decode,
                    progress=progress,
                )
                found.append((describe_side(candidate_file, candidate.info, options.precision), result))
    if not found:
        raise next(iter(failed.values()))
    progress.step("writing the report")
    verdicts = [EngineVerdict(side.engine, result.passed, verdict(result)) for side, result in found]
    verdicts += [
        EngineVerdict(name, None, f"not tried: {str(error).split('; ', 1)[0]}") for name, error in failed.items()
    ]
    return [
        _report(request, listed, reference_side, one, verdicts, preprocessing.alpha, decoding, further=number > 0)
        for number, one in enumerate(found)
    ]


def _report(
    request: ValidationRequest,
    listed: Sequence[Line],
    reference: Side,
    found: tuple[Side, ValidationResult],
    verdicts: Sequence[EngineVerdict],
    alpha: Alpha,
    decoding: Decoding,
    *,
    further: bool,
) -> Validation:
    """Make the document on one engine, with the verdicts on all, and write the report if one is asked for."""
    candidate, result = found
    inputs = Inputs(
        reference=reference,
        candidate=candidate,
        list_file=printable(request.list_file.name) if request.list_file else None,
        list_sha256=sha256_of(request.list_file) if request.list_file else None,
        lines_listed=len(listed),
        lines_sha256=fingerprint((line.name, line.sha256, line.truth) for line in result.records),
        decoding=decoding.to_dict(),
        decoder=str(decoding),
    )
    document = to_document(result, inputs, verdicts)
    folder = request.report
    if folder is not None:
        folder = engine_folder(folder, candidate.engine) if further else folder
        write_report(folder, result, document, listed[: request.limit], alpha=alpha)
    return Validation(result, document, folder)


def reader_of(info: EngineInfo, path: Path) -> tuple[Charset, Preprocessing]:
    """Return the characters and the preprocessing that a model states.

    Raises:
        EngineError: if it does not.
    """
    metadata = info.metadata
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
