"""Our ONNX against those that PyTorch's two exporters write of the same network.

python benchmarks/exporters.py model.safetensors --batch 1 --duration 12 --json exporters.json
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_bench.options import batch_sizes
from htr_engines.console import HtrCommand, show_progress
from htr_engines.errors import one_line
from htr_engines.options import EXISTING_FILE, figures_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from htr_bench.latency import LatencyOptions, TargetResult
    from htr_export.model import Model

ENGINES = ("onnxruntime", "openvino")
OURS = "htr-export"
OPSET = 20
ITERATIONS = 15  # calls of each, at least


def export_ours(model: Model, path: Path) -> None:
    """Export as ``htr-export onnx`` does, without its checks."""
    from htr_export.onnx.export import OnnxOptions, write_graph

    write_graph(model, path, OnnxOptions(opset=OPSET))


def export_stock_dynamo(model: Model, path: Path) -> None:
    """Export with ``torch.onnx.export(dynamo=True)``, batch and width dynamic, and leave it as it is."""
    import torch

    axes = {0: torch.export.Dim("batch", min=1), 3: 8 * torch.export.Dim("eighths", min=4, max=256)}
    torch.onnx.export(
        model.network(),
        (torch.zeros(2, 1, model.preprocessing.height, model.preprocessing.width),),
        path,
        dynamo=True,
        dynamic_shapes=(axes,),
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )


def export_stock_torchscript(model: Model, path: Path) -> None:
    """Export with ``torch.onnx.export(dynamo=False)``, batch and width dynamic, and leave it as it is."""
    import torch

    torch.onnx.export(
        model.network(),
        (torch.zeros(2, 1, model.preprocessing.height, model.preprocessing.width),),
        path,
        dynamo=False,
        dynamic_axes={"image": {0: "batch", 3: "width"}, "logits": {0: "batch", 1: "frames"}},
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
    )


EXPORTERS: dict[str, Callable[[Model, Path], None]] = {
    OURS: export_ours,
    "stock-dynamo": export_stock_dynamo,
    "stock-torchscript": export_stock_torchscript,
}


def write_exports(model: Model, folder: Path) -> dict[str, dict[str, Any]]:
    """Write one file per exporter; return the seconds, bytes and nodes of each, or why it failed."""
    import onnx

    facts: dict[str, dict[str, Any]] = {}
    for name, export in EXPORTERS.items():
        path = folder / f"{name}.onnx"
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export(model, path)
        except Exception as error:  # noqa: BLE001 - a stock exporter that fails is a finding
            facts[name] = {"failure": f"{type(error).__name__}: {one_line(error)}"}
            continue
        facts[name] = {
            "seconds": time.perf_counter() - began,
            "bytes": path.stat().st_size,
            "nodes": len(onnx.load(path).graph.node),
        }
    return facts


def compare(results: list[TargetResult]) -> list[dict[str, Any]]:
    """Return per engine and batch size the medians in seconds, and ours over the better stock one's."""
    from htr_bench.rows import median

    medians: dict[tuple[str, int], dict[str, float]] = {}
    for result in results:
        for item in result.measurements:
            key = (str(result.target.engine), item.batch)
            medians.setdefault(key, {})[result.target.path.stem] = median(item)
    comparison = []
    for (engine, batch), found in medians.items():
        stock = [value for name, value in found.items() if name != OURS]
        ratio = found[OURS] / min(stock) if stock and OURS in found else None
        comparison.append({"engine": engine, "batch": batch, "medians": found, "ours_over_best_stock": ratio})
    return comparison


@click.command(cls=HtrCommand)
@click.argument("model", type=EXISTING_FILE)
@figures_option
@click.option("--batch", "batches", default="1,8", show_default=True, callback=batch_sizes, help="Lines in a call.")
@click.option("--duration", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Seconds of each.")
@threads_option
def main(
    model: Path,
    json_file: Path | None,
    batches: tuple[int, ...],
    duration: float,
    threads: int | None,
) -> None:
    """Compare our ONNX of MODEL with PyTorch's own two exports of it, on the CPU engines, in turns."""
    from htr_bench.latency import LatencyOptions

    options = LatencyOptions(
        batches=batches, scopes=("engine",), duration=duration, iterations=ITERATIONS, threads=threads
    )
    document = run(model, options)
    for entry in document["comparison"]:
        medians = ", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in entry["medians"].items())
        ratio = entry["ours_over_best_stock"]
        shown = "-" if ratio is None else f"{ratio:.3f}"
        click.echo(f"{entry['engine']}, batch {entry['batch']}: {medians}; ours / best stock: {shown}")
    if json_file:
        from htr_export.reporting import write_document

        write_document(json_file, document)
        click.echo(f"Next: all figures are in {json_file}")


def run(model: Path, options: LatencyOptions) -> dict[str, Any]:
    """Export, measure and return the JSON document."""
    from htr_bench.latency import measure
    from htr_bench.table import to_document
    from htr_bench.targets import Target
    from htr_engines.host import describe_environment
    from htr_export.model import load_any

    environment = describe_environment()
    with tempfile.TemporaryDirectory() as scratch, show_progress("exporting") as progress:
        exports = write_exports(load_any(model), Path(scratch))
        written = [name for name, facts in exports.items() if "failure" not in facts]
        files = [Path(scratch) / f"{name}.onnx" for name in written]
        targets = [Target(path, name) for name in ENGINES for path in files]
        results = measure(targets, options, progress)
    document = to_document(results, options, [], environment)
    for target, result in zip(document["targets"], results, strict=True):
        target["target"] = f"{result.target.engine}:{result.target.path.name}"
    return {**document, "kind": "htr-bench exporters", "exports": exports, "comparison": compare(results)}


if __name__ == "__main__":
    main()
