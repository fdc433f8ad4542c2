"""The command ``htr-export tune-decoder``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from htr_engines.checks import Check
from htr_engines.console import HtrCommand, echo, hint, show_progress
from htr_engines.options import ANY_PATH
from htr_export.preflight import check_lines

if TYPE_CHECKING:
    from pathlib import Path


@click.command("tune-decoder", cls=HtrCommand)
@click.argument("model", type=ANY_PATH)
@click.option("--lm", "language_model", type=ANY_PATH, required=True, help="The .htrlm of 'htr-train lm'.")
@click.option("--lines", "lines_dir", required=True, type=ANY_PATH, help="Folder of line images that it did not see.")
@click.option("--list", "list_file", type=ANY_PATH, help="Their list: .ln, .tsv, .csv, .jsonl.")
@click.option("--beam", type=click.IntRange(1, 1024), default=16, show_default=True, help="Texts that are kept.")
def tune_command(model: Path, language_model: Path, lines_dir: Path, list_file: Path | None, beam: int) -> None:
    """Find the weights with which MODEL and a language model read some lines best.

    They are written beside the language model, where 'htr-export bundle --lm' and the other commands look for them.
    """
    check_lines(lines_dir, list_file)
    with show_progress("opening the model") as progress:
        from htr_export.decoding import tuned_path
        from htr_export.tuning.tune import tune_files

        tuning = tune_files(model, language_model, lines_dir, list_file, beam, progress)
    best = tuning.best
    echo(f"greedy   CER {tuning.greedy_cer:.2f} % on {tuning.lines} lines")
    weights = f"lm-weight {best.options.lm_weight:g}, length-bonus {best.options.length_bonus:g}"
    echo(f"beam     CER {best.cer:.2f} %, {weights}, the best of {len(tuning.trials)} choices")
    if best.cer >= tuning.greedy_cer:
        echo(Check(passed=False, detail="greedy decoding reads these lines as well; bundle no such language model"))
    echo(f"wrote    {tuned_path(language_model)}")
    hint("htr-export", "bundle", str(model), "--lm", str(language_model), "-o", "NAME.htr", prefix="next     ")
