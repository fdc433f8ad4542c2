"""What a search starts from: the float32 graphs, the lines in their parts, and the fingerprint of it all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from htr_engines.errors import DataError, ExportError
from htr_engines.files import sha256_of
from htr_engines.host import describe_environment
from htr_engines.lines import fingerprint, read_lines
from htr_export.precision.precision_map import DEFAULT_METHOD, Calibration, PrecisionMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.abc import Traversable
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.lines import Line
    from htr_engines.preprocess import Preprocessing
    from htr_export.precision.precision_map import Method, Precision
    from htr_export.search.journal import Part

Target = Literal["onnxruntime", "openvino", "tensorrt"]
Judge = Literal["interval", "estimate"]
Aim = Literal["time", "size"]
TRIED: dict[Target, tuple[Precision, ...]] = {  # where the user does not say; what each is fast in
    "onnxruntime": ("int8",),
    "openvino": ("int8",),
    "tensorrt": ("fp16", "int8"),
}
FEWEST_LINES = 4  # two parts of two


@dataclass(frozen=True)
class SearchRequest:
    """What to search for, and on what."""

    model: Path  # .safetensors, or .onnx in float32
    output: Path  # the precision map, .toml
    lines_dir: Path
    list_file: Path | None = None
    calibration_list: Path | None = None  # None: lines of the list
    calibration: Method = DEFAULT_METHOD  # how int8 chooses where to clip
    target: Target = "onnxruntime"
    precisions: tuple[Precision, ...] = ()  # none: those of TRIED
    aim: Aim = "time"  # what to save
    max_cer_increase: float = 0.1  # percentage points
    judge: Judge = "interval"  # what of the increase has to stay within: its 95 % interval, or the estimate
    limit: int | None = None  # lines, drawn by the seed
    groups: int = 48  # of modules, at most, the rest included; each costs a reading of the measuring lines
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

    parts: Mapping[Part, list[Line]]
    drawn: list[Line]  # for the ranges of fp16 and the steps of int8
    calibration: Calibration  # that draws them, and no others
    listed: int


@dataclass(frozen=True)
class Source:
    """The float32 graphs and how they read."""

    graphs: Mapping[int, Path]  # by opset
    charset: Charset
    preprocessing: Preprocessing
    batch: int = 1  # their fixed batch size, 1 where they take any

    def graph_for(self, precision_map: PrecisionMap) -> Path:
        """Return the graph that ``htr-export onnx`` would lower for a map; where there is but one, that one."""
        return self.graphs.get(precision_map.opset, self.float32)

    @property
    def float32(self) -> Path:
        """The graph that is compared with."""
        return next(iter(self.graphs.values()))


def choose_lines(request: SearchRequest) -> SearchLines:
    """Read the lists and divide the lines by the seed: half to measure on, half held back for the proof.

    No held-back line serves the calibration, which is drawn from the calibration list, else from half of the list.

    Raises:
        DataError: if a list cannot be used or there are too few lines.
    """
    listed = read_lines(request.lines_dir, request.list_file)
    count = min(len(listed), request.limit or len(listed))
    if count < FEWEST_LINES:
        raise DataError(f"{count} lines are too few to divide; give at least {FEWEST_LINES}, better some hundreds")
    own = request.calibration_list is None
    candidates = listed if own else read_lines(request.lines_dir, request.calibration_list)
    most = min(len(listed) // 2, Calibration.lines) if own else Calibration.lines
    calibration = Calibration(request.calibration, most, request.seed)
    drawn = calibration.draw(candidates)
    seen = {line.image for line in drawn}
    order = np.random.default_rng(request.seed).permutation(len(listed))
    held_back = [index for index in order if listed[index].image not in seen][: count // 2]
    if len(held_back) < count // 2:
        raise DataError(
            f"{request.calibration_list} leaves {len(held_back)} of the {len(listed)} lines to prove a precision map "
            "on; give a calibration list that has few of them, or leave it out"
        )
    kept = set(held_back)
    measuring = [index for index in order if index not in kept][: count - len(held_back)]
    parts: dict[Part, list[Line]] = {
        "measuring": [listed[index] for index in sorted(measuring)],
        "held back": [listed[index] for index in sorted(held_back)],
    }
    return SearchLines(parts, drawn, calibration.fix(drawn), len(listed))


def prepare_source(model: Path, folder: Path, precisions: tuple[Precision, ...]) -> Source:
    """Return the float32 graphs of a model; they are exported into ``folder`` unless the model is a graph.

    The precisions to be tried decide the opsets.

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
        opsets = sorted({PrecisionMap(precision).opset for precision in ("fp32", *precisions)})
        graphs = {opset: folder / f"float32-{opset}.onnx" for opset in opsets}
        for opset, graph in graphs.items():
            write_graph(loaded, graph, OnnxOptions(opset))
        return Source(graphs, loaded.charset, loaded.preprocessing)
    if suffix == ".onnx":
        return _read_source(model)
    raise ExportError(f"{model} is neither .safetensors nor .onnx; strip the checkpoint first: htr-export strip")


def calibration_key(request: SearchRequest, lines: SearchLines) -> str:
    """Return the SHA-256 of all that the measurements on the drawn lines depend on."""
    facts = {
        "model": sha256_of(request.model),
        "calibration": asdict(lines.calibration),
        "code": _code_sha256(),
        "libraries": describe_environment()["libraries"],
    }
    return _digest(facts)


def search_key(request: SearchRequest, lines: SearchLines) -> str:
    """Return the SHA-256 of all that the outcome of a trial depends on."""
    facts = {
        "calibration": calibration_key(request, lines),
        "lines": {part: fingerprint(line.identity for line in chosen) for part, chosen in lines.parts.items()},
        "target": request.target,
        "threads": request.threads,
    }
    return _digest(facts)


def _read_source(path: Path) -> Source:
    from htr_export.metadata import parse_metadata
    from htr_export.onnx.file import read_onnx

    facts = read_onnx(path)
    charset, _ = parse_metadata(dict(facts.metadata), str(path))
    if facts.precision != "fp32":
        raise ExportError(f"{path} is {facts.precision} already; give the float32 graph")
    return Source({facts.opset: path}, charset, facts.preprocessing, facts.batch)


def _code_sha256() -> str:
    """Return the SHA-256 of this project's own code that exports, lowers and reads."""
    digest = hashlib.sha256()
    for package in ("htr_engines", "htr_export"):
        for content in _sources(files(package)):
            digest.update(content)
    return digest.hexdigest()


def _sources(folder: Traversable) -> Iterator[bytes]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py"):
            yield entry.read_bytes()


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("ascii")).hexdigest()
