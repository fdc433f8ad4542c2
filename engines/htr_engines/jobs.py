"""What ``htr-read`` does with its options: line images, a share of them, documents, a cluster."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import click

from htr_engines.console import echo, progress, verbosity
from htr_engines.errors import StoppedError
from htr_engines.shard_files import Summary, sources_sha256, summarize, to_record, write_shard
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from htr_engines.decoder import Method
    from htr_engines.pages.command import PageOptions
    from htr_engines.pages.formats import PageFormat
    from htr_engines.preprocess import Alpha
    from htr_engines.recognizer import LineResult, Recognizer
    from htr_engines.shard import Shard


@dataclass(frozen=True)
class Settings:
    """The options of the command."""

    bundle: Path
    images: tuple[str, ...]
    as_json: bool
    output: Path | None
    page_format: PageFormat | Literal["parquet"] | None
    image_folder: Path | None
    words: bool
    keep: bool
    force: bool
    engine: str | None
    threads: int | None
    streams: int | None
    batch_size: int
    alpha: Alpha | None
    method: Method | None
    beam: int | None
    lm_weight: float | None
    n_best: int
    shard: Shard | None
    ray: str | None
    workers: int | None

    def check(self, documents: tuple[Path, ...]) -> None:
        """Refuse options that do not go together."""
        if self.workers:
            raise click.UsageError("--workers goes with --ray")
        if self.page_format == "parquet":
            raise click.UsageError("--format parquet goes with --ray")
        if self.shard and not self.output:
            raise click.UsageError("--shard needs -o, the folder that all shares are written to")
        if documents:
            return
        if self.page_format or self.image_folder or self.words or self.keep:
            raise click.UsageError("--format, --images, --words and --keep go with PAGE or ALTO files")
        if not self.shard and (self.output or self.force):
            raise click.UsageError("-o and --force go with PAGE or ALTO files, --shard and --ray")


def read_documents(settings: Settings, documents: tuple[Path, ...]) -> int:
    """Read PAGE and ALTO documents and return the exit code."""
    from htr_engines.pages.command import PageOptions

    assert settings.page_format != "parquet"
    page_format = settings.page_format or ("jsonl" if settings.as_json else "xml" if settings.output else "text")
    options = PageOptions(
        documents,
        settings.output,
        page_format,
        settings.image_folder,
        settings.words,
        settings.keep,
        settings.force,
        settings.batch_size,
        settings.shard,
    )
    with _opened(settings) as recognizer:
        return _read_pages(recognizer, options)


def _read_pages(recognizer: Recognizer, options: PageOptions) -> int:
    from htr_engines.pages import command

    with progress() as display:
        task = display.add_task("reading", total=None)
        try:
            tally = command.read_documents(
                recognizer,
                recognizer.identity,
                options,
                on_error=lambda sentence: echo(f"Error: {sentence}", err=True),
                on_lines=lambda total, advance: display.update(task, total=total, advance=advance),
            )
        except KeyboardInterrupt:
            kept = f"; {options.output} keeps what was read, and the same command goes on from there"
            raise StoppedError(f"stopped before all was read{kept if options.output else ''}") from None
    skipped = f", {tally.skipped} documents skipped that were done before" if tally.skipped else ""
    failed = f", {len(tally.errors)} errors" if tally.errors else ""
    echo(f"read {tally.lines} lines in {tally.documents} documents{skipped}{failed}", err=True)
    return 1 if tally.errors else 0


def read_images(settings: Settings, sources: list[tuple[str, Path | bytes]]) -> int:
    """Read line images, or one share of them, and return the exit code."""
    if settings.shard:
        return _read_share(settings, settings.shard, sources)
    with _opened(settings, len(sources)) as recognizer:
        tally = Summary()
        for result, _ in _results(recognizer, sources, settings.batch_size):
            text = result.reading.text if result.reading else ""
            echo(to_json_text(to_record(result)) if settings.as_json else text)
            tally += summarize(result, None)
    return _told_of_failures(tally)


def _read_share(settings: Settings, shard: Shard, sources: list[tuple[str, Path | bytes]]) -> int:
    """Read one share into its file, unless that is complete."""
    assert settings.output is not None
    path = settings.output / shard.name
    share = shard.of(sources)
    with _opened(settings) as recognizer:
        summary = write_shard(
            path,
            shard,
            lambda: _results(recognizer, share, settings.batch_size),
            bundle=recognizer.identity,
            sources=sources_sha256(name for name, _ in sources),
            force=settings.force,
        )
    if summary is None:
        echo(f"{path} is complete; --force reads it again", err=True)
        return 0
    echo(to_json_text({"file": str(path), **summary.to_dict()}))
    return _told_of_failures(summary)


def _results(
    recognizer: Recognizer, sources: Sequence[tuple[str, Path | bytes]], batch_size: int
) -> Iterator[tuple[LineResult, Path | None]]:
    """Read images and yield each result with its image file, if it has one; say what failed."""
    with progress() as display:
        task = display.add_task("reading", total=len(sources))
        images = iter(sources)
        image = None
        for result in recognizer.read_all(sources, batch_size):
            if not result.page:
                image = next(images)[1]
            if result.error is not None:
                echo(f"Error: {result.error}", err=True)
            if result.doubt is not None:
                echo(f"Warning: {result.source}: {result.doubt}", err=True)
            yield result, image if isinstance(image, Path) else None
            display.update(task, advance=0 if result.page else 1)


def _told_of_failures(summary: Summary) -> int:
    """Say how many lines failed, and return the exit code."""
    if summary.failures:
        echo(f"{summary.failures} of {summary.lines} failed", err=True)
    return 1 if summary.failures else 0


def read_on_cluster(settings: Settings, address: str) -> int:
    """Read on a Ray cluster and return the exit code."""
    from htr_engines.cluster import ClusterFormat, ClusterOptions, run_job

    wanted = settings.page_format or ("jsonl" if settings.as_json else "parquet")
    if settings.output is None or wanted not in get_args(ClusterFormat):
        raise click.UsageError("--ray needs -o, and writes --format parquet, jsonl or xml (of PAGE and ALTO documents)")
    if settings.method or settings.beam or settings.lm_weight is not None or settings.n_best > 1:
        raise click.UsageError("--ray reads with the bundle's own decoder; leave out the options that change it")
    options = ClusterOptions(
        str(settings.bundle),
        str(settings.output),
        cast("ClusterFormat", wanted),
        address,
        settings.workers,
        settings.engine,
        batch_size=settings.batch_size,
    )
    summary = run_job(settings.images, options)
    echo(to_json_text(summary.to_dict()))
    return _told_of_failures(summary)


@contextmanager
def _opened(settings: Settings, lines: int | None = None) -> Iterator[Recognizer]:
    """Open the recognizer and say what reads."""
    from htr_engines.decoder import DecoderOptions
    from htr_engines.recognizer import Recognizer

    decoder = DecoderOptions(settings.method, settings.beam, settings.lm_weight, n_best=settings.n_best)
    streams = settings.streams or (1 if lines == 1 else None)
    arguments = settings.bundle, settings.engine, settings.threads, settings.alpha, decoder
    with Recognizer(*arguments, streams=streams) as recognizer:
        _say_what_reads(recognizer)
        yield recognizer


def _say_what_reads(recognizer: Recognizer) -> None:
    if verbosity() < 0:
        return
    echo(recognizer.selection if verbosity() else recognizer.selection.brief, err=True)
    if recognizer.decoder.remark:
        echo(f"decoder: {recognizer.decoder.remark}", err=True)
