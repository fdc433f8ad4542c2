"""Reading training checkpoints without ever running code from them.

PyTorch's weights-only loader does the work; this module decides what it may meet besides tensors and plain values
(NumPy's random state and numbers, which the published training saves) and explains what it refuses.
"""

from __future__ import annotations

import importlib
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from htr_engines.charset import Charset
from htr_engines.errors import CheckpointError, FileError, UnsafeCheckpointError, one_line
from htr_engines.files import open_file
from htr_engines.text import shown
from htr_export.archive import check_archive, check_pickle, some_names
from htr_export.network.config import NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

Weights = str  # "ema" or "model"
STATE_KEYS = {"ema": "state_dict_ema", "model": "model"}
MAX_WEIGHTS = 500_000_000  # size base has 66 million
PICKLES = 5  # that a file of PyTorch before 1.6 begins with: three headers, the content, the names of its tensors
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
        if state is None or not is_state_dict(state):
            names = some_names([shown(name) for name in self.content], 20)
            raise CheckpointError(f"the checkpoint has no {weights} weights ({STATE_KEYS[weights]!r}); it has: {names}")
        return {_unwrapped(name): tensor for name, tensor in state.items()}

    @property
    def default_weights(self) -> Weights:
        """Return ``ema`` where the checkpoint has averaged weights, which the published evaluation reads."""
        return "ema" if is_state_dict(self.content.get(STATE_KEYS["ema"])) else "model"

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
        """Return a finite number of the top level, such as ``best_cer``, or None."""
        value = self.content.get(name)
        if not isinstance(value, int | float | np.number) and not (isinstance(value, Tensor) and value.numel() == 1):
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # a tensor without data, an integer without end
            return None
        return number if math.isfinite(number) else None

    def bytes_of(self, *names: str) -> int:
        """Return the size of all tensors under entries of the top level."""
        return sum(_stored_bytes(tensor) for name in names for tensor in _tensors(self.content.get(name)))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any known layout, running nothing from it.

    Raises:
        UnsafeCheckpointError: if its pickle asks for anything beyond tensors, plain values and NumPy's random state.
        CheckpointError: if it is missing, damaged or no checkpoint.
    """
    try:
        open_file(path).close()
    except FileError as error:
        raise CheckpointError(str(error)) from None
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            check_archive(path)
        else:
            with open_file(path) as stream:
                for _ in range(PICKLES):
                    check_pickle(stream, str(path))
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is refused
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from None
    except (MemoryError, CheckpointError):
        raise
    except Exception as error:  # noqa: BLE001 - the loader raises nearly anything on damaged files
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch checkpoint ({one_line(error)}); copy it again"
        ) from None
    if is_state_dict(content):
        content = {"model": content}
    if not isinstance(content, Mapping) or not any(is_state_dict(content.get(key)) for key in STATE_KEYS.values()):
        raise CheckpointError(
            f"{path} holds no weights of HTR-ConvText: expected a state dict, or a checkpoint with 'model' or "
            "'state_dict_ema'"
        )
    return Checkpoint(content)


def inference_tensors(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Keep what inference needs, as float32.

    Raises:
        CheckpointError: if a tensor is missing, unknown, of a wrong shape or not finite.
    """
    from htr_export.network.model import HTRConvText

    with torch.device("meta"):
        expected = HTRConvText(config).state_dict()
    check_sizes(state)
    known = {name: tensor for name, tensor in state.items() if not name.startswith(TRAINING_ONLY)}
    if missing := [name for name in expected if name not in known]:
        raise CheckpointError(f"the checkpoint lacks {some_names(missing)}; it is of another network")
    if unknown := [name for name in known if name not in expected]:
        raise CheckpointError(f"the checkpoint has unknown tensors: {some_names(unknown)}; it is of another network")
    for name, blank in expected.items():
        if known[name].shape != blank.shape:
            raise CheckpointError(f"{name} has shape {tuple(known[name].shape)}, expected {tuple(blank.shape)}")
    tensors = {name: _plain(known[name], blank.dtype) for name, blank in expected.items()}
    if broken := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(
            f"the checkpoint has values that are not finite in {some_names(broken)}; its training diverged, so take an "
            "earlier checkpoint"
        )
    return tensors


def check_sizes(state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are larger than what is stored of them: a copy of such a view can fill any memory."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
            raise CheckpointError(f"{shown(name)} is not a plain dense tensor; save the checkpoint with such weights")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(tensor.numel() for tensor in state.values()) > MAX_WEIGHTS:
        raise CheckpointError(
            f"the checkpoint has more than {MAX_WEIGHTS} weights; no network of this kind has as many"
        )
    if sum(tensor.nbytes for tensor in state.values()) > sum(storages.values()):
        raise CheckpointError(
            "the checkpoint's tensors share their memory and would unpack to more than is stored; save copies of them"
        )


def infer_config(state: Mapping[str, Tensor]) -> NetworkConfig:
    """Read the published network's configuration off its tensors' shapes.

    Raises:
        CheckpointError: if the tensors are not of HTR-ConvText, or their size leaves the attention's heads open.
    """
    blocks = {int(found[1]) for name in state if (found := re.match(r"blocks\.([0-9]{1,4})\.", name))}
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


def is_state_dict(value: object) -> TypeGuard[Mapping[str, Tensor]]:
    """Say whether a value is a dictionary of named tensors and nothing else."""
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _plain(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype).contiguous()


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield each tensor within once, however deep it is, and in whatever circles the containers stand."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


def _stored_bytes(tensor: Tensor) -> int:
    """Return the bytes that a checkpoint holds of a tensor; 0 of kinds that no training of this network saves."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return 0
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())
