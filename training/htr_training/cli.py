"""The command line ``htr-train``. Each command imports what it needs when it runs: ``--help`` stays quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from htr_engines.console import HtrGroup, echo, hint
from htr_engines.options import ANY_PATH, EXISTING_FILE, EXISTING_FOLDER
from htr_export.preflight import check_output, force_option

if TYPE_CHECKING:
    from htr_engines.charset import Charset


@click.group(cls=HtrGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="htr-export")
def main() -> None:
    """Train HTR-ConvText and prepare the lines that it learns from."""


@main.command()
@click.argument("recipe", type=EXISTING_FILE)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one setting: --set ema.decay=0.999")
@click.option("--output", type=ANY_PATH, help="Folder for checkpoints and logs.  [default: runs/RECIPE]")
@click.option("--resume", metavar="auto|FILE", help="Continue: from the output folder, or from a checkpoint.")
@click.option("--init-from", type=EXISTING_FILE, help="Begin with a checkpoint's weights.")
@click.option("--init-charset", help="Its characters, if it does not say: iam, read2016, lam, vnondb, or a file.")
def fit(
    *,
    recipe: Path,
    changes: tuple[str, ...],
    output: Path | None,
    resume: str | None,
    init_from: Path | None,
    init_charset: str | None,
) -> None:
    """Train a network as RECIPE says; under torchrun on several devices.

    Leaves last.pth, best_CER.pth, best_WER.pth, log.jsonl and report.html, its curves, in the output folder. Ctrl-C and
    SIGTERM save what was learnt. With --resume auto the same command can be given again and again: it continues where
    it was stopped.
    """
    from htr_training.loop import FitOptions
    from htr_training.loop import fit as run
    from htr_training.recipe_file import read_recipe
    from htr_training.tuning import restart_if_faster

    settings = read_recipe(recipe, changes)
    options = FitOptions(
        output=output or Path("runs") / recipe.stem,
        resume=resume,
        init_from=init_from,
        init_charset=_charset(init_charset),
        note=restart_if_faster(settings, recipe, changes),
    )
    run(settings, options)
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes
        folder, listed = settings.data.to_validate_on()
        best, bundle = options.output / "best_CER.pth", f"{options.output.name}.htr"
        echo(f"report   {options.output / 'report.html'}")
        lines = ["--lines", str(folder), "--list", str(listed)]
        hint("htr-export", "ship", str(best), "-o", bundle, *lines, prefix="next     ")


@main.command()
@click.argument("name")
@click.option("-o", "--output", type=ANY_PATH, help="File to write.  [default: NAME.toml]")
def init(name: str, output: Path | None) -> None:
    """Write the shipped recipe NAME with every other setting as a comment.

    Recipes of published settings: iam, read2016, lam, vnondb. For other lines, begin with copiste (modern) or htromance
    (old), and change data.root.
    """
    from htr_training.recipe_keys import recipe_names, write_recipe

    if name not in recipe_names():
        raise click.UsageError(f"no recipe is called {name!r}; choose one of {', '.join(recipe_names())}")
    output = output or Path(f"{name}.toml")
    write_recipe(name, output)
    echo(f"wrote    {output}")
    hint("htr-train", "fit", str(output), prefix="next     ")


@main.command()
@click.argument("checkpoint", type=EXISTING_FILE)
@click.option("--lines", type=EXISTING_FOLDER, required=True, help="Folder of line images and transcripts.")
@click.option("--list", "list_file", type=EXISTING_FILE, help="Which of them.  [default: all]")
@click.option("--report", type=ANY_PATH, help="Folder for report.html, report.json and lines.tsv.")
@click.option("--charset", help="For checkpoints that do not say: iam, read2016, lam, vnondb, or a file.")
@click.option("--weights", type=click.Choice(["ema", "model"]), help="[default: ema, if there]")
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Lines read at once.")
@click.option("--writers", metavar="REGEX", help="Its first group, in a line's name, is who wrote it: '^(.+?)-'.")
def evaluate(
    *,
    checkpoint: Path,
    lines: Path,
    list_file: Path | None,
    report: Path | None,
    charset: str | None,
    weights: Literal["ema", "model"] | None,
    batch: int,
    writers: str | None,
) -> None:
    """Measure the error rates of CHECKPOINT on labelled lines.

    The report shows them by writer too, where a column "writer" of the list or --writers names them.
    """
    from htr_training.evaluate import EvaluateOptions
    from htr_training.evaluate import evaluate as run

    options = EvaluateOptions(checkpoint, lines, list_file, _charset(charset), weights, batch, report, writers)
    result = run(options)
    rates = f"CER {result.counts.cer:.2%}  WER {result.counts.wer:.2%}"
    echo(f"{rates}  loss {result.loss:.4g}  on {len(result.lines)} lines")
    if report:
        echo(f"report: {report / 'report.html'}")


@main.command()
@click.argument("recipe", type=EXISTING_FILE)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one setting, as in fit.")
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="To measure.")
@click.option("-o", "--output", type=ANY_PATH, help="JSON file for the figures.")
def profile(recipe: Path, changes: tuple[str, ...], steps: int, output: Path | None) -> None:
    """Measure where the time of RECIPE's training steps goes. Trains nothing that is kept."""
    from htr_training.profiling import measure, write_profile
    from htr_training.recipe_file import read_recipe

    settings = read_recipe(recipe, changes)
    result = measure(settings, steps)
    shares = "  ".join(f"{part} {share:.1%}" for part, share in result.shares.items())
    echo(f"{result.seconds:.3g} s a step  {result.lines / result.seconds:.3g} lines/s  {shares}")
    if output:
        write_profile(output, result, settings)


