"""The command ``htr-export trt``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htr_engines.checks import Check
from htr_engines.console import HtrCommand, echo, hint, show_progress
from htr_engines.limits import RANGE_LINES
from htr_engines.options import ANY_PATH
from htr_export.preflight import check_output, force_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from htr_export.trt.make import BuiltPlan
    from htr_export.trt.prepare import Prepared


def parsed_by(name: str) -> Callable[..., Any]:
    """Return a Click callback that reads an option by a function of ``htr_export.trt.options``."""

    def callback(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:  # noqa: ANN401
        from htr_export.trt import options

        parse = getattr(options, name)
        try:
            return tuple(parse(one) for one in value) if parameter.multiple else value and parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), param=parameter) from None

    return callback


def shapes_option(which: str) -> Callable[..., Any]:
    """Return the option for one of the three shapes of a profile."""
    return click.option(
        f"--{which}-shapes",
        multiple=True,
        metavar="image:NxCxHxW",
        callback=parsed_by("parse_shape"),
        help="Of a profile; the three together, once for every profile.",
    )


@click.command("trt", cls=HtrCommand)
@click.argument("model", type=ANY_PATH, metavar="MODEL.onnx")
@click.option("-o", "--output", type=ANY_PATH, help="The .plan to write, or its folder.  [default: beside MODEL.onnx]")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "tensorrt", "tensorrt-rtx"]),
    default="auto",
    show_default=True,
    help="What is to run the plan; auto takes TensorRT where it is installed.",
)
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), help="Of a float32 graph.  [default: fp16]")
@click.option("--lines", "lines_dir", type=ANY_PATH, help="Real lines for the range check of fp16.")
@click.option("--list", "list_file", type=ANY_PATH, help=f"Their list, of which {RANGE_LINES} are drawn.")
@shapes_option("min")
@shapes_option("opt")
@shapes_option("max")
@click.option("--workspace", metavar="SIZE", callback=parsed_by("parse_size"), help="GPU memory for a layer: 512MiB.")
@click.option("--timing-cache", type=ANY_PATH, help="Measured times, kept for the next build. TensorRT only.")
@click.option("--hardware-compatible", is_flag=True, help="For all GPUs from sm80 on; slower. TensorRT only.")
@click.option("--version-compatible", is_flag=True, help="For later releases too; slower. TensorRT only.")
@click.option(
    "--target", "targets", metavar="sm86,sm89", callback=parsed_by("parse_targets"), help="TensorRT-RTX only."
)
@force_option
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done.")
def trt_command(
    model: Path,
    output: Path | None,
    lines_dir: Path | None,
    list_file: Path | None,
    targets: tuple[str, ...] | None,
    *,
    force: bool,
    dry_run: bool,
    **settings: Any,  # noqa: ANN401 - the options that PlanOptions holds under the same names
) -> None:
    """Build a plan for TensorRT or TensorRT-RTX from MODEL.onnx.

    A float32 graph is lowered to FP16 on the way; any other keeps its precision. The plan is TensorRT's own file;
    NAME.plan.json beside it says what it is and where it runs, and has to go where the plan goes.

    TensorRT builds for the GPU of this machine; TensorRT-RTX needs none, and its plans serve sm80, sm86, sm89, sm120
    and later.
    """
    if output is not None and output.suffix != ".plan" and not output.is_dir():
        raise click.UsageError(f"{output} should end in .plan, or be a folder")
    if list_file and not lines_dir:
        raise click.UsageError("--list needs --lines, the folder of its images")
    from htr_engines.lines import read_lines
    from htr_export.trt.make import make_plan, parse_prepared
    from htr_export.trt.options import PlanOptions
    from htr_export.trt.prepare import prepare

    with show_progress("reading the graph") as progress:
        options = PlanOptions(targets=targets or (), **settings)
        lines = read_lines(lines_dir, list_file) if lines_dir else []
        prepared = prepare(model, output, options, has_lines=bool(lines))
        check_output(prepared.target, force=force)
        if dry_run:
            _, checks = parse_prepared(prepared, lines, progress)
        else:
            built = make_plan(prepared, lines, progress)
            checks = built.checks
    for check in checks:
        echo(check)
    if dry_run:
        print_dry_run(prepared)
    else:
        print_built(built)


def print_dry_run(prepared: Prepared) -> None:
    """Print what a build would do."""
    from htr_export.trt.trtexec import trtexec_command

    graph, options = prepared.graph, prepared.options
    echo(
        Check(passed=True, detail=f"{prepared.runtime} {prepared.trt.__version__} parses the graph; nothing was built")
    )
    echo(f"model     {graph.path} ({graph.precision}, opset {graph.opset})")
    echo(f"precision {prepared.precision}" + (", converted on the way" if prepared.lowers else ""))
    echo(f"runs on   {prepared.gpus}")
    for profile in prepared.profiles:
        shapes = (profile.min, profile.opt, profile.max)
        echo("profile   " + " .. ".join("x".join(str(axis) for axis in shape) for shape in shapes))
    echo(f"workspace {f'{options.workspace} bytes' if options.workspace else 'all there is'}")
    echo(f"would write {prepared.target} and {prepared.target.name}.json")
    if prepared.lowers:
        echo(f"the same  htr-export onnx MODEL.safetensors -o {graph.path.stem}.fp16.onnx --precision fp16")
    echo(f"{'     then ' if prepared.lowers else 'the same  '}{trtexec_command(prepared)}")


def print_built(built: BuiltPlan) -> None:
    """Print what was written."""
    from htr_engines.backends.tensorrt.sidecar import gpus_of

    sidecar = built.sidecar
    size = f"{sidecar.plan_bytes / 1e6:.1f} MB"
    echo(f"wrote {built.plan} ({size}, {sidecar.precision}, {sidecar.seconds:.1f} s) and {built.plan.name}.json")
    echo(f"for   {sidecar.runtime} {sidecar.runtime_version} on {gpus_of(sidecar)}")
    command = ["--reference", "MODEL.safetensors", "--candidate", str(built.plan), "--lines", "DIR", "--list", "FILE"]
    hint("htr-export", "validate", *command, prefix="next  where it is to run: ")
