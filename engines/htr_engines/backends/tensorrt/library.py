"""The Python module of TensorRT or of TensorRT-RTX, and its logger, for building plans and for running them.

Both modules have one API, so the code that uses them takes the module as ``trt``.
"""

from __future__ import annotations

import functools
import importlib
from collections import deque
from typing import Any, Literal

from htr_engines.errors import EngineError, MissingExtraError, one_line
from htr_engines.host import Host
from htr_engines.versions import release

Runtime = Literal["tensorrt", "tensorrt-rtx"]
RUNTIMES: tuple[Runtime, ...] = ("tensorrt", "tensorrt-rtx")
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EXTRAS = {"tensorrt": "trt", "tensorrt-rtx": "rtx"}
OLDEST = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 0)}
LOG_LINES = 200  # kept of each build
LOG_WIDTH = 500  # characters of a line


def load_tensorrt(runtime: Runtime) -> Any:  # noqa: ANN401
    """Import the module of a runtime.

    Raises:
        MissingExtraError: if it is not installed.
        EngineError: if its libraries are missing, or it is too old.
    """
    name = MODULES[runtime]
    try:
        trt = importlib.import_module(name)
    except ModuleNotFoundError:
        if runtime == "tensorrt" and Host().jetson_release():
            raise EngineError(
                "TensorRT is not installed; install JetPack's with: sudo apt install python3-libnvinfer, and create "
                "the Python environment with --system-site-packages"
            ) from None
        raise MissingExtraError(name, EXTRAS[runtime]) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"the installed {name} cannot be loaded ({one_line(error)}); see why with 'htr-export doctor'"
        ) from None
    if release(trt.__version__)[:2] < OLDEST[runtime]:
        oldest = ".".join(str(number) for number in OLDEST[runtime])
        raise EngineError(f"{runtime} {trt.__version__} is too old; install {oldest} or later")
    return trt


@functools.cache
def logger_of(trt: Any) -> Any:  # noqa: ANN401
    """Return the logger of this process, an ``ILogger`` with the latest messages in ``lines``.

    TensorRT keeps the first logger that it is given, so there is one, and it prints nothing.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: deque[str] = deque(maxlen=LOG_LINES)

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity != trt.ILogger.Severity.VERBOSE:
                self.lines.append(f"{severity.name}: {message[:LOG_WIDTH]}")

    return Logger()


def last_error(trt: Any) -> str:  # noqa: ANN401
    """Return the latest error that the library logged, and forget all errors."""
    lines = logger_of(trt).lines
    errors = [line for line in lines if "ERROR: " in line]
    for line in errors:
        lines.remove(line)
    return one_line(errors[-1].split("ERROR: ", 1)[1] if errors else "")
