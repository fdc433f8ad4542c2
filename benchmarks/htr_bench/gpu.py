"""``htr-bench gpu``: what PyTorch and the engines make of a GPU within a budget of time.

Every part runs in a process of its own with an equal share of what is left of the time. One that fails, or is stopped,
leaves its reason and what it had measured until then; the results are written after each part.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_bench.alone import reason_of
from htr_bench.options import batch_sizes
from htr_engines.checks import mark
from htr_engines.console import HtrCommand, echo, stderr_console
from htr_engines.errors import EngineError
from htr_engines.options import EXISTING_FILE, EXISTING_FOLDER, figures_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from htr_bench.gpu_part import Request

SCHEMA_VERSION = 1
UNITS = {
    "percentiles": "s per call",
    "first_call": "s",
    "lines_per_second": "1/s",
    "flops": "1/s",
    "share_of_peak": "lines/s x FLOP of a line / FLOP/s of the largest matrix product of that precision",
    "cer": "per cent",
    "cer_increase": "percentage points",
}
TORCH_VARIANTS = (
    ("fp32", False),
    ("fp16", False),
    ("fp16", True),
)  # precision, compiled; the first is the reference
DURATION_S, CALLS = 2.0, 20  # of each measurement, at least
HALF_PRECISIONS = ("fp16", "bf16", "int8", "mixed")  # compared with the peak of FP16


@dataclass(frozen=True)
class Part:
    """A part's name, the peak that it is compared with, and its request."""

    name: str
    precision: str
    request: Request


