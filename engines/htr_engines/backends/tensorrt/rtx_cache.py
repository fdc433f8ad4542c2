"""Where TensorRT-RTX keeps the kernels that it compiled on this GPU, so that the next start does not compile them."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from htr_engines.files import atomic_path
from htr_engines.host import Host, cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.backends.tensorrt.cuda_memory import CudaDevice

_log = logging.getLogger(__name__)


def cache_path(plan_sha256: str, version: str, device: CudaDevice, host: Host | None = None) -> Path:
    """Return the file for a plan's kernels: a cache serves one TensorRT-RTX, one GPU and one driver.

    It is in ``$XDG_CACHE_HOME/htr-export``, by default ``~/.cache/htr-export``, since the plan's own folder may be
    read-only, or a bundle whose files are listed. Where Linux does not tell the driver's version, the CUDA version that
    it supports stands for it.
    """
    driver = (host or Host()).kernel_driver()
    driver = f"driver{driver}" if driver else f"cuda{device.driver_cuda}"
    parts = (plan_sha256[:16], f"rtx{version}", device.name, f"sm{device.compute_capability}", driver)
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts)
    return cache_folder() / f"{name}.rtxcache"


def load_cache(cache: Any, path: Path) -> bytes:  # noqa: ANN401 - an IRuntimeCache
    """Fill a runtime cache from its file and return what was read; one that it refuses is not used."""
    try:
        content = path.read_bytes()
        if cache.deserialize(content):
            return content
        reason = "TensorRT-RTX refused it"
    except FileNotFoundError:
        return b""
    except (OSError, RuntimeError) as error:
        reason = str(error)
    _log.warning("the cache of compiled kernels %s is not used (%s); it will be written again", path, reason)
    return b""


def save_cache(cache: Any, path: Path, loaded: bytes) -> None:  # noqa: ANN401 - an IRuntimeCache
    """Write a runtime cache if it grew; where that fails, the next start compiles again."""
    try:
        content = bytes(memoryview(cache.serialize()))
        if content != loaded:
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
    except (OSError, RuntimeError, TypeError) as error:
        _log.warning("the cache of compiled kernels %s could not be written (%s)", path, error)
