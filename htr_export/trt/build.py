"""Building a plan with TensorRT or TensorRT-RTX, which share one API."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from htr_engines.backends.tensorrt.library import last_error, logger_of
from htr_engines.errors import EngineError, ExportError, one_line
from htr_engines.files import atomic_path
from htr_export.onnx.file import name_modules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from htr_engines.backends.tensorrt.sidecar import Profile
    from htr_export.trt.options import PlanOptions

T = TypeVar("T")
INTERRUPTED = 130  # the exit code of a process that Ctrl-C ended
# What to do about some reasons, by a word in them.
CURES = {
    "workspace": "give a larger --workspace, or leave it out",
    "memory": "free some memory, or give smaller --max-shapes",
    "turing": "build it in fp16, or leave --target sm75 out",
}


@dataclass(frozen=True)
class Parsed:
    """A network and what has to live as long as it does."""

    builder: Any
    network: Any
    parser: Any  # owns the weights
    source: Path  # the file as the user knows it


@dataclass(frozen=True)
class Built:
    """A serialised plan."""

    plan: memoryview
    seconds: float
    cpu_seconds: float  # of the whole process meanwhile, over all threads
    log: tuple[str, ...]


def parse(trt: Any, onnx: Path, source: Path) -> Parsed:  # noqa: ANN401
    """Read an ONNX file into a strongly typed network; ``source`` is the file that it may have been converted from.

    Raises:
        EngineError: if there is no GPU that TensorRT needs.
        ExportError: naming the node that cannot be parsed, and its module.
    """
    logger = logger_of(trt)
    logger.lines.clear()
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError):  # as pybind11 says that there is none
        raise EngineError(
            f"{_library(trt)} cannot build here ({last_error(trt)}); TensorRT needs the GPU and its driver, "
            "tensorrt-rtx does not: choose --runtime tensorrt-rtx, or build on the device"
        ) from None
    # TensorRT 11 types all networks strongly and takes no notice of the flag; 10 needs it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    # From memory, since the builder's log would otherwise hold the name of a temporary file.
    if not parser.parse(onnx.read_bytes()):
        reason = _parser_error(parser, source)
        raise ExportError(
            f"{_library(trt)} cannot read {source} {reason}; export it with another --opset, or use a newer release"
        )
    return Parsed(builder, network, parser, source)


def _library(trt: Any) -> str:  # noqa: ANN401
    return f"{trt.__name__} {trt.__version__}"


def _parser_error(parser: Any, source: Path) -> str:  # noqa: ANN401
    if not parser.num_errors:
        return "and gave no reason"
    error = parser.get_error(0)
    reason = one_line(error.desc())
    if not error.node_name():
        return f"({reason})"
    return f"at node {name_modules(source, error.node_name())} of operator {error.node_operator()} ({reason})"


def build(
    trt: Any,  # noqa: ANN401
    parsed: Parsed,
    options: PlanOptions,
    profiles: tuple[Profile, ...],
    on_phase: Callable[[str], None],
) -> Built:
    """Build a plan. Ctrl-C ends it at its next step.

    Raises:
        ExportError: with the builder's reason if it fails.
        KeyboardInterrupt: if the user stopped it.
    """
    stop = threading.Event()
    monitor = make_monitor(trt, on_phase, stop)
    config = configure(trt, parsed, options, profiles)
    config.progress_monitor = monitor
    cache = open_timing_cache(config, options.timing_cache) if options.timing_cache else None
    start, cpu_start = time.perf_counter(), time.process_time()
    plan = run_stoppable(
        lambda: parsed.builder.build_serialized_network(parsed.network, config),
        stop,
        lambda: on_phase("stopping at the next step; Ctrl-C again ends it at once"),
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    if plan is None:
        raise ExportError(f"{_library(trt)} could not build the plan: {_builder_error(trt, parsed.source)}")
    if cache is not None and options.timing_cache:
        _save_timing_cache(config, options.timing_cache)
    return Built(memoryview(plan), seconds, cpu_seconds, tuple(logger_of(trt).lines))


def _builder_error(trt: Any, source: Path) -> str:  # noqa: ANN401
    reason = name_modules(source, last_error(trt))
    cure = next((cure for word, cure in CURES.items() if word in reason.lower()), "build it with other options")
    return f"{reason}; {cure}"


def configure(trt: Any, parsed: Parsed, options: PlanOptions, profiles: tuple[Profile, ...]) -> Any:  # noqa: ANN401
    """Return an ``IBuilderConfig`` with all settings but the timing cache."""
    config = parsed.builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 is to mean float32
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.targets:
        config.num_compute_capabilities = len(options.targets)
        for number, target in enumerate(options.targets):
            config.set_compute_capability(trt.ComputeCapability.__members__[target.upper()], number)
    name = parsed.network.get_input(0).name
    for shapes in profiles:
        profile = parsed.builder.create_optimization_profile()
        profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(profile) < 0:
            raise ExportError(f"{_library(trt)} refused the profile {shapes}; give other shapes")
    return config


def open_timing_cache(config: Any, path: Path) -> Any:  # noqa: ANN401
    """Give the builder the times that it measured in earlier builds.

    Raises:
        ExportError: if they are another GPU's or another release's.
    """
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise ExportError(f"{path} is no timing cache of this TensorRT and this GPU; delete it or give another file")
    return cache


def _save_timing_cache(config: Any, path: Path) -> None:  # noqa: ANN401
    with atomic_path(path) as temporary:
        temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))


def make_monitor(trt: Any, on_phase: Callable[[str], None], stop: threading.Event) -> Any:  # noqa: ANN401
    """Return an ``IProgressMonitor`` that tells each phase by its name and ends the build once ``stop`` is set.

    It counts nothing: TensorRT reports steps during a small part of a build only.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            on_phase(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002
            return not stop.is_set()

    return Monitor()


def run_stoppable(work: Callable[[], T], stop: threading.Event, on_stop: Callable[[], None]) -> T:
    """Run ``work`` beside the main thread, so that Ctrl-C is heard while a library computes.

    The first Ctrl-C sets ``stop``, calls ``on_stop`` and waits for ``work`` to end; a second one ends the process.

    Raises:
        KeyboardInterrupt: after ``work`` has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            stop.set()
            on_stop()
            before = signal.signal(signal.SIGINT, _end)
            future.exception()
            signal.signal(signal.SIGINT, before)
            raise


def _end(_signal: int, _frame: object) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h\n")  # the spinner hid the cursor
        sys.stderr.flush()
    os._exit(INTERRUPTED)
