"""``htr-export``: from a checkpoint to something that runs, proven on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htr_engines.charset import PRESETS, Charset, preset, read_charset
from htr_engines.checks import Check
from htr_engines.console import EXPORT, HtrGroup, echo, hint, show_progress
from htr_engines.errors import CheckpointError
from htr_engines.options import ANY_PATH, ModelPath
from htr_export.bundle.card import CardOptions, card_options
from htr_export.doctor.command import doctor_command
from htr_export.inspect_command import inspect_command
from htr_export.onnx.options import chosen_options, onnx_options
from htr_export.preflight import check_lines, check_output, check_packages, force_option, lm_option
from htr_export.search.command import search_command
from htr_export.triton.command import triton_command
from htr_export.trt.command import trt_command
from htr_export.tuning.command import tune_command
from htr_export.validation.command import MIN_CHARACTERS, lines_options, validate_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from htr_export.ship import Step
    from htr_export.strip import StripReport


@click.group(cls=HtrGroup)
@click.version_option(package_name="htr-export")
def main() -> None:
    """Turn checkpoints of HTR-ConvText into files that run anywhere, and prove that they still read as well."""


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to understand a training checkpoint."""
    for option in (
        click.option("--weights", type=click.Choice(["ema", "model"]), help="Which weights. [default: ema if there]"),
        click.option("--charset", "charset_file", type=ANY_PATH, help="File of the characters, in class order."),
        click.option(
            "--dataset",
            type=click.Choice(list(PRESETS), case_sensitive=False),
            help="Take the characters of this data set.",
        ),
    ):
        command = option(command)
    return command


def chosen_charset(dataset: str | None, charset_file: Path | None) -> Charset | None:
    """Return the characters that ``--dataset`` or ``--charset`` gives."""
    if dataset and charset_file:
        raise click.UsageError("give --dataset or --charset, not both")
    if charset_file:
        return read_charset(charset_file)
    return preset(dataset) if dataset else None


@main.command()
@click.argument("checkpoint", type=ModelPath())
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The .safetensors to write.")
@model_options
@force_option
def strip(
    checkpoint: Path,
    output: Path,
    dataset: str | None,
    charset_file: Path | None,
    weights: str | None,
    *,
    force: bool,
) -> None:
    """Take the inference network out of a training CHECKPOINT; no code in it is ever run."""
    charset = chosen_charset(dataset, charset_file)
    if output.suffix != ".safetensors":
        raise click.UsageError(f"{output} should end in .safetensors")
    check_output(output, force=force)
    with show_progress("reading the checkpoint"):
        from htr_export.strip import strip_checkpoint

        report = strip_checkpoint(checkpoint, output, charset, weights)
    _print_strip(report, output)


def _print_strip(report: StripReport, output: Path) -> None:
    tcm = f"{len(report.tcm_tensors)} tensors" if report.tcm_tensors else "none"
    echo(f"kept     the {report.weights} weights, {len(report.model.tensors)} tensors")
    echo(
        f"removed  TCM: {tcm}; optimizer: {megabytes(report.optimizer_bytes)}; "
        f"other weights: {megabytes(report.other_weights_bytes)}" + ("; mask_token" if report.mask_token else "")
    )
    echo(f"size     {megabytes(report.bytes_before)} -> {megabytes(report.bytes_after)}")
    echo(f"wrote    {output}")
    hint("htr-export", "onnx", str(output), "-o", str(output.with_suffix(".onnx")), prefix="next     ")


def megabytes(count: int) -> str:
    """Return a number of bytes in megabytes (10^6)."""
    return f"{count / 1e6:.1f} MB"


@main.command()
@click.argument("model", type=ModelPath())
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The .onnx to write.")
@onnx_options
@click.option("--atol", type=float, help="Allowed absolute error of logits.  [default: 4 times PyTorch's own + 1e-4]")
@click.option("--rtol", type=float, help="Allowed relative error of logits, added to --atol.")
@click.option(
    "--lines", "lines_dir", type=ANY_PATH, help="Real lines: for the range check of fp16, and to calibrate int8."
)
@click.option("--list", "list_file", type=ANY_PATH, help="Their list: .ln, .tsv, .csv, .jsonl.")
@model_options
@force_option
def onnx(
    model: Path,
    output: Path,
    atol: float | None,
    rtol: float | None,
    lines_dir: Path | None,
    list_file: Path | None,
    dataset: str | None,
    charset_file: Path | None,
    weights: str | None,
    *,
    force: bool,
    **graph: Any,  # noqa: ANN401 - those of onnx_options
) -> None:
    """Export MODEL (a .safetensors, or a checkpoint with strip's options) to ONNX and prove it equal to PyTorch."""
    charset = chosen_charset(dataset, charset_file)
    if output.suffix != ".onnx":
        raise click.UsageError(f"{output} should end in .onnx")
    check_output(output, force=force)
    if lines_dir:
        check_lines(lines_dir, list_file)
    with show_progress("loading PyTorch") as progress:
        from htr_engines.lines import read_lines
        from htr_export.model import load_any
        from htr_export.onnx.checks import OnnxTolerance
        from htr_export.onnx.export import export_onnx

        options = chosen_options(graph)
        loaded = load_any(model, charset, weights)
        lines = read_lines(lines_dir, list_file) if lines_dir else []
        checks = export_onnx(loaded, output, options, OnnxTolerance(atol, rtol), lines, progress)
    for check in checks:
        echo(check)
    echo(f"wrote {output} ({megabytes(output.stat().st_size)}, {options.precision}, opset {options.opset})")
    files = ["--reference", str(model), "--candidate", str(output), "--lines", "DIR", "--list", "FILE"]
    engine = ["--engine", "rounding"] if "bf16" in options.precision_map.precisions else []
    hint("htr-export", "validate", *files, *engine)


