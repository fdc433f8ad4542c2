"""The profiles of a plan: which shapes it takes and which it is tuned for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from htr_engines.backends.tensorrt.sidecar import Profile
from htr_engines.errors import ExportError

if TYPE_CHECKING:
    from htr_engines.backends.base import TensorInfo
    from htr_export.trt.graph import OnnxGraph
    from htr_export.trt.options import NamedShape, PlanOptions

BATCHES = (1, 8, 32)  # min, opt and max where the graph leaves the batch open
WIDTHS = range(32, 2049, 8)  # that the network takes
AXES = ("batch", "channels", "height", "width")


def make_profiles(graph: OnnxGraph, options: PlanOptions) -> tuple[Profile, ...]:
    """Return the profiles that the options ask for, or one that suits the graph.

    Raises:
        ExportError: if a shape does not fit the graph, or the three of a profile do not fit each other.
    """
    if not (options.min_shapes or options.opt_shapes or options.max_shapes):
        return (_default(graph),)
    counts = {len(shapes) for shapes in (options.min_shapes, options.opt_shapes, options.max_shapes)}
    if len(counts) != 1:
        raise ExportError("give --min-shapes, --opt-shapes and --max-shapes together, each once for every profile")
    profiles = []
    for shapes in zip(options.min_shapes, options.opt_shapes, options.max_shapes, strict=True):
        for option, named in zip(("--min-shapes", "--opt-shapes", "--max-shapes"), shapes, strict=True):
            _check(named, graph, option)
        try:
            profiles.append(Profile(*(named.shape for named in shapes)))
        except ValueError as error:
            raise ExportError(
                f"{error}; let each axis grow from --min-shapes over --opt-shapes to --max-shapes"
            ) from None
    return tuple(profiles)


def narrow(graph: OnnxGraph, profiles: tuple[Profile, ...]) -> tuple[TensorInfo, TensorInfo]:
    """Return a plan's input and output: an axis of one length in all profiles has that length in place of a name."""
    shapes = [shape for profile in profiles for shape in (profile.min, profile.max)]
    lengths = [{shape[axis] for shape in shapes} for axis in range(len(AXES))]
    axes = [min(found) if len(found) == 1 else name for found, name in zip(lengths, graph.input.shape, strict=True)]
    batch, frames, classes = graph.output.shape
    batch = axes[0] if isinstance(batch, str) else batch
    # One frame stands for 4 pixels.
    frames = axes[3] // 4 if isinstance(frames, str) and isinstance(axes[3], int) else frames
    return replace(graph.input, shape=tuple(axes)), replace(graph.output, shape=(batch, frames, classes))


def _default(graph: OnnxGraph) -> Profile:
    """Take any number of lines of the width that the network was trained with, as far as the graph leaves it open."""
    batch, channels, height, width = graph.input.shape
    if isinstance(width, str):
        width = graph.preprocessing.width
    if isinstance(channels, str) or isinstance(height, str):
        raise ExportError(f"{graph.path} leaves channels or height open; export it again with 'htr-export onnx'")
    minimum, optimum, maximum = BATCHES if isinstance(batch, str) else (batch, batch, batch)
    rest = (channels, height, width)
    return Profile((minimum, *rest), (optimum, *rest), (maximum, *rest))


def _check(named: NamedShape, graph: OnnxGraph, option: str) -> None:
    if named.name != graph.input.name:
        raise ExportError(
            f"{option} {named}: the graph's input is called {graph.input.name!r}; give {graph.input.name}:..."
        )
    for axis, given, allowed in zip(AXES, named.shape, graph.input.shape, strict=True):
        if isinstance(allowed, int) and given != allowed:
            raise ExportError(f"{option} {named}: the graph's {axis} is {allowed}, not {given}; give {allowed} there")
        if given < 1:
            raise ExportError(f"{option} {named}: the {axis} should be at least 1")
    if named.shape[3] not in WIDTHS:
        raise ExportError(f"{option} {named}: the width should be a multiple of 8 from {WIDTHS[0]} to {WIDTHS[-1]}")
