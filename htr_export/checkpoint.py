"""Reading training checkpoints without ever running code from them.

PyTorch's weights-only loader does the work; this module decides what it may meet besides tensors and plain values
(NumPy's random state and numbers, which the published training saves) and explains what it refuses.
"""

from __future__ import annotations

import importlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from htr_engines.charset import Charset
from htr_engines.errors import CheckpointError, UnsafeCheckpointError, one_line
from htr_export.network import NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

Weights = str  # "ema" or "model"
STATE_KEYS = {"ema": "state_dict_ema", "model": "model"}
WRAPPERS = ("module.", "_orig_mod.")  # that DataParallel and torch.compile put before every name
TRAINING_ONLY = ("mask_token", "tcm")  # beginnings of the names that inference has no use for
PUBLISHED_DIM = 512
PUBLISHED_HEAD_DIM = 64


@dataclass(frozen=True)
class Checkpoint:
    """A training checkpoint, read but not yet interpreted."""

    content: Mapping[str, Any]  # the top level, as it was saved; of a bare state dict {"model": it}

    def state(self, weights: Weights) -> dict[str, Tensor]:
        """Return the ``ema`` or ``model`` tensors, wrapper prefixes removed.

        Raises:
            CheckpointError: if the checkpoint has no such weights.
        """
        state = self.content.get(STATE_KEYS[weights])
        if state is None or not _is_state_dict(state):
            raise CheckpointError(
                f"the checkpoint has no {weights} weights ({STATE_KEYS[weights]!r}); it has: {', '.join(self.content)}"
            )
        return {_unwrapped(name): tensor for name, tensor in state.items()}

    @property
    def default_weights(self) -> Weights:
        """Return ``ema`` where the checkpoint has averaged weights, which the published evaluation reads."""
        return "ema" if _is_state_dict(self.content.get(STATE_KEYS["ema"])) else "model"

    @property
    def charset(self) -> Charset | None:
        """Return the character set that our own training saves with its checkpoints."""
        characters = self.content.get("charset")
        return Charset(characters) if isinstance(characters, str) else None

    @property
    def config(self) -> NetworkConfig | None:
        """Return the network's configuration that our own training saves."""
        numbers = self.content.get("network")
        return NetworkConfig.from_dict(numbers) if isinstance(numbers, Mapping) else None

    def number(self, name: str) -> float | None:
        """Return a number of the top level, such as ``best_cer``, or None."""
        try:
            return float(self.content[name])
        except (KeyError, TypeError, ValueError, RuntimeError):
            return None

    def bytes_of(self, *names: str) -> int:
        """Return the size of all tensors under entries of the top level."""
        return sum(tensor.nbytes for name in names for tensor in _tensors(self.content.get(name)))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any known layout, running nothing from it.

    Raises:
        UnsafeCheckpointError: if its pickle asks for anything beyond tensors, plain values and NumPy's random state.
        CheckpointError: if it is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a checkpoint file")
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the loader raises nearly anything on damaged files
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint ({one_line(error)}); copy it again"
        ) from None
    if _is_state_dict(content):
        content = {"model": content}
    if not isinstance(content, Mapping) or not any(_is_state_dict(content.get(key)) for key in STATE_KEYS.values()):
        raise CheckpointError(
            f"{path} holds no weights of HTR-ConvText: expected a state dict, or a checkpoint with 'model' or "
            "'state_dict_ema'"
        )
    return Checkpoint(content)


