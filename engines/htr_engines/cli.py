"""``htr-read``: line images in, text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, echo, progress, verbosity
from htr_engines.errors import DataError, StoppedError
from htr_engines.files import is_file, is_folder
from htr_engines.options import ANY_PATH, ModelPath, Streams, threads_option
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from htr_engines.checks import Check
    from htr_engines.pages.command import PageOptions
    from htr_engines.pages.formats import PageFormat
    from htr_engines.preprocess import Alpha
    from htr_engines.recognizer import LineResult, Recognizer


STREAMS_HELP = "Batches at the same time, each on its share of the threads.  [default: auto, the most lines a second]"
FORMAT_HELP = "Pages: what is written.  [default: xml with -o, else text]"


@click.command(cls=HtrCommand)
@click.argument("bundle", type=ModelPath())
@click.argument("images", nargs=-1, metavar="[IMAGE|PAGE.xml|FOLDER|@LIST|-]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with confidences and places.")
@click.option("-o", "--output", type=ANY_PATH, help="Pages: folder to write into.")
@click.option("--format", "page_format", type=click.Choice(["text", "jsonl", "xml", "hocr"]), help=FORMAT_HELP)
@click.option("--images", "image_folder", type=ANY_PATH, help="Pages: where else images may be.")
@click.option("--words", is_flag=True, help="Pages: write words with outlines into PAGE too.")
@click.option("--keep", is_flag=True, help="Pages: keep the text that was there as a further alternative.")
@click.option("--force", is_flag=True, help="Pages: read again what is done already.")
@click.option("--engine", help="What runs the model: tensorrt, openvino, ... [default: the fastest that fits]")
@threads_option
@click.option("--streams", type=Streams(), help=STREAMS_HELP)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Lines per run.")
@click.option("--alpha", type=click.Choice(["white", "ignore"]), help="What shows through transparency.")
@click.option("--decoder", "method", type=click.Choice(["greedy", "beam"]), help="[default: as the bundle says]")
@click.option("--beam", type=click.IntRange(1, 1024), help="Texts that the beam search keeps.  [default: as bundled]")
@click.option("--lm-weight", type=click.FloatRange(0, 20), help="Of the language model.  [default: as bundled]")
@click.option("--n-best", type=click.IntRange(1, 1024), default=1, show_default=True, help="Texts a line, in JSON.")
@click.option("--self-test", "testing", is_flag=True, help="Run the golden lines on every engine that fits.")
@click.version_option(package_name="htr-export")
def main(
    bundle: Path,
    images: tuple[str, ...],
    as_json: bool,
    output: Path | None,
    page_format: PageFormat | None,
    image_folder: Path | None,
    words: bool,
    keep: bool,
    force: bool,
    engine: str | None,
    threads: int | None,
    streams: int | None,
    batch_size: int,
    alpha: Alpha | None,
    testing: bool,
    **decoder: Any,  # noqa: ANN401 - the options that DecoderOptions holds under the same names
) -> None:
    """Read line images, or the lines of PAGE and ALTO files, with BUNDLE: one line of text each, in order.

    A FOLDER stands for its images by name, @LIST for the paths in a file (relative to the current folder, to the
    list's, or to "lines" beside it), and - for standard input: an image, or a list of paths. An image that cannot be
    read leaves its line empty and the exit code 1.

    PAGE.xml, or a FOLDER with such files, stands for the lines of its pages, in reading order. With -o each document
    is written again with the text in it (or as --format says), into the same places below that folder; what an
    earlier run has done is skipped.

    A bundle with a language model is read by beam search; --n-best 5 then lists five texts a line in JSON, with scores.

    Of the models in the bundle the fastest that fits this machine is used, unproven ones only where no proven one
    fits. Standard error says which and why.
    """
    if not testing and not images:
        raise click.UsageError("give at least one image, folder, @LIST or -")
    if testing:
        sys.exit(_self_test(bundle, engine, threads))
    documents = _documents(images)
    if not documents and (output or page_format or image_folder or words or keep or force):
        raise click.UsageError("-o, --format, --images, --words, --keep and --force go with PAGE or ALTO files")
    sources = [] if documents else _sources(images)
    from htr_engines.decoder import DecoderOptions
    from htr_engines.recognizer import Recognizer

    if len(sources) == 1:
        streams = streams or 1
    with Recognizer(bundle, engine, threads, alpha, DecoderOptions(**decoder), streams=streams) as recognizer:
        _say_what_reads(recognizer)
        if documents:
            from htr_engines.pages.command import PageOptions

            page_format = page_format or ("jsonl" if as_json else "xml" if output else "text")
            options = PageOptions(documents, output, page_format, image_folder, words, keep, force, batch_size)
            code = _read_documents(recognizer, options)
        else:
            code = _read(recognizer, sources, batch_size, as_json)
    sys.exit(code)


def _say_what_reads(recognizer: Recognizer) -> None:
    if verbosity() < 0:
        return
    echo(recognizer.selection if verbosity() else recognizer.selection.brief, err=True)
    if recognizer.decoder.remark:
        echo(f"decoder: {recognizer.decoder.remark}", err=True)


def _documents(names: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the PAGE and ALTO files and their folders, if that is what is to be read."""
    pages = [name for name in names if _holds_documents(Path(name))]
    if pages and len(pages) < len(names):
        other = next(name for name in names if name not in pages)
        raise click.UsageError(f"{other} is no PAGE or ALTO file; read pages and line images one after the other")
    return tuple(map(Path, pages))


def _holds_documents(path: Path) -> bool:
    found = path.rglob("*") if is_folder(path) else [path]
    return any(file.suffix.lower() == ".xml" for file in found)


def _read_documents(recognizer: Recognizer, options: PageOptions) -> int:
    from htr_engines.pages.command import read_documents

    bundle = f"{recognizer.bundle.folder.resolve().name} sha256:{recognizer.bundle.fingerprint}"
    if recognizer.decoder.remark:
        bundle += f", {recognizer.decoder.remark}"
    with progress() as display:
        task = display.add_task("reading", total=None)
        try:
            tally = read_documents(
                recognizer,
                bundle,
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


def _sources(images: tuple[str, ...]) -> list[tuple[str, Path | bytes]]:
    sources: list[tuple[str, Path | bytes]] = []
    for image in images:
        if image == "-":
            sources.extend(_standard_input(sys.stdin.buffer.read()))
        elif image.startswith("@"):
            sources.extend(_listed(Path(image[1:])))
        elif is_folder(Path(image)):
            from htr_engines.lines import read_lines

            sources.extend((str(line.image), line.image) for line in read_lines(Path(image)))
        else:
            sources.append((image, Path(image)))
    return sources


def _standard_input(content: bytes) -> list[tuple[str, Path | bytes]]:
    try:
        names = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return [("-", content)]
    if "\0" in "".join(names) or not any(names):
        return [("-", content)]
    return [(name, Path(name)) for name in names if name.strip()]


def _listed(path: Path) -> list[tuple[str, Path | bytes]]:
    """Return the paths in a list: relative to the current folder, to the list's, or to ``lines`` beside the list."""
    from htr_engines.text import read_text

    if not is_file(path):
        raise DataError(f"{path} does not exist; give a list of image paths after the @")
    names = [name.strip() for name in read_text(path).splitlines()]
    places = (Path(), path.parent, path.parent / "lines")
    found = {name: next((at / name for at in places if is_file(at / name)), Path(name)) for name in names if name}
    return [(name, found[name]) for name in names if name]


def _read(recognizer: Recognizer, sources: list[tuple[str, Path | bytes]], batch_size: int, as_json: bool) -> int:
    failed = lines = 0
    with progress() as display:
        task = display.add_task("reading", total=len(sources))
        for result in recognizer.read_all(sources, batch_size):
            if result.error is not None:
                failed += 1
                echo(f"Error: {result.error}", err=True)
            if result.doubt is not None:
                echo(f"Warning: {result.source}: {result.doubt}", err=True)
            text = result.reading.text if result.reading else ""
            echo(to_json_text(_record(result)) if as_json else text)
            display.update(task, advance=0 if result.page else 1)
            lines += 1
    if failed:
        echo(f"{failed} of {lines} failed", err=True)
    return 1 if failed else 0


def _record(result: LineResult) -> dict[str, Any]:
    record: dict[str, Any] = {"file": result.source, "page": result.page}
    if result.reading is None:
        return {**record, "error": result.error}
    return {**record, **result.reading.to_dict()}


def _self_test(folder: Path, name: str | None, threads: int | None) -> int:
    """Run the golden lines on every engine that opens, or on the one asked for."""
    from htr_engines.bundle import open_bundle
    from htr_engines.errors import BundleError, HtrError, ParityError
    from htr_engines.selection import candidates, select
    from htr_engines.self_test import check_preprocessing, self_test

    bundle = open_bundle(folder)
    bundle.check_unchanged()
    preprocesses = _print_checks(list(check_preprocessing(bundle)))
    results = []
    for candidate in candidates(bundle, name):
        try:
            engine = candidate.open(threads)
        except BundleError:
            raise
        except HtrError as error:
            echo(f"left out: {candidate} ({candidate.brief(error)})", err=True)
            continue
        with engine:
            results.append(_print_checks(list(self_test(bundle, candidate.model, engine))))
        echo(f"{candidate} {'reads as expected' if results[-1] else 'does not read as expected'}")
    if not results:
        select(bundle, name, threads).engine.close()  # says why nothing fits
    return 0 if preprocesses and all(results) else ParityError.exit_code


def _print_checks(checks: list[Check]) -> bool:
    """Print checks and return whether all passed."""
    from htr_engines.checks import failures

    for check in checks:
        echo(check)
    return not failures(checks)


if __name__ == "__main__":
    main()
