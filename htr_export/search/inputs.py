"""What a search starts from: the float32 graph, the lines in their parts, and the fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from htr_engines.errors import DataError, ExportError
from htr_engines.files import sha256_of
from htr_engines.host import describe_environment
from htr_engines.lines import fingerprint, read_lines
from htr_engines.preprocess import Preprocessing
from htr_export.precision.precision_map import PrecisionPlan

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.lines import Line
    from htr_export.precision.precision_map import Method, Precision
    from htr_export.search.journal import Part

Target = Literal["onnxruntime", "openvino", "tensorrt"]
Judge = Literal["interval", "estimate"]
Aim = Literal["time", "size"]
TARGETS: tuple[Target, ...] = get_args(Target)
TRIED: dict[Target, tuple[Precision, ...]] = {  # where the user does not say; what each is fast in
    "onnxruntime": ("int8",),
    "openvino": ("int8",),
    "tensorrt": ("fp16", "int8"),
}
LIBRARIES = ("htr-export", "numpy", "pillow", "onnx", "onnxruntime", "openvino")  # that have a say in an outcome
FEWEST_LINES = 4  # two parts of two


@dataclass(frozen=True)
class SearchRequest:
    """What to search for, and on what."""

    model: Path  # .safetensors, or .onnx in float32
    output: Path  # the plan, .toml
    lines_dir: Path
    list_file: Path | None = None
    calibration_list: Path | None = None  # None: the measuring lines
    calibration: Method = "percentile"  # how int8 chooses where to clip
    target: Target = "onnxruntime"
    precisions: tuple[Precision, ...] = ()  # none: those of TRIED
    aim: Aim = "time"  # what a plan is to save
    max_cer_increase: float = 0.1  # percentage points
    judge: Judge = "interval"  # what of the increase has to stay within: its 95 % interval, or the estimate
    limit: int | None = None  # lines, drawn by the seed
    groups: int = 48  # of modules, at most; each costs a reading of the measuring lines
    threads: int | None = None
    seed: int = 2512

    @property
    def tried(self) -> tuple[Precision, ...]:
        """The precisions to try."""
        return self.precisions or TRIED[self.target]

    @property
    def engine(self) -> str:
        """What reads the lines. TensorRT needs its GPU; on a CPU its rounding stands in for it."""
        return "rounding" if self.target == "tensorrt" else self.target

    @property
    def journal(self) -> Path:
        """Where the trials are written down."""
        return self.output.with_suffix(".search.jsonl")

    @property
    def page(self) -> Path:
        """The report for people."""
        return self.output.with_suffix(".html")


@dataclass(frozen=True)
class SearchLines:
    """Which lines serve what."""

    parts: dict[Part, list[Line]]
    calibration: list[Line]
    dropped: int = 0  # calibration lines that are held back as well
    listed: int = 0


@dataclass(frozen=True)
class Source:
    """The float32 graph and how it reads."""

    graph: Path
    charset: Charset
    preprocessing: Preprocessing
    batch: int = field(default=1)  # its fixed batch size, 1 where it takes any


def choose_lines(request: SearchRequest) -> SearchLines:
    """Read the lists and divide the lines by the seed: half to measure on, half held back for the proof.

    Raises:
        DataError: if a list cannot be used or there are too few lines.
    """
    listed = read_lines(request.lines_dir, request.list_file)
    drawn = np.random.default_rng(request.seed).permutation(len(listed))[: request.limit]
    if len(drawn) < FEWEST_LINES:
        raise DataError(f"{len(drawn)} lines are too few to divide; give at least {FEWEST_LINES}, better some hundreds")
    half = len(drawn) // 2
    held_back = [listed[index] for index in sorted(drawn[:half])]
    measuring = [listed[index] for index in sorted(drawn[half:])]
    calibration = read_lines(request.lines_dir, request.calibration_list) if request.calibration_list else measuring
    unseen = {line.image for line in held_back}
    allowed = [line for line in calibration if line.image not in unseen]
    if not allowed:
        raise DataError(f"{request.calibration_list} names no line that is not held back; give other lines")
    parts: dict[Part, list[Line]] = {"measuring": measuring, "held back": held_back}
    return SearchLines(parts, allowed, len(calibration) - len(allowed), len(listed))


def prepare_source(model: Path, folder: Path, precisions: tuple[Precision, ...]) -> Source:
    """Return the float32 graph of a model; one is exported into ``folder`` unless the model is a graph.

    Args:
        model: a .safetensors, or a .onnx in float32.
        folder: for the exported graph.
        precisions: that it will be lowered to, which decide its opset.

    Raises:
        ExportError: if the model is of another kind or not in float32.
        CheckpointError: if it is damaged or not one of ours.
    """
    suffix = model.suffix.lower()
    if not model.is_file():
        raise ExportError(f"{model} does not exist; give a .safetensors, or a .onnx in float32")
    if suffix == ".safetensors":
        from htr_export.model import load_model
        from htr_export.onnx.export import OnnxOptions, write_graph

        loaded = load_model(model)
        graph = folder / "float32.onnx"
        opset = max(OnnxOptions.opset, *(PrecisionPlan(precision).lowest_opset for precision in precisions))
        write_graph(loaded, graph, OnnxOptions(opset))
        return Source(graph, loaded.charset, loaded.preprocessing)
    if suffix == ".onnx":
        return _read_graph(model)
    raise ExportError(f"{model} is neither .safetensors nor .onnx; strip the checkpoint first: htr-export strip")


def calibration_key(request: SearchRequest, lines: SearchLines) -> str:
    """Return the SHA-256 of all that ranges and a calibration depend on."""
    facts = {
        "model": sha256_of(request.model),
        "lines": fingerprint(line.identity for line in lines.calibration),
        "method": request.calibration,
        "seed": request.seed,
    }
    return _digest(facts)


def search_key(request: SearchRequest, lines: SearchLines) -> str:
    """Return the SHA-256 of all that the outcome of a trial depends on: model, lines, engine, threads and versions."""
    installed = describe_environment()["libraries"]
    facts = {
        "calibration": calibration_key(request, lines),
        "lines": {part: fingerprint(line.identity for line in chosen) for part, chosen in lines.parts.items()},
        "target": request.target,
        "threads": request.threads,
        "libraries": {name: installed.get(name) for name in LIBRARIES},
    }
    return _digest(facts)


def _read_graph(path: Path) -> Source:
    import onnx
    from google.protobuf.message import DecodeError

    from htr_export.model import parse_metadata

    try:
        model = onnx.load(str(path))
    except DecodeError:
        raise ExportError(f"{path} is not a whole ONNX file; export it again") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    charset, config = parse_metadata(metadata, str(path))
    if (precision := metadata.get("precision", "fp32")) != "fp32":
        raise ExportError(f"{path} is {precision} already; give the float32 graph")
    spec = Preprocessing.from_dict(json.loads(metadata["preprocessing"])) if "preprocessing" in metadata else None
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return Source(path, charset, spec or Preprocessing(width=config.image_width), batch or 1)


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()
