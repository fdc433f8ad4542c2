"""A checkpoint's file, looked at before it is unpacked: its zip archive, and the instructions of its pickles."""

from __future__ import annotations

import io
import pickletools
import zipfile
from typing import IO, TYPE_CHECKING

from htr_engines.errors import CheckpointError, UnsafeCheckpointError
from htr_engines.files import open_file
from htr_engines.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DIRECTORY_SIZE = 5  # place in what zipfile tells of an archive's end
MAX_INSTRUCTIONS = 5_000_000  # of a pickle; a checkpoint of size base has 60 000
MAX_ELEMENTS = 100_000  # of a tuple, with those of the tuples in it; Python's random state has 625
MAX_DIRECTORY_BYTES = 4 << 20  # 600 tensors with their moments take 0.2 MB
MAX_PICKLE_BYTES = 8 << 20  # likewise 0.5 MB; what is not a tensor is read by Python, slowly


def check_archive(path: Path) -> None:
    """Refuse archives that unpack to more than they hold; PyTorch itself stores its entries uncompressed.

    Raises:
        CheckpointError: if it has too many entries, or too much in it that is no tensor.
        UnsafeCheckpointError: if it was made to unpack to more than it holds.
    """
    with open_file(path) as stream:
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # noqa: SLF001 - it alone reads no entries
        if end[DIRECTORY_SIZE] > MAX_DIRECTORY_BYTES:
            raise CheckpointError(f"{path} has more files in it than any checkpoint; give another one")
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        check_pickle(io.BytesIO(pickled.read()), str(path))


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise UnsafeCheckpointError(
            f"{path} holds compressed entries ({some_names(packed)}), which PyTorch never writes and which can unpack "
            "without end; save the checkpoint again with torch.save"
        )
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UnsafeCheckpointError(
            f"{path} claims to unpack to more than it holds; it was tampered with, so get it from its author"
        )
    if any(entry.file_size > MAX_PICKLE_BYTES for entry in entries if entry.filename.endswith(".pkl")):
        raise CheckpointError(f"{path} holds more than tensors, and too much of it to be read; save the weights alone")


def check_pickle(stream: IO[bytes], name: str) -> None:
    """Refuse a pickle that would take for ever: one of too many instructions, or whose tuples hold each other.

    Sixty tuples, each of which holds the one before twice, are a few bytes, and have 2^60 elements for whoever hashes
    the last one, as a dictionary does with its keys. What else is wrong is for the unpickler to say. The stream is left
    at the pickle's end.

    Raises:
        CheckpointError: if it is such a pickle.
    """
    try:
        fault = _fault_of(stream)
    except (ValueError, IndexError, KeyError):
        return
    if fault:
        raise CheckpointError(f"{name} holds {fault}")


def _fault_of(stream: IO[bytes]) -> str | None:
    stack: list[int] = []  # of what is on the unpickler's stack, how many elements one sees who follows all tuples
    marks: list[int] = []
    memo: dict[object, int] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_INSTRUCTIONS:
            return "more than tensors, and too much of it to be read; save the weights alone"
        if "PUT" in opcode.name or opcode.name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif "GET" in opcode.name:
            stack.append(memo[argument])
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        elif opcode.name == "MARK":
            marks.append(len(stack))
        else:
            taken = _take(stack, marks, opcode.stack_before)
            elements = 1 + sum(taken) if opcode.name.startswith(("TUPLE", "FROZENSET")) else 1
            if elements > MAX_ELEMENTS:
                return "tuples within tuples without end; get it from its author"
            stack += [elements] * len(opcode.stack_after)
    return None


def _take(stack: list[int], marks: list[int], before: Sequence[pickletools.StackObject]) -> list[int]:
    """Take off the stack what an instruction takes."""
    taken: list[int] = []
    count = len(before)
    if pickletools.markobject in before:
        start = marks.pop()
        taken, stack[start:] = stack[start:], []
        count = len([item for item in before if item not in {pickletools.markobject, pickletools.stackslice}])
    if count:
        taken, stack[-count:] = stack[-count:] + taken, []
    return taken


def some_names(names: list[str], most: int = 3) -> str:
    """Return the first names as a message shows them, and how many more there are."""
    named = printable(", ".join(name[:100] for name in names[:most]))
    return named + (f" and {len(names) - most} more" if len(names) > most else "")
