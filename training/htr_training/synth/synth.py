"""Make a data set of lines from handwriting fonts, for where no real lines are at hand."""

from __future__ import annotations

import textwrap
import unicodedata
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from htr_engines.errors import DataError
from htr_engines.files import write_text
from htr_engines.progress import SILENT
from htr_engines.text import collapse, read_text
from htr_training.synth.fonts import Font, find_fonts, missing_everywhere
from htr_training.synth.render import random_style, render_line
from htr_training.workers import resume_jobs

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.progress import Progress

CHUNK = 16  # lines that a worker takes at once


@dataclass(frozen=True)
class SynthOptions:
    """What to render."""

    fonts: Path  # folder of .ttf and .otf files
    text: Path  # one text a line
    output: Path  # the data set's folder
    count: int | None = None  # lines; None renders each text once
    seed: int = 1
    width: int | None = None  # pixels; None lets each line be as wide as its text
    wrap: int | None = None  # characters at which longer texts are broken, at blanks
    list_name: str = "train.ln"
    image_format: str = "png"  # or "jpg"
    workers: int | None = None  # processes; None means one per core
    force: bool = False


@dataclass(frozen=True)
class SynthReport:
    """What was rendered, and what could not be."""

    lines: int
    fonts: int
    list_file: Path
    skipped: dict[str, str]  # text -> the characters that no font has together with the rest of the text


@dataclass(frozen=True)
class _Job:
    index: int
    text: str
    fonts: tuple[Path, ...]  # those that have all of its characters


def synthesize(options: SynthOptions, progress: Progress = SILENT) -> SynthReport:
    """Render a data set in the published layout.

    The same options give the same images, whatever the number of workers; after a stop they go on where it was.

    Returns:
        What was rendered, and what could not be.

    Raises:
        DataError: if there is no font or text, no text can be drawn, or the list exists already.
    """
    list_file = options.output / options.list_name
    if list_file.exists() and not options.force:
        raise DataError(f"{list_file} exists already; give another folder or --list, or --force")
    wanted = read_texts(options.text, options.wrap)
    fonts = find_fonts(options.fonts, "".join(wanted))
    texts, skipped = select_texts(wanted, fonts)
    if not texts:
        lacking = "".join(sorted(set("".join(skipped.values()))))
        raise DataError(f"no font in {options.fonts} can draw a text of {options.text} (missing: {lacking}); add fonts")
    jobs = _plan(texts, fonts, options)
    (options.output / "lines").mkdir(parents=True, exist_ok=True)
    names = []
    progress.total(len(jobs))
    unfinished = options.output / f".{options.list_name}.unfinished"
    key = (replace(options, workers=None, force=False), jobs)
    for name in resume_jobs(unfinished, key, str, partial(_render, options=options), jobs, options.workers, CHUNK):
        names.append(name)
        progress.advance()
    # Last and in one piece: a list never names a line that is missing.
    write_text(list_file, "".join(f"{name}\n" for name in names))
    unfinished.unlink()
    return SynthReport(len(jobs), len(fonts), list_file, skipped)


def read_texts(path: Path, wrap: int | None = None) -> list[str]:
    """Read one text a line, in composed form (NFC), white space collapsed, without empty ones.

    Raises:
        DataError: if there is none.
    """
    rows = [collapse(unicodedata.normalize("NFC", row)) for row in read_text(path).splitlines()]
    if wrap:
        rows = [part for row in rows for part in textwrap.wrap(row, wrap, break_on_hyphens=False)]
    texts = [row for row in rows if row]
    if not texts:
        raise DataError(f"{path} holds no text; give a file with one text a line")
    return texts


def select_texts(texts: list[str], fonts: tuple[Font, ...]) -> tuple[list[str], dict[str, str]]:
    """Separate the texts that some font can draw from the others, with the characters that those lack."""
    drawable, skipped = [], {}
    for text in texts:
        lacking = missing_everywhere(text, fonts)
        if lacking:
            skipped[text] = "".join(sorted(lacking))
        else:
            drawable.append(text)
    return drawable, skipped


def _plan(texts: list[str], fonts: tuple[Font, ...], options: SynthOptions) -> list[_Job]:
    """Choose which text each line shows: the file's order, or, for a count, shuffled in rounds."""
    count = options.count or len(texts)
    rng = np.random.default_rng(options.seed)
    order: list[int] = list(range(len(texts)))
    if options.count:
        rounds = -(-count // len(texts))
        order = [int(index) for _ in range(rounds) for index in rng.permutation(len(texts))][:count]
    able = {text: tuple(font.path for font in fonts if not font.lacks(text)) for text in set(texts)}
    return [_Job(number, texts[index], able[texts[index]]) for number, index in enumerate(order)]


def _render(job: _Job, options: SynthOptions) -> str:
    """Render one line and write it with its transcript; return the image's name."""
    rng = np.random.default_rng((options.seed, job.index))
    font = job.fonts[int(rng.integers(len(job.fonts)))]
    line_HW = render_line(font, job.text, random_style(rng), rng, width=options.width)
    stem = f"{options.list_name.rpartition('.')[0] or options.list_name}-{job.index:06d}"
    image = options.output / "lines" / f"{stem}.{options.image_format}"
    Image.fromarray(line_HW).save(image, quality=90)
    image.with_suffix(".txt").write_text(job.text + "\n", encoding="utf-8")
    return image.name
