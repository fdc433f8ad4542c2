"""The command-line options that say what an ONNX graph should allow and in what it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines.limits import DEFAULT_OPSET, IMAGE_WIDTHS, OPSETS
from htr_export.precision.precision_map import (
    DEFAULT_METHOD,
    METHODS,
    PRECISIONS,
    PrecisionMap,
    PrecisionMapError,
    read_map,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from htr_export.onnx.export import OnnxOptions


class PrecisionParam(click.ParamType):  # type: ignore[type-arg]  # generic only in later releases of Click
    """The name of a precision, or a TOML file that gives each module one."""

    name = "precision"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PrecisionMap:  # noqa: ANN401
        """Return the precision map."""
        if isinstance(value, PrecisionMap):
            return value
        for precision in PRECISIONS:
            if value == precision:
                return PrecisionMap(precision)
        if not value.endswith(".toml"):
            self.fail(f"{value!r} is none of {', '.join(PRECISIONS)}, and no map that ends in .toml", param, ctx)
        try:
            return read_map(Path(value))
        except PrecisionMapError as error:
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
        click.option(
            "--calibration",
            type=click.Choice(METHODS),
            help=f"How int8 chooses where to clip.  [default: {DEFAULT_METHOD}, or as MAP.toml says]",
        ),
        _axis("--width", f"Pixels of a line, a multiple of 8 from {IMAGE_WIDTHS[0]} to {IMAGE_WIDTHS[-1]}."),
        _axis("--batch", "Lines per run."),
        click.option(
            "--opset",
            type=int,
            metavar="N",
            help=f"ONNX opset, {OPSETS[0]} to {OPSETS[-1]}.  [default: {DEFAULT_OPSET}; 22 for bf16]",
        ),
        click.option(
            "--precision",
            type=PrecisionParam(),
            default="fp32",
            show_default=True,
            metavar=f"[{'|'.join(PRECISIONS)}|MAP.toml]",
            help="Of the whole graph, or of each module; input and output stay float32.",
        ),
    ):
        command = option(command)
    return command


def chosen_options(settings: dict[str, Any]) -> OnnxOptions:
    """Take the options of :func:`onnx_options` out of the settings of a command, and return what they ask for."""
    from htr_export.onnx.export import OnnxOptions

    precision, opset, batch, width, calibration = map(
        settings.pop, ("precision", "opset", "batch", "width", "calibration")
    )
    if calibration is not None:
        if precision.calibration.sha256 is not None:
            raise click.UsageError("the precision map says how it is calibrated; leave --calibration out")
        precision = replace(precision, calibration=replace(precision.calibration, method=calibration))
    return OnnxOptions(precision.opset if opset is None else opset, precision, batch, width)


def _axis(name: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        name, default="dynamic", show_default=True, metavar="dynamic|N", callback=number_or_dynamic, help=text
    )
