"""``htr-read``: line images in, text out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, echo
from htr_engines.inputs import find_documents, find_images
from htr_engines.jobs import Settings, read_documents, read_images, read_on_cluster
from htr_engines.options import ANY_PATH, ModelPath, engine_option, streams_option, threads_option
from htr_engines.shard import Shard
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.checks import Check


FORMATS = ("text", "jsonl", "xml", "hocr", "parquet")
MAX_SHARDS = 99_999
FORMAT_HELP = "Pages: what is written.  [default: xml with -o, else text]"


class ShardType(click.ParamType):  # type: ignore[type-arg]
    """``3/16``: the third of 16 shares."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:  # noqa: ANN401
        """Return the share."""
        index, _, count = value.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count) <= MAX_SHARDS):
            self.fail(f"{value!r} is no share; give one such as 3/16, from 1/16 to 16/16", param, ctx)
        return Shard(int(index), int(count))


class ReadCommand(HtrCommand):
    """``htr-read BUNDLE ...``, and ``htr-read merge``."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        *rest: Any,  # noqa: ANN401
        **settings: Any,  # noqa: ANN401
    ) -> click.Context:
        """Read the arguments."""
        if args[:1] == ["merge"]:
            merge.main(args[1:], prog_name=f"{info_name} merge")
        return super().make_context(info_name, args, *rest, **settings)


@click.command(cls=ReadCommand)
@click.argument("bundle", type=ModelPath())
@click.argument("images", nargs=-1, metavar="[IMAGE|PAGE.xml|FOLDER|@LIST|-]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with confidences and places.")
@click.option("-o", "--output", type=ANY_PATH, help="Pages, --shard, --ray: folder to write into.")
@click.option("--format", "page_format", type=click.Choice(FORMATS), help=FORMAT_HELP)
@click.option("--images", "image_folder", type=ANY_PATH, help="Pages: where else images may be.")
@click.option("--words", is_flag=True, help="Pages: write words with outlines into PAGE too.")
@click.option("--keep", is_flag=True, help="Pages: keep the text that was there as a further alternative.")
@click.option("--force", is_flag=True, help="Pages, --shard: read again what is done.")
@engine_option
@threads_option
@streams_option
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Lines per run.")
@click.option("--alpha", type=click.Choice(["white", "ignore"]), help="What shows through transparency.")
@click.option("--decoder", "method", type=click.Choice(["greedy", "beam"]), help="[default: as the bundle says]")
@click.option("--beam", type=click.IntRange(1, 1024), help="Texts that the beam search keeps.  [default: as bundled]")
@click.option("--lm-weight", type=click.FloatRange(0, 20), help="Of the language model.  [default: as bundled]")
@click.option("--n-best", type=click.IntRange(1, 1024), default=1, show_default=True, help="Texts a line, in JSON.")
@click.option("--shard", type=ShardType(), help="Read share I of N only, into -o.")
@click.option("--ray", metavar="local|ADDRESS", help="Read on a Ray cluster, into -o.")
@click.option("--workers", type=click.IntRange(min=1), help="Of --ray.  [default: one for each CPU]")
@click.option("--self-test", "testing", is_flag=True, help="Run the golden lines on every engine that fits.")
@click.version_option(package_name="htr-export")
def main(bundle: Path, images: tuple[str, ...], *, testing: bool, **given: Any) -> None:  # noqa: ANN401
    """Read line images, or the lines of PAGE and ALTO files, with BUNDLE: one line of text each, in order.

    A FOLDER stands for its images by name, @LIST for the paths in a file (relative to the current folder, to the
    list's, or to "lines" beside it), and - for standard input: an image, or a list of paths. An image that cannot be
    read leaves its line empty and the exit code 1.

    PAGE.xml, or a FOLDER with such files, stands for the lines of its pages, in reading order. With -o each document
    is written again with the text in it (or as --format says), into the same places below that folder; what an
    earlier run has done is skipped.

    A bundle with a language model is read by beam search; --n-best 5 then lists five texts a line in JSON, with scores.

    --shard 3/16 reads the third of 16 shares of the lines into a file below -o, and "htr-read merge DIR -o FILE" puts
    the shares together; of pages it reads a share of the documents. --ray reads on a cluster. Both go on where they
    were.

    Of the models in the bundle the fastest that fits this machine is used, unproven ones only where no proven one
    fits. Standard error says which and why.
    """
    settings = Settings(bundle, images, **given)
    if testing:
        sys.exit(_self_test(bundle, settings.engine, settings.threads))
    if not images:
        raise click.UsageError("give at least one image, folder, @LIST or -")
    if settings.ray:
        sys.exit(read_on_cluster(settings, settings.ray))
    documents = find_documents(images)
    settings.check(documents)
    if documents:
        sys.exit(read_documents(settings, documents))
    sys.exit(read_images(settings, find_images(images)))


@click.command(cls=HtrCommand)
@click.argument("folder", type=ANY_PATH)
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The file of JSON lines to write.")
def merge(folder: Path, output: Path) -> None:
    """Put the shares in FOLDER, which "htr-read --shard" wrote, together in the order of the lines."""
    from htr_engines.shard_files import merge_shards

    echo(to_json_text(merge_shards(folder, output).to_dict()))


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
