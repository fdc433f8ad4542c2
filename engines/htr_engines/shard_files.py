"""One share of many lines, as jobs of a cluster take them: ``htr-read --shard 3/16``, and ``htr-read merge``.

A share is a file of JSON lines that is written aside and renamed, with a summary beside it; a job that runs again
skips what is complete. Shares are blocks of the list, so that they are put together in its order.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from htr_engines.documents import load_json
from htr_engines.errors import DataError, FileError, MissingExtraError
from htr_engines.files import atomic_path, write_text
from htr_engines.metrics import ErrorCounts, count_errors
from htr_engines.text import collapse, read_text, to_json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from htr_engines.recognizer import LineResult
    from htr_engines.shard import Shard

SCHEMA_VERSION = 1
CURE = "read that share again with --force"


@dataclass(frozen=True)
class Summary:
    """What became of the lines of one or several shares."""

    lines: int = 0
    failures: int = 0
    seconds: float = 0.0
    char_edits: int = 0  # of the lines that have a transcript beside them
    chars: int = 0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.lines + other.lines,
            self.failures + other.failures,
            self.seconds + other.seconds,
            self.char_edits + other.char_edits,
            self.chars + other.chars,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        rates: dict[str, Any] = {"lines_per_s": round(self.lines / self.seconds, 2) if self.seconds else None}
        if self.chars:
            rates["cer"] = round(100 * self.char_edits / self.chars, 3)
        return {**asdict(self), **rates}


@dataclass(frozen=True)
class _Kept:
    """A summary as it stands beside its share."""

    bundle: str
    sources: str
    index: int
    count: int
    summary: Summary


def sources_sha256(names: Iterable[str]) -> str:
    """Return one SHA-256 over the names of all lines, those of the other shares too."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def write_shard(
    path: Path,
    shard: Shard,
    results: Callable[[], Iterable[tuple[LineResult, Path | None]]],
    *,
    bundle: str,
    sources: str,
    force: bool = False,
) -> Summary | None:
    """Read a share and write it, unless that is done.

    Args:
        path: the file of the share.
        shard: which share it is.
        results: begins to read: a result for each line, and its image file if it has one.
        bundle: what reads: its name, fingerprint and decoder.
        sources: by :func:`sources_sha256`.
        force: read again what is complete.

    Returns:
        What became of the lines; None if the share was complete.

    Raises:
        DataError: if the share was read by another bundle, or is one of other lines.
    """
    beside = path.with_suffix(".json")
    if path.is_file() and beside.is_file() and not force:
        kept = load_json(beside, _Kept, CURE)
        if (kept.bundle, kept.sources, kept.index, kept.count) == (bundle, sources, shard.index, shard.count):
            return None
        raise DataError(f"{path} is of another bundle or of other lines; give another folder, or --force")
    beside.unlink(missing_ok=True)
    began = time.perf_counter()
    summary = Summary()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for result, image in results():
            stream.write(to_json_text(to_record(result)) + "\n")
            summary += summarize(result, image)
    summary = replace(summary, seconds=round(time.perf_counter() - began, 3))
    kept = _Kept(bundle, sources, shard.index, shard.count, summary)
    write_text(
        beside, to_json_text({"schema_version": SCHEMA_VERSION, "kind": "htr-read shard", **asdict(kept)}) + "\n"
    )
    return summary


def to_record(result: LineResult) -> dict[str, Any]:
    """Return a result for JSON."""
    record: dict[str, Any] = {"file": result.source, "page": result.page}
    if result.reading is None:
        return {**record, "error": result.error}
    return {**record, **result.reading.to_dict()}


def summarize(result: LineResult, image: Path | None) -> Summary:
    """Count one line, against the transcript beside its image if there is one."""
    counts = ErrorCounts()
    if result.reading is not None and image is not None:
        with contextlib.suppress(FileError, ValueError, MissingExtraError):  # no transcript, or nothing to count with
            counts = count_errors(result.reading.text, collapse(read_text(image.with_suffix(".txt"))))
    return Summary(1, int(result.reading is None), 0.0, counts.char_edits, counts.chars)


def merge_shards(folder: Path, output: Path) -> Summary:
    """Put the shares of a folder together, in the order of the lines.

    Args:
        folder: that all shares were written to.
        output: the file of JSON lines to write.

    Raises:
        DataError: if a share is missing, or two are of different bundles or lines.
    """
    found = [(path, load_json(path, _Kept, CURE)) for path in sorted(folder.glob("shard-*-of-*.json"))]
    if not found:
        raise DataError(
            f"{folder} holds no complete share; write them with: htr-read BUNDLE LINES --shard 1/16 -o {folder}"
        )
    first = found[0][1]
    for path, kept in found:
        if (kept.bundle, kept.sources, kept.count) != (first.bundle, first.sources, first.count):
            raise DataError(f"{path} is of another bundle or of other lines than {found[0][0].name}; {CURE}")
    missing = sorted(set(range(1, first.count + 1)) - {kept.index for _, kept in found})
    if missing:
        raise DataError(f"{folder} lacks share {_listed(missing)} of {first.count}; read what is missing")
    with atomic_path(output) as temporary, temporary.open("wb") as stream:
        for path in _in_order(found):
            with path.with_suffix(".jsonl").open("rb") as share:
                shutil.copyfileobj(share, stream)
    return sum((kept.summary for _, kept in found), Summary())


def _in_order(found: Sequence[tuple[Path, _Kept]]) -> Iterator[Path]:
    for path, _ in sorted(found, key=lambda item: item[1].index):
        yield path


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:10]))
    return shown if len(numbers) <= 10 else f"{shown} and {len(numbers) - 10} more"  # noqa: PLR2004
