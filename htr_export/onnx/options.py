"""The command-line options that say what an ONNX graph should allow and in what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_export.precision.precision_map import (
    DEFAULT_METHOD,
    METHODS,
    PRECISIONS,
    PrecisionPlan,
    PrecisionPlanError,
    read_plan,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from htr_export.onnx.export import OnnxOptions
    from htr_export.precision.precision_map import Method

OPSET = 20  # the highest that TensorRT 10.3 reads


class PrecisionParam(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of Click
    """The name of a precision, or a TOML file that gives each module one."""

    name = "precision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PrecisionPlan:  # noqa: ANN401
        """Return the plan."""
        if isinstance(value, PrecisionPlan):
            return value
        for precision in PRECISIONS:
            if value == precision:
                return PrecisionPlan(precision)
        if not value.endswith(".toml"):
            self.fail(f"{value!r} is none of {', '.join(PRECISIONS)}, and no plan that ends in .toml", param, ctx)
        try:
            return read_plan(Path(value))
        except PrecisionPlanError as error:
            self.fail(str(error), param, ctx)


def number_or_dynamic(_context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """Read a Click option that is a number or the word ``dynamic``, which gives None."""
    if value == "dynamic":
        return None
    if not value.isdecimal():
        raise click.BadParameter(f"{value!r} is neither a whole number nor 'dynamic'", param=parameter)
    return int(value)


def onnx_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as ``**graph``, for :func:`chosen_options`."""
    for option in (
        click.option("--seed", type=int, default=0, show_default=True, help="Of the draw of calibration lines."),
        click.option(
            "--calibration-lines",
            type=click.IntRange(min=1),
            default=500,
            show_default=True,
            help="How many of the lines int8 is calibrated on.",
        ),
        click.option(
            "--calibration",
            type=click.Choice(METHODS),
            default=DEFAULT_METHOD,
            show_default=True,
            help="How int8 chooses where to clip.",
        ),
        _axis("--width", "Pixels of a line, a multiple of 8 from 32 to 2048."),
        _axis("--batch", "Lines per run."),
        click.option("--opset", type=int, metavar="N", help=f"ONNX opset, 18 to 23.  [default: {OPSET}; 22 for bf16]"),
        click.option(
            "--precision",
            type=PrecisionParam(),
            default="fp32",
            show_default=True,
            metavar=f"[{'|'.join(PRECISIONS)}|PLAN.toml]",
            help="Of the graph, or of its modules; input and output stay float32.",
        ),
    ):
        command = option(command)
    return command


def chosen_options(
    *,
    precision: PrecisionPlan,
    opset: int | None,
    batch: int | None,
    width: int | None,
    calibration: Method,
    calibration_lines: int,
    seed: int,
) -> OnnxOptions:
    """Return what the options of :func:`onnx_options` ask for."""
    from htr_export.onnx.export import CalibrationOptions, OnnxOptions

    opset = max(OPSET, precision.lowest_opset) if opset is None else opset
    return OnnxOptions(opset, precision, batch, width, CalibrationOptions(calibration, calibration_lines, seed))


def _axis(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, default="dynamic", show_default=True, metavar="dynamic|N", callback=number_or_dynamic, help=text
    )
