"""The zip archive that a checkpoint is, looked at before it is unpacked."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from htr_engines.errors import CheckpointError, UnsafeCheckpointError
from htr_engines.files import open_file
from htr_engines.text import printable

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_SIZE = 5  # place in what zipfile tells of an archive's end
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


def some_names(names: list[str], most: int = 3) -> str:
    """Return the first names as a message shows them, and how many more there are."""
    named = printable(", ".join(name[:100] for name in names[:most]))
    return named + (f" and {len(names) - most} more" if len(names) > most else "")