@click.command("gpu", cls=HtrCommand)
@click.argument("model", type=EXISTING_FILE)
@click.argument("targets", nargs=-1, metavar="[FILE|ENGINE:FILE]...")
@click.option("--lines", "lines_dir", required=True, type=EXISTING_FOLDER, help="Folder of line images.")
@click.option("--list", "list_file", type=EXISTING_FILE, help="Their list: .ln, .tsv, .csv, .jsonl.")
@click.option("--limit", type=click.IntRange(min=1), default=500, show_default=True, help="Lines for the CER.")
@click.option("--batch", default="1,8,64", show_default=True, callback=batch_sizes, help="Lines in a call.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Minutes.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True, help="Where to run.")
@figures_option
def gpu(
    model: Path,
    targets: tuple[str, ...],
    lines_dir: Path,
    list_file: Path | None,
    limit: int,
    batch: tuple[int, ...],
    budget: float,
    device: str,
    json_file: Path | None,
) -> None:
    """Measure MODEL.safetensors in PyTorch (float32, FP16, compiled) and the FILEs made of it on a GPU.

    An ONNX file runs through ONNX Runtime's CUDA provider, a plan by the TensorRT that built it. A call goes from
    lines in the host's memory to logits there. Errors are relative to float32 without TF32.

    Exit code 1 if nothing could be measured.
    """
    from htr_bench.gpu_part import Request
    from htr_export.reporting import document, write_document

    end = time.monotonic() + 60 * budget
    report = document("htr-bench gpu", {"parts": []}, units=UNITS, schema_version=SCHEMA_VERSION)
    with tempfile.TemporaryDirectory() as scratch:
        reference = str(Path(scratch) / "reference.npz")
        listed = str(list_file) if list_file else None
        base = Request("peak", str(model), str(lines_dir), listed, limit, batch, DURATION_S, CALLS, device, reference)
        parts = list(_parts(base, targets))
        for number, part in enumerate(parts):
            with stderr_console().status(f"{part.name} ({number + 1} of {len(parts)})"):
                result = run_part(part, (end - time.monotonic()) / (len(parts) - number))
            report["parts"].append(_with_shares(result, report["parts"]))
            if json_file:
                write_document(json_file, report)
            for row in _rows(report["parts"][-1]):
                echo(row)
    if json_file:
        echo(f"Next: all figures are in {json_file}")
    if not any(part["timings"] for part in report["parts"]):
        raise EngineError("nothing could be measured; the reasons are above")


def _parts(base: Request, targets: Sequence[str]) -> Iterator[Part]:
    from htr_bench.artefacts import describe
    from htr_bench.targets import parse_targets

    yield Part("peak", "fp32", base)
    for precision, compiled in TORCH_VARIANTS:
        name = f"torch-{precision}" + ("-compiled" if compiled else "")
        yield Part(name, precision, replace(base, part="torch", precision=precision, compiled=compiled))
    onnxruntime = "onnxruntime-cuda" if base.device == "cuda" else "onnxruntime"
    for target in parse_targets(targets):
        engine = target.engine or (onnxruntime if target.path.suffix.lower() == ".onnx" else None)
        facts = describe(target.path)
        sha256 = target.sha256 or facts.sha256
        request = replace(base, part="file", file=str(target.path), engine=engine, sha256=sha256)
        name = f"{engine}:{target.path.name}" if engine else target.path.name
        yield Part(name, facts.precision or "fp32", request)


def run_part(part: Part, seconds: float) -> dict[str, Any]:
    """Run a part for at most ``seconds`` and return what it had measured by its end."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "htr_bench.gpu_part"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            text=True,
            start_new_session=True,  # with the compiler's processes that it starts
        )
        try:
            process.communicate(json.dumps(asdict(part.request)), timeout=max(1.0, seconds))
            errors.seek(0)
            reason = reason_of(process.returncode, errors.read()) if process.returncode else None
        except subprocess.TimeoutExpired:
            reason = f"it was stopped after its share of the time, {max(1.0, seconds):.0f} s; add --budget"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        records = [json.loads(line) for line in output if line.startswith('{"record"') and line.endswith("}\n")]
    return {
        "name": part.name,
        "precision": part.precision,
        "seconds": time.monotonic() - began,
        "failure": reason,
        **{name: _only(records, name) for name in ("network", "engine", "accuracy")},
        "peaks": _all(records, "peak"),
        "timings": _all(records, "timing"),
    }


def _all(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = [record for record in records if record["record"] == kind]
    return [{name: value for name, value in record.items() if name != "record"} for record in found]


def _only(records: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return next(iter(_all(records, kind)), None)


def _with_shares(part: dict[str, Any], before: list[dict[str, Any]]) -> dict[str, Any]:
    """Add to each timing what share of the measured peak it reaches."""
    known = [*before, part]
    peaks = {peak["precision"]: peak["flops"] for other in known for peak in other["peaks"]}
    flops = next((other["network"]["flops_per_line"] for other in known if other["network"]), None)
    peak = peaks.get("fp16" if part["precision"] in HALF_PRECISIONS else "fp32")
    for timing in part["timings"]:
        timing["share_of_peak"] = timing["lines_per_second"] * flops / peak if flops and peak else None
    return part


def _rows(part: dict[str, Any]) -> Iterator[str]:
    for peak in part["peaks"]:
        yield f"-[{mark(passed=True)}] matrix product in {peak['precision']}: {peak['flops'] / 1e12:.2f} TFLOP/s"
    if accuracy := part["accuracy"]:
        yield f"-[{mark(passed=True)}] {part['name']}: {_accuracy(accuracy)}"
    for timing in part["timings"]:
        share = "" if timing["share_of_peak"] is None else f", {100 * timing['share_of_peak']:.1f} % of the peak"
        share += "" if timing["stable"] else ", unstable"
        yield (
            f"-[{mark(timing['stable'])}] {part['name']}: batch {timing['batch']}, "
            f"p50 {1e3 * timing['percentiles']['p50']:.2f} ms, {timing['lines_per_second']:.0f} lines/s{share}"
        )
    if part["failure"]:
        yield f"-[{mark(passed=False)}] {part['name']}: {part['failure']}"


def _accuracy(found: dict[str, Any]) -> str:
    cer, increase, changed = found["cer"], found["cer_increase"], found["changed"]
    facts = [f"{found['lines']} lines"]
    if cer is not None:
        facts.append(f"CER {cer:.2f} %" + ("" if increase is None else f" ({increase:+.3f})"))
    if changed is not None:
        facts.append(f"{changed} read otherwise, max diff {found['max_abs']:.1e}")
    return ", ".join(facts) if found["finite"] else "logits that are not finite"