@main.command()
@click.argument("checkpoint", type=EXISTING_FILE)
@click.option("-o", "--output", type=ANY_PATH, required=True, help="File to write.")
@force_option
def slim(checkpoint: Path, output: Path, *, force: bool) -> None:
    """Leave out of CHECKPOINT what only resuming needs; it can be evaluated, exported and fine-tuned."""
    check_output(output, force=force)
    from htr_export.checkpoint import read_checkpoint
    from htr_training.state import slim as leave_out
    from htr_training.state import write

    write(leave_out(read_checkpoint(checkpoint).content), output)
    megabytes = [path.stat().st_size / 1e6 for path in (checkpoint, output)]
    echo(f"{output}: {megabytes[1]:.1f} MB of {megabytes[0]:.1f} MB")


@main.command()
@click.argument("data", type=EXISTING_FOLDER)
@click.option("--charset", help="iam, read2016, lam, vnondb, or a file.  [default: what the lines hold]")
@click.option(
    "--width",
    type=click.IntRange(32, 2048),
    default=512,
    show_default=True,
    help="Width of the network's lines, in pixels.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(data: Path, charset: str | None, width: int, as_json: bool) -> None:
    """Check DATA before training: images, texts, lists. Exits with 1 if something cannot be trained on."""
    from htr_training.check.check import check_data
    from htr_training.check.report import show, to_json

    report = check_data(data, _charset(charset), width)
    if as_json:
        click.echo(to_json(report), nl=False)
    else:
        from rich.console import Console

        show(report, Console())
    if report.errors:
        raise SystemExit(1)


@main.command()
@click.argument("pages", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The data set's folder.")
@click.option("--images", type=EXISTING_FOLDER, help="Another folder to search for the page images.")
@click.option(
    "--format", "image_format", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True, help="Of lines."
)
@click.option("--val", type=click.FloatRange(0, 0.9), default=0.0, show_default=True, help="Share of pages for val.ln.")
@click.option("--workers", type=click.IntRange(1), help="Number of processes.  [default: one per core]")
@click.option("--force", is_flag=True, help="Replace existing lists and their lines.")
def cut(pages: tuple[Path, ...], **options: Any) -> None:  # noqa: ANN401
    """Cut PAGES into lines: PAGE or ALTO XML files with their images, or folders of them."""
    from htr_engines.console import show_progress
    from htr_training.cut.command import CutOptions
    from htr_training.cut.command import cut as run

    with show_progress("cutting pages") as progress:
        report = run(CutOptions(sources=pages, **options), progress)
    for left in report.lost_pages[:10]:
        echo(f"skipped: {left.source}: {left.reason}", err=True)
    if len(report.lost_pages) > 10:  # noqa: PLR2004
        echo(f"skipped: {len(report.lost_pages) - 10} more files or pages; see the contact sheet", err=True)
    for reason, count in report.reasons.items():
        echo(f"skipped: {count} lines, because {reason}", err=True)
    lines = f"{len(report.train)} lines to train on, {len(report.val)} to validate on"
    echo(f"{lines}, from {report.pages} pages; look at them in {report.contact_sheet}")
    hint("htr-train", "check", str(options["output"]))


@main.command()
@click.option("--fonts", type=EXISTING_FOLDER, required=True, help="Folder of fonts (.ttf, .otf).")
@click.option("--text", type=EXISTING_FILE, required=True, help="What to write: one text a line, UTF-8.")
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The data set's folder.")
@click.option("--list", "list_name", default="train.ln", show_default=True, help="Name of the list of lines.")
@click.option("--count", type=click.IntRange(1), help="Number of lines.  [default: each text once]")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of styles and fonts.")
@click.option("--width", type=click.IntRange(32, 8192), help="Width in pixels.  [default: as wide as the text]")
@click.option("--wrap", type=click.IntRange(1), help="Break longer texts at this many characters.")
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["png", "jpg"]),
    default="png",
    show_default=True,
    help="Of the images.",
)
@click.option("--workers", type=click.IntRange(1), help="Number of processes.  [default: one per core]")
@click.option("--force", is_flag=True, help="Replace an existing list and its lines.")
def synth(**options: Any) -> None:  # noqa: ANN401
    """Render lines of text in handwriting fonts, as a data set to train on."""
    from htr_engines.console import show_progress
    from htr_training.synth.synth import SynthOptions, synthesize

    with show_progress("rendering") as progress:
        report = synthesize(SynthOptions(**options), progress)
    for text, lacking in list(report.skipped.items())[:10]:
        echo(f"skipped, no font has {lacking}: {text}", err=True)
    if len(report.skipped) > 10:  # noqa: PLR2004
        lacking = "".join(sorted(set("".join(report.skipped.values()))))
        echo(f"skipped, and {len(report.skipped) - 10} more; missing in all: {lacking}", err=True)
    skipped = f"; {len(report.skipped)} texts skipped" if report.skipped else ""
    echo(f"{report.lines} lines from {report.fonts} fonts in {report.list_file}{skipped}")


