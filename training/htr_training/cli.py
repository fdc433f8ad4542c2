"""The command line ``htr-train``. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path

import click

from htr_engines.console import HtrGroup

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


@click.group(cls=HtrGroup)
@click.version_option(package_name="htr-export")
def main() -> None:
    """Train HTR-ConvText and prepare the lines that it learns from."""


@main.command()
@click.argument("recipe", type=EXISTING_FILE)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one setting: --set ema.decay=0.999")
@click.option("--output", type=ANY_PATH, help="Folder for checkpoints and logs.  [default: runs/RECIPE]")
@click.option("--resume", metavar="auto|FILE", help="Continue from the output folder's last checkpoint, or from a file.")
@click.option("--init-from", type=EXISTING_FILE, help="Start from a checkpoint's weights, on another character set too.")
def fit(recipe: Path, changes: tuple[str, ...], output: Path | None, resume: str | None, init_from: Path | None) -> None:
    """Train a network as RECIPE says."""
    from htr_training.loop import FitOptions
    from htr_training.loop import fit as run
    from htr_training.recipe import read_recipe

    run(
        read_recipe(recipe, changes),
        FitOptions(output=output or Path("runs") / recipe.stem, resume=resume, init_from=init_from),
    )


if __name__ == "__main__":
    main()
