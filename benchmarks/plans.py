"""Seconds, memory and size of the plans that ``htr-export trt`` builds.

python benchmarks/plans.py base.onnx base.int8.onnx --json plans.json
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from htr_engines.checks import mark
from htr_engines.console import HtrCommand, stderr_console
from htr_engines.errors import UnstableError
from htr_engines.options import EXISTING_FILE, figures_option
from steps import EXPORT, run_step, write_results

Clock = Literal["wall", "cpu"]
# What is promised of plans at the published size, on two cores.
SECONDS = 30.0
BYTES = {"fp16": 150e6, "int8": 100e6}


@dataclass(frozen=True)
class PlanFigures:
    """A plan that was built in a process of its own."""

    onnx: str
    precision: str
    runtime: str  # with its version
    onnx_bytes: int
    plan_bytes: int
    build_seconds: float  # of the builder
    build_cpu_seconds: float  # of the builder over all cores
    command_seconds: float  # of the whole command: reading, lowering, parsing, building and writing
    peak_bytes: int  # resident memory at its highest
    clock: Clock  # by which the build is judged

    @property
    def passed(self) -> bool:
        """Whether time and size keep to what is promised."""
        seconds = self.build_seconds if self.clock == "wall" else self.build_cpu_seconds
        return seconds <= SECONDS and self.plan_bytes <= BYTES.get(self.precision, float("inf"))


def measure_plan(onnx: Path, runtime: str, clock: Clock, folder: Path) -> PlanFigures:
    """Build a plan of an ONNX file by the command line.

    Raises:
        EngineError: with what the command said, if it fails.
    """
    from htr_engines.backends.tensorrt.sidecar import read_sidecar

    plan = folder / "measured.plan"
    step = run_step(f"trt {onnx.name}", [*EXPORT, "trt", onnx, "-o", plan, "--runtime", runtime])
    sidecar = read_sidecar(plan)
    return PlanFigures(
        onnx=onnx.name,
        precision=sidecar.precision,
        runtime=f"{sidecar.runtime} {sidecar.runtime_version}",
        onnx_bytes=onnx.stat().st_size,
        plan_bytes=sidecar.plan_bytes,
        build_seconds=sidecar.seconds,
        build_cpu_seconds=sidecar.flags["cpu_seconds"],
        command_seconds=step.seconds,
        peak_bytes=step.peak_bytes,
        clock=clock,
    )


@click.command(cls=HtrCommand)
@click.argument("models", type=EXISTING_FILE, nargs=-1, required=True, metavar="MODEL.onnx...")
@click.option(
    "--runtime",
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    default="tensorrt-rtx",
    show_default=True,
    help="Builder.",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="What the build is judged by; cpu on a machine that others use (TensorRT-RTX builds on the CPU alone).",
)
@figures_option
@click.option("--strict", is_flag=True, help="Exit with code 4 if a limit is missed.")
def main(models: tuple[Path, ...], runtime: str, clock: Clock, json_file: Path | None, *, strict: bool) -> None:
    """Measure the builds of plans from ONNX files against their limits.

    A float32 graph becomes an FP16 plan. The limits are those of the published size (base) on two cores.
    """
    from htr_engines.host import describe_environment

    environment = describe_environment()
    with tempfile.TemporaryDirectory() as scratch, stderr_console().status("building plans"):
        figures = [measure_plan(model, runtime, clock, Path(scratch)) for model in models]
    for one in figures:
        click.echo(_row(one))
    content = {
        "limits": {"build_seconds": SECONDS, "plan_bytes": BYTES},
        "plans": [{**asdict(one), "passed": one.passed} for one in figures],
    }
    write_results(json_file, "plans", content, {"seconds": "s", "bytes": "B"}, environment)
    if strict and (missed := [one.onnx for one in figures if not one.passed]):
        raise UnstableError(f"over the limit: {', '.join(missed)}; run again on a quiet machine")


def _row(one: PlanFigures) -> str:
    limit = f" (limit {BYTES[one.precision] / 1e6:.0f} MB)" if one.precision in BYTES else ""
    return (
        f"-[{mark(one.passed)}] {one.onnx}: {one.precision} on {one.runtime}, "
        f"build {one.build_seconds:.1f} s ({one.build_cpu_seconds:.1f} s of CPU; limit {SECONDS:.0f} s), "
        f"command {one.command_seconds:.1f} s, plan {one.plan_bytes / 1e6:.1f} MB{limit}, "
        f"peak {one.peak_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
