"""Mutated files against all that reads files: each may cost one sentence, never a traceback, a hang or gigabytes.

By hand, for as long as you like::

    python tests/fuzz.py --seconds 3600 --seed 7 --keep found/ checkpoint onnx

Every case is given by its kind, the seed and its number, so that ``--seed 7 --first 123 --cases 1 onnx`` runs it again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reader = Callable[[Path], object]

sys.path.insert(0, str(Path(__file__).parent))

KINDS = (
    *("checkpoint", "safetensors", "onnx", "manifest", "sidecar", "report", "charset", "list", "table", "names"),
    *("recipe", "map", "page", "language model", "image"),
)
LONGEST_S = 30.0  # for one case
MOST_BYTES = 3 << 30  # resident, of one process
CASES = 25  # that a process runs, one after the other
PIECES = (
    *("NaN", "-1", "0", "1e999", "9" * 30, "9" * 5000, "true", "null", '""', "[]", "{}", "\0", "\x1b]0;x\x07", "\n"),
    *("[" * 2000, '{"a":' * 2000, "a." * 2000, "\\ud800", "\u202e", "x" * 300, "../" * 9, "\xff", "<!DOCTYPE x>", "é"),
)


class Kind(NamedTuple):
    """Files of one kind, and what reads them."""

    suffix: str
    seeds: tuple[bytes, ...]
    read: Reader


class Failure(NamedTuple):
    """A case that did not end in one sentence."""

    kind: str
    case: int
    what: str


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Return a file with one to eight things wrong."""
    if content[:2] == b"PK" and draw.random() < 0.7:
        return _mutate_archive(content, draw)
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        place, other = (draw.randrange(len(changed) + 1) for _ in range(2))
        action = draw.randrange(7)
        if action == 0 and changed:
            changed[min(place, len(changed) - 1)] = draw.randrange(256)
        elif action == 1:
            changed[place:place] = draw.choice(PIECES).encode("latin-1", "replace")
        elif action == 2:
            del changed[place : place + draw.choice((1, 4, 100))]
        elif action == 3:
            changed[place:place] = changed[other : other + draw.choice((4, 40, 400))]
        elif action == 4:
            changed[place : place + 4] = draw.choice((0, 1, 255, 2**31 - 1, 2**32 - 1)).to_bytes(4, "little")
        elif action == 5 and (numbers := list(re.finditer(rb"[0-9]+", bytes(changed[:100_000])))):
            found = draw.choice(numbers)
            changed[found.start() : found.end()] = draw.choice(PIECES).encode("latin-1", "replace")
        elif action == 6 and draw.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def _mutate_archive(content: bytes, draw: random.Random) -> bytes:
    """Change the pickle of a checkpoint and pack it again, so that the change gets past the checksums."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(entry.filename, mutate(data, draw) if entry.filename.endswith(".pkl") else data)
    return packed.getvalue()


def run_case(kind: Kind, name: str, seed: int, case: int, folder: Path) -> str | None:
    """Read one mutated file; return what went wrong, None if nothing did."""
    from htr_engines.errors import HtrError

    draw = random.Random(f"{name}-{seed}-{case}")  # noqa: S311 - wants to be the same each time
    path = folder / f"case{kind.suffix}"
    path.write_bytes(mutate(draw.choice(kind.seeds), draw))
    start = time.monotonic()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            kind.read(path)
    except HtrError as error:
        if not str(error).isprintable():
            return f"a message that is not one printable line: {error!r}"
    except Exception:  # noqa: BLE001 - this is what is looked for
        return traceback.format_exc()
    took, held = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if took > LONGEST_S or held > MOST_BYTES:
        return f"it took {took:.0f} s and {held / 1e9:.1f} GB"
    return None


def run_kind(kind: Kind, name: str, seed: int, cases: range, folder: Path) -> Iterator[Failure]:
    """Run cases in processes of their own, so that a crash or a hang costs one of them."""
    context = multiprocessing.get_context("fork")
    first = cases.start
    while first < cases.stop:
        receiver, sender = context.Pipe(duplex=False)
        part = range(first, min(first + CASES, cases.stop))
        process = context.Process(target=_work, args=(kind, name, seed, part, folder, sender))
        process.start()
        sender.close()
        for case in part:
            what: str | None = f"it hung for {2 * LONGEST_S:.0f} s"
            with contextlib.suppress(EOFError):
                what = "the process crashed"
                what = receiver.recv() if receiver.poll(2 * LONGEST_S) else f"it hung for {2 * LONGEST_S:.0f} s"
            first = case + 1
            if what is not None:
                yield Failure(name, case, what)
            if what == "the process crashed" or (what or "").startswith("it hung"):
                break
        process.kill()
        process.join()


def _work(kind: Kind, name: str, seed: int, cases: range, folder: Path, sender: object) -> None:
    for stream in (1, 2):  # native libraries print what they think of such files
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for case in cases:
        sender.send(run_case(kind, name, seed, case, folder))  # type: ignore[attr-defined]


def main() -> int:
    """Run until the time is over; return 1 if anything was found."""
    from helpers.fuzz_kinds import make_kinds

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="Which kinds of files.  [default: all]")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--cases", type=int, default=10**9, help="How many of each kind at most.")
    parser.add_argument("--keep", type=Path, help="Folder for the files that were found.")
    options = parser.parse_args()
    end, found, done = time.monotonic() + options.seconds, 0, options.first
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = make_kinds(folder)
        while time.monotonic() < end and done < options.first + options.cases:
            cases = range(done, min(done + CASES, options.first + options.cases))
            for kind in options.kinds or KINDS:
                for failure in run_kind(kinds[kind], kind, options.seed, cases, folder):
                    found += 1
                    print(f"--seed {options.seed} --first {failure.case} --cases 1 {kind}\n{failure.what}", flush=True)  # noqa: T201
                    if options.keep:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        draw = random.Random(f"{kind}-{options.seed}-{failure.case}")  # noqa: S311
                        target = options.keep / f"{kind}-{options.seed}-{failure.case}{kinds[kind].suffix}"
                        target.write_bytes(mutate(draw.choice(kinds[kind].seeds), draw))
            done = cases.stop
    print(f"{done - options.first} cases of each kind, {found} found")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
