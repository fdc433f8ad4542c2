"""The whole chain in one go: strip, onnx, validate, bundle. What has not changed is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from htr_engines.bundle import MANIFEST, SCHEMA_VERSION
from htr_engines.errors import ExportError, ParityError
from htr_engines.files import sha256_of, write_text
from htr_engines.lines import fingerprint, read_lines
from htr_engines.progress import SILENT
from htr_export.bundle.writer import write_bundle
from htr_export.model import load_model
from htr_export.onnx.export import OnnxOptions, export_onnx, tool_version
from htr_export.strip import strip_checkpoint
from htr_export.validation.parity import ValidationOptions
from htr_export.validation.report import load_report
from htr_export.validation.run import ValidationRequest, validate_files

if TYPE_CHECKING:
    from collections.abc import Callable
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
    max_cer_increase: float = 0.1  # percentage points
    limit: int | None = None  # lines to validate on
    threads: int | None = None

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
    seconds: float
    result: str


def ship(request: ShipRequest, progress: Progress = SILENT) -> list[Step]:
    """Turn a checkpoint into a validated bundle.

    Args:
        request: what to ship.
        progress: told the steps; counts the lines of the validation.

    Returns:
        The steps in order.

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
    return [
        _strip(request, memory, progress),
        _onnx(request, memory, progress),
        _validate(request, memory, progress),
        _bundle(request, memory, progress),
    ]


class _Memory:
    """Which step was last done with which inputs, and the hash of what it made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._steps: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            self._steps = {}

    def run(
        self,
        name: str,
        inputs: list[Any],
        output: Path,
        work: Callable[[], object],
    ) -> tuple[bool, float]:
        """Do the step unless its inputs and its output are as they were; return whether, and the seconds."""
        start = time.perf_counter()
        text = json.dumps([tool_version(), inputs])
        key = hashlib.sha256(text.encode()).hexdigest()
        if output.is_file() and self._steps.get(name) == [key, sha256_of(output)]:
            return False, time.perf_counter() - start
        work()
        self._steps[name] = [key, sha256_of(output)]
        write_text(self._path, json.dumps(self._steps, indent=1))
        return True, time.perf_counter() - start


def _strip(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    progress.step("strip")
    output = request.work / "model.safetensors"
    characters = request.charset.characters if request.charset else None
    inputs = [sha256_of(request.checkpoint) if request.checkpoint.is_file() else None, characters, request.weights]
    done, seconds = memory.run(
        "strip",
        inputs,
        output,
        lambda: strip_checkpoint(request.checkpoint, output, request.charset, request.weights),
    )
    before, after = request.checkpoint.stat().st_size, output.stat().st_size
    return Step("strip", done, seconds, f"{before / 1e6:.1f} MB -> {after / 1e6:.1f} MB")


def _onnx(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    progress.step("onnx")
    model, output = request.work / "model.safetensors", request.model
    lines = read_lines(request.lines_dir, request.list_file) if request.onnx.precision != "fp32" else []
    done, seconds = memory.run(
        "onnx",
        [sha256_of(model), asdict(request.onnx), fingerprint(line.identity for line in lines)],
        output,
        lambda: export_onnx(
            load_model(model),
            output,
            request.onnx,
            lines=lines,
            progress=progress,
        ),
    )
    return Step("onnx", done, seconds, f"{output.stat().st_size / 1e6:.1f} MB, {request.onnx.precision}")


def _validate(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    progress.step("validate")
    candidate, report = request.model, request.work / "report"
    validation = ValidationRequest(
        reference=request.work / "model.safetensors",
        candidate=candidate,
        lines_dir=request.lines_dir,
        list_file=request.list_file,
        threads=request.threads,
        limit=request.limit,
        report=report,
        options=ValidationOptions(max_cer_increase=request.max_cer_increase),
    )
    lines = fingerprint(line.identity for line in read_lines(request.lines_dir, request.list_file)[: request.limit])
    done, seconds = memory.run(
        "validate",
        [sha256_of(validation.reference), sha256_of(candidate), lines, request.max_cer_increase],
        report / "report.json",
        lambda: validate_files(validation, progress),
    )
    document = load_report(report)
    if not document["passed"]:
        raise ParityError(f"{document['verdict']}; no bundle was written, look at {report / 'report.html'}")
    return Step("validate", done, seconds, document["verdict"])


def _bundle(request: ShipRequest, memory: _Memory, progress: Progress) -> Step:
    progress.step("bundle")
    progress.total(None)
    model, report = request.model, request.work / "report"
    done, seconds = memory.run(
        "bundle",
        [SCHEMA_VERSION, sha256_of(model), sha256_of(report / "report.json")],
        request.output / MANIFEST,
        lambda: write_bundle([model], request.output, [report]),
    )
    total = sum(path.stat().st_size for path in request.output.rglob("*") if path.is_file())
    return Step("bundle", done, seconds, f"{request.output}, {total / 1e6:.1f} MB")
