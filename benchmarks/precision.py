"""What every precision costs in accuracy on real lines, on each engine that runs it on the CPU.

python benchmarks/precision.py model.safetensors --lines data/dhsd/lines --list data/dhsd/val.ln \
        --calibration-list data/dhsd/train.ln --json precision.json
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, show_progress
from htr_engines.limits import CALIBRATION_LINES
from htr_engines.options import EXISTING_FILE, EXISTING_FOLDER, figures_option, threads_option
from htr_engines.progress import SILENT
from steps import write_results

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from htr_engines.backends.base import Engine
    from htr_engines.lines import Line
    from htr_engines.progress import Progress
    from htr_export.model import Model
    from htr_export.precision.lowering import Lowering
    from htr_export.precision.precision_map import PrecisionMap
    from htr_export.validation.result import ValidationResult

# Half precision and bfloat16 also with every value rounded, which ONNX Runtime does not do on the CPU.
ENGINES = {"fp16": ("onnxruntime", "rounding"), "bf16": ("rounding", "openvino")}


@dataclass(frozen=True)
class Variant:
    """One graph to try."""

    name: str
    precision_map: PrecisionMap

    @property
    def engines(self) -> tuple[str, ...]:
        """What runs it."""
        return ENGINES.get(self.precision_map.name, ("onnxruntime", "openvino"))


class Source:
    """The float32 graphs of a model, and their lowered forms."""

    def __init__(self, model: Model, folder: Path, lines: Sequence[Line]) -> None:
        self._model, self._folder, self._lines = model, folder, lines
        self._lowerings: dict[tuple[int, int, int], Lowering] = {}

    def write(self, variant: Variant) -> Path:
        """Write the graph of a variant, on measurements that variants of one draw of the lines share."""
        from htr_export.onnx.export import OnnxOptions, write_graph
        from htr_export.precision.lowering import Lowering

        opset, calibration = variant.precision_map.opset, variant.precision_map.calibration
        key = (opset, calibration.seed, calibration.lines)
        if key not in self._lowerings:
            drawn = calibration.draw(self._lines)
            graph = self._folder / f"opset-{opset}.onnx"
            if not graph.exists():
                write_graph(self._model, graph, OnnxOptions(opset))
            self._lowerings[key] = Lowering(graph, drawn, self._model.preprocessing)
        target = self._folder / f"{variant.name}.onnx"
        self._lowerings[key].write(target, variant.precision_map)
        return target


@click.command(cls=HtrCommand)
@click.argument("model", type=EXISTING_FILE)
@click.option("--lines", "lines_dir", type=EXISTING_FOLDER, required=True, help="Folder of line images.")
@click.option("--list", "list_file", type=EXISTING_FILE, required=True, help="The lines to read.")
@click.option("--calibration-list", type=EXISTING_FILE, required=True, help="The lines for ranges and calibration.")
@click.option(
    "--map", "maps", type=EXISTING_FILE, multiple=True, help="A precision map to try as well; may be repeated."
)
@threads_option
@figures_option
def main(
    model: Path,
    lines_dir: Path,
    list_file: Path,
    calibration_list: Path,
    maps: tuple[Path, ...],
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Read lines with MODEL (a .safetensors) in every precision and compare the error rates with PyTorch's."""
    from htr_engines.host import describe_environment
    from htr_engines.lines import read_lines
    from htr_export.model import load_any
    from htr_export.precision.precision_map import read_map

    lines = read_lines(lines_dir, list_file)
    calibration = read_lines(lines_dir, calibration_list)
    variants = [*uniform_variants(), *(Variant(path.stem, read_map(path)) for path in maps)]
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as folder, show_progress("exporting") as progress:
        loaded = load_any(model)
        source = Source(loaded, Path(folder), calibration)
        rows = []
        for row in try_all(loaded, source, variants, lines, threads, progress):
            rows.append(row)
            click.echo(_line(row))
    content = {
        "lines": len(lines),
        "calibration_lines": min(CALIBRATION_LINES, len(calibration)),
        "rows": rows,
    }
    units = {"cer": "per cent", "cer_increase": "percentage points"}
    write_results(json_file, "precision", content, units, environment)


def uniform_variants() -> list[Variant]:
    """Return every precision, int8 with every method of calibration."""
    from htr_export.precision.precision_map import METHODS, Calibration, PrecisionMap

    floats = [Variant(name, PrecisionMap(name)) for name in ("fp32", "fp16", "bf16")]
    return [*floats, *(Variant(f"int8-{name}", PrecisionMap("int8", {}, Calibration(name))) for name in METHODS)]


def try_all(
    model: Model,
    source: Source,
    variants: Sequence[Variant],
    lines: Sequence[Line],
    threads: int | None,
    progress: Progress = SILENT,
) -> Iterator[dict[str, Any]]:
    """Write each variant, read the lines with each of its engines, and yield what came of it."""
    from htr_export.open_model import open_any
    from htr_export.torch_engine import TorchEngine
    from htr_export.validation.caching import CachingEngine

    with ExitStack() as kept:
        reference = CachingEngine(kept.enter_context(TorchEngine(model, threads)))
        for variant in variants:
            progress.step(f"writing {variant.name}")
            path = source.write(variant)
            for name in variant.engines:
                progress.step(f"reading with {variant.name} on {name}")
                with open_any(path, name, threads) as candidate:
                    result = _read(model, reference, candidate, lines, variant)
                yield _row(variant, name, path.stat().st_size, result)


def _read(
    model: Model, reference: Engine, candidate: Engine, lines: Sequence[Line], variant: Variant
) -> ValidationResult:
    from htr_export.validation.parity import ValidationOptions, validate

    options = ValidationOptions(precision=variant.precision_map.name)
    spec = model.preprocessing
    return validate(reference, candidate, lines, charset=model.charset, preprocessing=spec, options=options)


def _row(variant: Variant, engine: str, size: int, result: ValidationResult) -> dict[str, Any]:
    increase = result.cer_increase
    return {
        "name": variant.name,
        "precision_map": {"default": variant.precision_map.default, "modules": dict(variant.precision_map.modules)},
        "engine": engine,
        "bytes": size,
        "lines": result.lines,
        "changed": result.changed,
        "cer": result.candidate_rates.cer,
        "cer_increase": increase.estimate,
        "cer_increase_95": [increase.low, increase.high],
        "max_abs": result.tensors.max_abs,
        "mean_abs": result.tensors.mean_abs,
        "cosine": result.tensors.cosine,
    }


def _line(row: Mapping[str, Any]) -> str:
    rates = f"CER {row['cer']:.3f} %, {row['cer_increase']:+.3f} points"
    return f"{row['name']} on {row['engine']}: {rates}, {row['changed']} changed, {row['bytes'] / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