main.add_command(validate_command)
main.add_command(search_command)
main.add_command(triton_command)
main.add_command(trt_command)
main.add_command(doctor_command)
main.add_command(inspect_command)
main.add_command(tune_command)


@main.command()
@click.argument("models", type=ANY_PATH, nargs=-1, required=True, metavar="MODEL.(onnx|plan)...")
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The folder to write, NAME.htr.")
@click.option("--report", "reports", type=ANY_PATH, multiple=True, help="Folder of 'htr-export validate' on a model.")
@click.option("--latency", "latencies", type=ANY_PATH, multiple=True, help="JSON of 'htr-bench latency' on the models.")
@lm_option
@card_options
@force_option
def bundle(
    models: tuple[Path, ...],
    output: Path,
    reports: tuple[Path, ...],
    latencies: tuple[Path, ...],
    language_model: Path | None,
    *,
    force: bool,
    **card: Any,  # noqa: ANN401
) -> None:
    """Put models, characters, proof and golden vectors into one folder for devices.

    The MODELs are one network in several forms: ONNX files, and plans for several GPUs. htr-read takes the fastest
    that fits; one without a --report of its own is unproven and taken only where no proven one fits. What is written is
    tried with its own golden lines on every engine here; an engine that does not read them is not used for that model.

    Its README.md is a model card, so that 'hf upload OWNER/NAME NAME.htr' publishes it.
    """
    check_output(output, force=force)
    with show_progress("bundling") as progress:
        from htr_export.bundle.writer import write_bundle

        told = CardOptions(**card)
        manifest = write_bundle(
            models, output, reports, latencies, told, language_model=language_model, force=force, progress=progress
        )
    total = sum(file["bytes"] for file in manifest["files"].values())
    echo(f"wrote  {output} ({len(manifest['files'])} files, {megabytes(total)})")
    for model in manifest["models"]:
        verdicts = [f"{one['verdict']} with {engine}" for engine, one in model["validations"].items()]
        echo(f"model  {model['file']} ({model['precision']}): {'; '.join(verdicts) or 'not validated'}")
        for engine in model.get("self_test_failed", []):
            detail = f"{engine} does not read the golden lines of {model['file']}, so it is not used"
            echo(Check(passed=False, detail=detail))
    hint("htr-read", "--self-test", str(output), prefix="next   ")


@main.command()
@click.argument("bundle", type=ModelPath())
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The folder to write.")
def site(bundle: Path, output: Path) -> None:
    """Write a web page that reads with BUNDLE in its visitors' browsers; any web server serves the folder.

    Nothing that visitors read leaves their machine. The page works without a network after the first visit. Browsers
    ask for https, except on localhost.
    """
    from htr_export.site import write_site

    write_site(bundle, output)
    echo(f"wrote {output}")
    hint("python", "-m", "http.server", "--directory", str(output), "8000", prefix="next  ")


@main.command()
@click.argument("checkpoint", type=ModelPath())
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The bundle to write, NAME.htr.")
@lines_options
@click.option("--calibration-list", type=ANY_PATH, help="Other lines to calibrate on.  [default: --list]")
@lm_option
@onnx_options
@model_options
@card_options
@force_option
def ship(
    checkpoint: Path,
    output: Path,
    lines_dir: Path,
    list_file: Path | None,
    dataset: str | None,
    charset_file: Path | None,
    licence: str | None,
    languages: tuple[str, ...],
    data: str | None,
    *,
    accept_few: bool,
    force: bool,
    **settings: Any,  # noqa: ANN401 - those of onnx_options, and what ShipRequest holds under the same names
) -> None:
    """Turn a training CHECKPOINT into a validated bundle: strip, onnx, validate and bundle in one go.

    It is validated on every engine here that htr-read could choose. What has not changed since the last time is not
    done again. The lines also serve the range check of fp16 and the calibration of int8. NAME.htr.work beside the
    bundle keeps the files between the steps and the reports.
    """
    charset = chosen_charset(dataset, charset_file)
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint} does not exist; give a training checkpoint")
    check_output(output, force=force)
    check_lines(lines_dir, list_file)
    check_packages(EXPORT)
    check_packages(["onnxruntime"], "cpu")
    with show_progress("loading PyTorch") as progress:
        from htr_export.ship import ShipRequest
        from htr_export.ship import ship as ship_all

        graph = chosen_options(settings)
        request = ShipRequest(
            checkpoint,
            output,
            lines_dir,
            list_file,
            charset,
            onnx=graph,
            min_characters=0 if accept_few else MIN_CHARACTERS,
            card=CardOptions(licence, languages, data),
            force=force,
            **settings,
        )
        for step in ship_all(request, progress):
            _print_step(step)
    echo(f"report    {request.report / 'report.html'}")
    hint("htr-read", str(output), "IMAGE", prefix="next      ")


def _print_step(step: Step) -> None:
    took = f"{step.seconds:.1f} s" if step.done else "unchanged"
    echo(f"{step.name:9}{took:>10}  {step.result}")
    for check in step.checks:
        echo(f"{'':21}{check}")
