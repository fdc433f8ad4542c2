"""One part of ``htr-bench gpu`` in a process of its own: a request as JSON on its input, a record a line on its output.

Records come as soon as they are known, so that a part which is stopped, or falls, leaves what it had.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_bench.targets import Target
from htr_bench.timing import MAX_VARIATION, is_stable, summarise
from htr_engines.backends.base import infer_lines
from htr_engines.ctc import decode_greedy
from htr_engines.errors import HtrError
from htr_engines.lines import load_batches, read_lines
from htr_engines.metrics import count_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.charset import Charset
    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_export.model import Model

CHECK_BATCH = 8  # lines in a run while the readings are compared
MATRIX = {"cuda": 8192, "cpu": 256}  # rows and columns of the matrices whose product gives the peak


@dataclass(frozen=True)
class Request:
    """What the process is to do."""

    part: str  # "peak", "torch" or "file"
    model: str  # .safetensors
    lines_dir: str
    list_file: str | None
    limit: int
    batches: tuple[int, ...]
    duration: float  # seconds of calls for each batch size, at least
    iterations: int  # calls, at least
    device: str  # "cuda" or "cpu"
    reference: str  # .npz with the logits of the reference, which the first part writes
    precision: str = "fp32"  # of "torch"
    compiled: bool = False  # "torch"
    file: str | None = None  # of "file"
    engine: str | None = None  # of "file"
    sha256: str | None = None  # of "file"


def main() -> None:
    """Run the request on standard input."""
    request = Request(**json.load(sys.stdin))
    try:
        for record in peak(request) if request.part == "peak" else run(request):
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
    except HtrError as error:
        sys.exit(f"Error: {error}")


def peak(request: Request) -> Iterator[dict[str, Any]]:
    """Yield the most multiply-adds that a matrix product reaches, in FLOP/s, for each precision."""
    import torch

    from htr_bench.torch_device import check_device

    check_device(request.device)
    size = MATRIX[request.device]
    torch.backends.cuda.matmul.allow_tf32 = False
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        left, right = (torch.randn(size, size, device=request.device).to(dtype) for _ in range(2))

        def multiply(left: torch.Tensor = left, right: torch.Tensor = right) -> None:
            left @ right
            if request.device == "cuda":
                torch.cuda.synchronize()

        seconds, _ = _times(multiply, request)
        yield {"record": "peak", "precision": name, "size": size, "flops": 2 * size**3 / float(np.median(seconds))}


def run(request: Request) -> Iterator[dict[str, Any]]:
    """Yield what the engine is, how fast it is at each batch size, and how it reads."""
    # What does not open costs no loading of PyTorch.
    opened: Engine | None = None
    if request.file is not None:
        opened = Target(Path(request.file), request.engine, request.sha256).open(None)
    from htr_export.model import load_model

    model = load_model(Path(request.model))
    lines, image_N1HW = _load(request, model.preprocessing)
    if _is_reference(request):
        yield {"record": "network", "flops_per_line": _flops(model), "lines": len(lines)}
    if opened is None:
        from htr_bench.torch_device import TorchDevice

        opened = TorchDevice(model, request.device, request.precision, compiled=request.compiled)
    with opened as engine:
        info = engine.info
        yield {"record": "engine", "engine": info.engine, "version": info.version, "device": info.device}
        yield {"record": "accuracy", **_accuracy(request, engine, lines, image_N1HW, model.charset)}
        for batch in request.batches:
            yield {"record": "timing", "batch": batch, **_timing(request, engine, image_N1HW, batch)}


def _is_reference(request: Request) -> bool:
    return request.part == "torch" and request.precision == "fp32" and not request.compiled


def _load(request: Request, spec: Preprocessing) -> tuple[list[Line], NDArray[np.float32]]:
    listed = read_lines(Path(request.lines_dir), Path(request.list_file) if request.list_file else None)
    batch = next(load_batches(listed[: request.limit], spec, request.limit))
    return list(batch.lines), batch.images


def _accuracy(
    request: Request, engine: Engine, lines: Sequence[Line], image_N1HW: NDArray[np.float32], charset: Charset
) -> dict[str, Any]:
    """Compare the readings with those of PyTorch in float32, which come before all others."""
    logits_NTC = _all_logits(engine, image_N1HW)
    texts = [reading.text for reading in decode_greedy(logits_NTC, charset)]
    cer = _cer(texts, lines)
    path = Path(request.reference)
    if _is_reference(request):
        np.savez(path, logits_NTC=logits_NTC)
    found = {"lines": len(lines), "cer": cer, "finite": bool(np.isfinite(logits_NTC).all())}
    if not path.is_file():
        return {**found, "changed": None, "max_abs": None, "cer_increase": None}
    with np.load(path) as saved:
        expected_NTC = saved["logits_NTC"]
    expected = [reading.text for reading in decode_greedy(expected_NTC, charset)]
    before = _cer(expected, lines)
    return {
        **found,
        "changed": sum(text != wanted for text, wanted in zip(texts, expected, strict=True)),
        "max_abs": float(np.abs(logits_NTC - expected_NTC).max()),
        "cer_increase": None if cer is None or before is None else cer - before,
    }


def _all_logits(engine: Engine, image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run all lines in batches of one size, since each further one may have to be compiled."""
    missing = -len(image_N1HW) % CHECK_BATCH
    padded = np.concatenate([image_N1HW, np.ones((missing, *image_N1HW.shape[1:]), np.float32)])
    batches = padded.reshape(-1, CHECK_BATCH, *image_N1HW.shape[1:])
    return np.concatenate([infer_lines(engine, batch) for batch in batches])[: len(image_N1HW)]


def _cer(texts: Sequence[str], lines: Sequence[Line]) -> float | None:
    """Return the character error rate in per cent, None where a line has no transcript."""
    if any(line.text is None for line in lines):
        return None
    counts = [count_errors(text, str(line.text)) for text, line in zip(texts, lines, strict=True)]
    return 100 * sum(counts[1:], counts[0]).cer


def _timing(request: Request, engine: Engine, image_N1HW: NDArray[np.float32], batch: int) -> dict[str, Any]:
    image = np.ascontiguousarray(image_N1HW[np.arange(batch) % len(image_N1HW)])
    seconds, first = _times(lambda: infer_lines(engine, image), request)
    timing = summarise(seconds, batch)
    stable = is_stable(timing.variation, MAX_VARIATION)
    return {**asdict(timing), "first_call": first, "stable": stable}


def _times(call: Any, request: Request) -> tuple[list[float], float]:  # noqa: ANN401
    """Return the seconds of each call after three, and those of the very first."""
    began = time.perf_counter()
    call()
    first = time.perf_counter() - began
    for _ in range(2):
        call()
    seconds: list[float] = []
    while sum(seconds) < request.duration or len(seconds) < request.iterations:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds, first


def _flops(model: Model) -> int:
    """Return the floating-point operations of one line; a multiply-add counts as two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    spec = model.preprocessing
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network()(torch.ones(1, 1, spec.height, spec.width))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
