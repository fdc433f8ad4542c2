"""The whole chain in one go: strip, onnx, validate, bundle. What has not changed is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from htr_engines.backends import backends, engines_of
from htr_engines.bundle import MANIFEST, SCHEMA_VERSION
from htr_engines.checks import Check
from htr_engines.documents import load_json
from htr_engines.errors import DataError, ExportError, ParityError
from htr_engines.files import sha256_of, write_text
from htr_engines.lines import fingerprint, read_lines
from htr_engines.progress import SILENT
from htr_export.bundle.card import CardOptions
from htr_export.bundle.writer import write_bundle
from htr_export.decoding import read_decoding
from htr_export.model import load_model
from htr_export.onnx.export import OnnxOptions, export_onnx, tool_version
from htr_export.strip import strip_checkpoint
from htr_export.validation.parity import ValidationOptions
from htr_export.validation.report import engine_folder, load_report
from htr_export.validation.run import ValidationRequest, validate_engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.progress import Progress
    from htr_export.checkpoint import Weights


@dataclass(frozen=True)
class ShipRequest:
    """What to ship and how."""

    checkpoint: Path
    output: Path  # the bundle
    lines_dir: Path
    list_file: Path | None = None
    charset: Charset | None = None
    weights: Weights | None = None
    onnx: OnnxOptions = field(default_factory=OnnxOptions)
    calibration_list: Path | None = None  # lines to measure on; None: those of ``list_file``
    max_cer_increase: float = 0.1  # percentage points
    limit: int | None = None  # lines to validate on
    min_characters: int = 0  # of the lines to validate on
    card: CardOptions = field(default_factory=CardOptions)
    language_model: Path | None = None  # for a beam search
    force: bool = False  # replace a file that has the name of the bundle

    @property
    def report(self) -> Path:
        """The folder of the validation report; those of further engines are beside it."""
        return self.work / "report"

    @property
    def model(self) -> Path:
        """The ONNX file, named by its precision."""
        suffix = ".onnx" if self.onnx.precision == "fp32" else f".{self.onnx.precision}.onnx"
        return self.work / f"model{suffix}"

    @property
    def work(self) -> Path:
        """The folder of the files between the steps, beside the bundle."""
        return self.output.with_name(f"{self.output.name}.work")


@dataclass(frozen=True)
class Step:
    """What became of one step."""

    name: str
    done: bool  # False where nothing had changed since it was last done
    result: str
    checks: tuple[Check, ...] = ()
    seconds: float = 0.0


def ship(request: ShipRequest, progress: Progress = SILENT) -> Iterator[Step]:
    """Turn a checkpoint into a validated bundle.

    Yields:
        Each step when it is done.

    Raises:
        ParityError: if the exported model does not read as well; no bundle is written then.
        HtrError: if an input cannot be used.
    """
    if "bf16" in request.onnx.precision_map.precisions:
        raise ExportError(
            "no engine runs bf16 on the CPU, so it cannot be proven on lines and bundled; use 'htr-export onnx' and "
            "'htr-export trt'"
        )
    memory = _Memory(request.work / "steps.json")
    for step in (_strip, _onnx, _validate, _bundle):
        progress.step(step.__name__[1:])
        progress.total(None)
        began = time.perf_counter()
        result = step(request, memory, progress)
        yield replace(result, seconds=time.perf_counter() - began)


class _Memory:
    """Which step was last done with which inputs, and the hash of what it made. No file is hashed twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: dict[Path, str] = {}
        try:
            self._steps: dict[str, list[str]] = load_json(path, dict[str, list[str]], "it is written again")
        except DataError:  # missing or damaged: every step is done again
            self._steps = {}

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file, hashed once."""
        if path not in self._digests:
            self._digests[path] = sha256_of(path)
        return self._digests[path]

    def run(self, name: str, inputs: list[Any], output: Path, work: Callable[[], object]) -> bool:
        """Do the step unless its inputs and its output are as they were; return whether it was done."""
        text = json.dumps([tool_version(), inputs])
        key = hashlib.sha256(text.encode()).hexdigest()
        if output.is_file() and self._steps.get(name) == [key, self.sha256(output)]:
            return False
        work()
        self._digests.pop(output, None)
        self._steps[name] = [key, self.sha256(output)]
        write_text(self._path, json.dumps(self._steps, indent=1))
        return True


def _strip(request: ShipRequest, memory: _Memory, _progress: Progress) -> Step:
    checkpoint, output = request.checkpoint, request.work / "model.safetensors"
    sha256 = memory.sha256(checkpoint)
    done = memory.run(
        "strip",
        [sha256, request.charset.characters if request.charset else None, request.weights],
        output,
        lambda: strip_checkpoint(checkpoint, output, request.charset, request.weights, sha256),
    )
    return Step("strip", done, f"{checkpoint.stat().st_size / 1e6:.1f} MB -> {output.stat().st_size / 1e6:.1f} MB")


def _onnx(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    model, output = request.work / "model.safetensors", request.model
    measured = request.calibration_list or request.list_file
    lines = read_lines(request.lines_dir, measured) if request.onnx.precision != "fp32" else []
    done = memory.run(
        "onnx",
        [memory.sha256(model), asdict(request.onnx), fingerprint(line.identity for line in lines)],
        output,
        lambda: export_onnx(load_model(model), output, request.onnx, lines=lines, progress=progress),
    )
    return Step("onnx", done, f"{output.stat().st_size / 1e6:.1f} MB, {request.onnx.precision}")


def _validate(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    """Validate on every engine that htr-read could choose here."""
    decoding = read_decoding(request.language_model)
    request_of_files = ValidationRequest(
        reference=request.work / "model.safetensors",
        candidate=request.model,
        lines_dir=request.lines_dir,
        list_file=request.list_file,
        limit=request.limit,
        report=request.report,
        options=ValidationOptions(max_cer_increase=request.max_cer_increase, min_characters=request.min_characters),
        language_model=request.language_model,
    )
    engines = installed_engines()
    lines = read_lines(request.lines_dir, request.list_file)[: request.limit]
    identity = fingerprint(line.identity for line in lines)
    files = [memory.sha256(request_of_files.reference), memory.sha256(request.model)]
    done = memory.run(
        "validate",
        [*files, identity, request.max_cer_increase, request.min_characters, engines, decoding.to_dict()],
        request.report / "report.json",
        lambda: validate_engines(request_of_files, engines, progress),
    )
    verdicts = load_report(request.report)["engines"]
    if not any(one["passed"] for one in verdicts):
        raise ParityError(f"{verdicts[0]['verdict']}; no bundle was written, look at {request.report / 'report.html'}")
    passed, tried = (sum(one["passed"] in wanted for one in verdicts) for wanted in ([True], [True, False]))
    checks = tuple(Check(one["passed"], one["verdict"], one["engine"]) for one in verdicts)
    return Step("validate", done, f"passed on {passed} of {tried} engines", checks=checks)


def installed_engines() -> list[str]:
    """Return the engines for ONNX files that htr-read could choose with the packages that are installed here."""
    found = backends()
    names = [name for name in engines_of(".onnx") if found[name].ranks and find_spec(found[name].package)]
    return names or engines_of(".onnx")[:1]


def _bundle(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    tried = [one["engine"] for one in load_report(request.report)["engines"] if one["passed"] is not None]
    reports = [request.report, *(engine_folder(request.report, engine) for engine in tried[1:])]
    hashes = [memory.sha256(request.model), [memory.sha256(report / "report.json") for report in reports]]
    done = memory.run(
        "bundle",
        [SCHEMA_VERSION, *hashes, read_decoding(request.language_model).to_dict(), asdict(request.card)],
        request.output / MANIFEST,
        lambda: write_bundle(
            [request.model],
            request.output,
            reports,
            card=request.card,
            language_model=request.language_model,
            force=request.force,
            progress=progress,
        ),
    )
    total = sum(path.stat().st_size for path in request.output.rglob("*") if path.is_file())
    return Step("bundle", done, f"{request.output}, {total / 1e6:.1f} MB")
