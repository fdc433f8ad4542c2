"""Check a data set before hours are spent on it: what cannot be trained on, and what to look at."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING

from htr_engines.errors import ImageError
from htr_engines.files import sha256_of
from htr_engines.lines import read_lines
from htr_engines.preprocess import Preprocessing, load_page, scaled_width

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.lines import Line

PIXELS_PER_FRAME = 4  # columns of the image behind each output of the network
SQUASH_LIMIT = 1.5  # narrower than this, letters run together
LISTS = ("train", "val", "test")
LIST_SUFFIXES = (".ln", ".tsv", ".csv", ".jsonl", ".txt")

# kind -> what to say of it; the first group keeps a line from being learnt.
ERRORS = {
    "image": "cannot be read as an image",
    "no transcript": "have no transcript",
    "empty text": "have an empty transcript",
    "charset": "hold characters outside the character set",
    "too long": "have texts longer than the network can write (fit skips them)",
}
WARNINGS = {
    "leak": "are in two lists, so that validation is too optimistic",
    "listed twice": "are listed more than once",
    "same image": "show the same image as another line",
    "other text": "show the same image as another line, but with another text",
    "crowded": "have more characters than their width has room for; is the transcript of another line?",
    "squashed": f"are squashed to less than 1/{SQUASH_LIMIT} of their width; a wider network may read better",
    "not composed": "are not in composed form (NFC), so that one letter counts as two characters",
    "unseen": "hold characters that no training line shows",
}


@dataclass(frozen=True)
class Finding:
    """Something about one line."""

    kind: str  # a key of ERRORS or WARNINGS
    list_name: str  # empty for lines that came without a list
    name: str  # as the list gives it
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """What was found."""

    lines: Mapping[str, int]  # list -> number of lines
    findings: tuple[Finding, ...]
    lengths: Mapping[int, int]  # characters of a text -> number of lines
    characters: Mapping[str, int]  # character -> how often it occurs
    outside: Mapping[str, int]  # those of them that are outside the character set

    @cached_property
    def errors(self) -> list[str]:
        """One sentence for each kind of thing that cannot be trained on."""
        return [self._sentence(kind, text) for kind, text in ERRORS.items() if self.count(kind)]

    @cached_property
    def warnings(self) -> list[str]:
        """One sentence for each kind of thing to look at."""
        return [self._sentence(kind, text) for kind, text in WARNINGS.items() if self.count(kind)]

    def count(self, kind: str) -> int:
        """Return how many lines have a finding of this kind."""
        return sum(finding.kind == kind for finding in self.findings)

    def _sentence(self, kind: str, text: str) -> str:
        examples = [finding for finding in self.findings if finding.kind == kind]
        shown = "; ".join(f"{example.name}: {example.detail}" for example in examples[:3])
        more = "; ..." if len(examples) > 3 else ""  # noqa: PLR2004
        return f"{len(examples)} of {sum(self.lines.values())} lines {text} ({shown}{more})"


@dataclass(frozen=True)
class _Image:
    """What is known of an image file."""

    digest: str = ""
    columns: int = 0  # of the network's input that it fills
    squash: float = 1.0  # its width before it was fitted, over its width after
    problem: str = ""


def check_data(data: Path, charset: Charset | None = None, width: int = 512) -> CheckReport:
    """Check a data set's folder: its ``lines`` and its lists ``train``, ``val`` and ``test``.

    Args:
        data: the folder. Without ``lines`` in it, the images are beside the lists; without lists, every image
            counts.
        charset: what the network can write; None for all characters that occur.
        width: pixels that the network fits a line into.

    Raises:
        DataError: if there is nothing to check, or a list is malformed.
    """
    folder = data / "lines" if (data / "lines").is_dir() else data
    paths = [path for path in (_find_list(data, name) for name in LISTS) if path]
    metadata = _find_list(data, "metadata")
    if not paths and metadata:
        paths = [metadata]
    lists = {path.name: read_lines(folder, path) for path in paths}
    return check_lists(lists or {"": read_lines(folder)}, charset, width)


def check_lists(lists: Mapping[str, Sequence[Line]], charset: Charset | None, width: int) -> CheckReport:
    """Check lists of lines, each by itself and one against the other.

    What the first one shows is what the network learns. Without a charset, all characters that occur count.

    Returns:
        The findings, in the order of the lists. Reads every image once.
    """
    entries = [(name, line) for name, lines in lists.items() for line in lines]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(partial(_inspect, spec=Preprocessing(width=width)), (line for _, line in entries)))
    findings = []
    for (name, line), image in zip(entries, images, strict=True):
        found = [*_check_image(image), *_check_text(line.text, charset, width, image)]
        findings += [Finding(kind, name, line.name, detail) for kind, detail in found]
    findings += _check_repetitions(entries, images)
    findings += _check_unseen(lists)
    texts = [line.text or "" for _, line in entries]
    characters = dict(Counter("".join(texts)).most_common())
    outside = charset.missing_from("".join(texts)) if charset else set()
    return CheckReport(
        lines={name: len(lines) for name, lines in lists.items()},
        findings=tuple(findings),
        lengths=dict(sorted(Counter(map(len, texts)).items())),
        characters=characters,
        outside={character: count for character, count in characters.items() if character in outside},
    )


def frames_needed(text: str) -> int:
    """Return how many outputs CTC needs for a text: one a character, and a blank between two of the same."""
    return len(text) + sum(first == second for first, second in pairwise(text))


def _find_list(data: Path, name: str) -> Path | None:
    paths = (data / f"{name}{suffix}" for suffix in LIST_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _inspect(line: Line, spec: Preprocessing) -> _Image:
    try:
        grey_HW = load_page(line.image)
    except ImageError as error:
        return _Image(problem=str(error))
    columns = scaled_width(grey_HW.shape, spec)
    natural = grey_HW.shape[1] * spec.height / grey_HW.shape[0]
    return _Image(sha256_of(line.image), columns, natural / columns)


def _check_image(image: _Image) -> Iterator[tuple[str, str]]:
    if image.problem:
        yield "image", image.problem
    if image.squash > SQUASH_LIMIT:
        yield "squashed", f"{image.squash:.1f} times too wide"


def _check_text(text: str | None, charset: Charset | None, width: int, image: _Image) -> Iterator[tuple[str, str]]:
    if text is None:
        yield "no transcript", "the .txt of the same name is missing"
        return
    if not text:
        yield "empty text", "take it off the list or write what it shows"
        return
    missing = charset.missing_from(text) if charset else set()
    if missing:
        yield "charset", " ".join(f"{character!r} (U+{ord(character):04X})" for character in sorted(missing))
    if unicodedata.normalize("NFC", text) != text:
        yield "not composed", text
    frames, needed = width // PIXELS_PER_FRAME, frames_needed(text)
    if needed > frames:
        yield "too long", f"needs {needed} outputs and has {frames}"
    elif not image.problem and needed > -(-image.columns // PIXELS_PER_FRAME):
        yield "crowded", f"{len(text)} characters on {image.columns} columns"


def _check_repetitions(entries: Sequence[tuple[str, Line]], images: Sequence[_Image]) -> Iterator[Finding]:
    """Find what is shown twice; of each group, every line but the first is reported, once."""
    groups = defaultdict(list)
    for (list_name, line), image in zip(entries, images, strict=True):
        groups[image.digest or str(line.image)].append((list_name, line))
    for (first_list, first), *others in groups.values():
        names = {(first_list, first.name)}
        for list_name, line in others:
            where = f"as {first.name}" + (f" in {first_list}" if list_name != first_list else "")
            if list_name != first_list:
                yield Finding("leak", list_name, line.name, where)
            elif (list_name, line.name) in names:
                yield Finding("listed twice", list_name, line.name, "once is enough")
            elif line.text == first.text:
                yield Finding("same image", list_name, line.name, where)
            if line.text != first.text:
                yield Finding("other text", list_name, line.name, f"{line.text!r}, but {first.text!r} {where}")
            names.add((list_name, line.name))


def _check_unseen(lists: Mapping[str, Sequence[Line]]) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, (name, lines) in enumerate(lists.items()):
        if number == 0:
            seen = {character for line in lines for character in line.text or ""}
            continue
        for line in lines:
            unseen = set(line.text or "") - seen
            if unseen:
                yield Finding("unseen", name, line.name, " ".join(map(repr, sorted(unseen))))