@main.command("lm")
@click.option("--text", "texts", type=EXISTING_FILE, multiple=True, help="A line of text each, UTF-8.")
@click.option("--lines", type=EXISTING_FOLDER, help="Folder of line images: their transcripts.")
@click.option("--list", "list_file", type=EXISTING_FILE, help="Which of them; leave out those to validate on.")
@click.option("-o", "--output", type=ANY_PATH, required=True, help="The .htrlm to write.")
@click.option("--order", type=click.IntRange(2, 16), default=6, show_default=True, help="Characters of an n-gram.")
@force_option
def language_model(
    texts: tuple[Path, ...], lines: Path | None, list_file: Path | None, output: Path, order: int, *, force: bool
) -> None:
    """Make a language model of texts such as those that are to be read, for the beam search of a bundle."""
    if not texts and lines is None:
        raise click.UsageError("give --text, --lines, or both")
    if output.suffix != ".htrlm":
        raise click.UsageError(f"{output} should end in .htrlm")
    check_output(output, force=force)
    from htr_engines.lines import read_lines
    from htr_engines.text import read_text
    from htr_training.language_model import build_language_model

    found = [row for path in texts for row in read_text(path).splitlines()]
    found += [line.text for line in read_lines(lines, list_file) if line.text] if lines else []
    header = build_language_model(found, output, order)
    facts = f"{header.ngrams - 1} n-grams up to {order} from {header.text.lines} lines"
    echo(f"wrote    {output} ({output.stat().st_size / 1e6:.1f} MB: {facts})")
    tuned = ["--lm", str(output), "--lines", "DIR", "--list", "FILE"]
    hint("htr-export", "tune-decoder", "MODEL", *tuned, prefix="next     ")


def _charset(name: str | None) -> Charset | None:
    from htr_engines.charset import PRESETS, preset, read_charset

    if name is None:
        return None
    return preset(name.lower()) if name.lower() in PRESETS else read_charset(Path(name))


if __name__ == "__main__":
    main()