def inference_tensors(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Keep what inference needs, as float32.

    Args:
        state: tensors by name, without wrapper prefixes.
        config: of the network that they should fill.

    Raises:
        CheckpointError: if a tensor is missing, unknown, of a wrong shape or not finite.
    """
    from htr_export.network import HTRConvText

    with torch.device("meta"):
        expected = HTRConvText(config).state_dict()
    known = {name: tensor for name, tensor in state.items() if not name.startswith(TRAINING_ONLY)}
    if missing := [name for name in expected if name not in known]:
        raise CheckpointError(f"the checkpoint lacks {_some(missing)}; it is of another network")
    if unknown := [name for name in known if name not in expected]:
        raise CheckpointError(f"the checkpoint has unknown tensors: {_some(unknown)}; it is of another network")
    for name, blank in expected.items():
        if known[name].shape != blank.shape:
            raise CheckpointError(f"{name} has shape {tuple(known[name].shape)}, expected {tuple(blank.shape)}")
    tensors = {name: _plain(name, known[name], blank.dtype) for name, blank in expected.items()}
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(
            f"the checkpoint has values that are not finite in {_some(broken)}; its training diverged, so take an "
            "earlier checkpoint"
        )
    return tensors


def infer_config(state: Mapping[str, Tensor]) -> NetworkConfig:
    """Read the published network's configuration off its tensors' shapes.

    Raises:
        CheckpointError: if the tensors are not of HTR-ConvText, or their size leaves the attention's heads open.
    """
    blocks = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
    try:
        dim = state["norm.weight"].shape[0]
        num_classes = state["head.weight"].shape[0]
        num_heads = state["blocks.0.attn.rel_pos_bias.bias.weight"].shape[1]
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"the checkpoint is not of HTR-ConvText: {error} is missing or misshapen") from None
    if dim != PUBLISHED_DIM:
        raise CheckpointError(
            f"a network {dim} wide needs its configuration, which bare weights lack; give the checkpoint that "
            "htr-train wrote"
        )
    return NetworkConfig(
        num_classes=num_classes,
        embed_dim=dim,
        depth=len(blocks),
        num_heads=num_heads,
        mobilevit_head_dim=PUBLISHED_HEAD_DIM,
    )


def _check_archive(path: Path) -> None:
    """Refuse archives that unpack to more than they hold; PyTorch itself stores its entries uncompressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise UnsafeCheckpointError(
            f"{path} holds compressed entries ({_some(packed)}), which PyTorch never writes and which can unpack "
            "without end; save the checkpoint again with torch.save"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UnsafeCheckpointError(
            f"{path} claims to unpack to more than it holds; it was tampered with, so get it from its author"
        )


def _numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return what a pickled ``numpy.random.get_state()`` and a pickled NumPy number ask for, and nothing else."""
    package = "numpy._core" if hasattr(np, "_core") else "numpy.core"
    multiarray = importlib.import_module(f"{package}.multiarray")
    functions = {name: getattr(multiarray, name) for name in ("_reconstruct", "scalar")}
    named: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (function, f"numpy.{package}.multiarray.{name}")
        for name, function in functions.items()
        for package in ("core", "_core")
    ]
    plain_dtypes = [type(np.dtype(kind)) for kind in (np.uint32, np.int64, np.float32, np.float64)]
    return [*named, np.ndarray, np.dtype, *plain_dtypes]


def _refusal(path: Path, message: str) -> CheckpointError:
    if found := re.search(r"GLOBAL (\S+)", message):
        return UnsafeCheckpointError(
            f"{path} asks to run {found[1].strip(',.')!r} while it is loaded, which no checkpoint needs; it was not "
            "run. Do not load this file elsewhere, and ask its author for the bare state dict"
        )
    if "Unsupported" in message or "not allowed" in message or "allowlist" in message:
        return UnsafeCheckpointError(
            f"{path} asks for something that could run code ({_unsupported(message)}); nothing was run. "
            "Ask its author for the bare state dict"
        )
    return CheckpointError(f"{path} is not a PyTorch checkpoint, or is cut short ({one_line(message)}); copy it again")


def _unsupported(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if "nsupported" in line), "unknown").rstrip(".")


def _is_state_dict(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _plain(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise CheckpointError(f"{name} is not a plain dense tensor; save the checkpoint unquantised")
    return tensor.detach().to(dtype).contiguous()


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
