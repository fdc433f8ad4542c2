"""The command ``htr-export inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from htr_engines.console import HtrCommand, echo
from htr_engines.options import ModelPath

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HIDDEN = ("schema_version", "format", "environment", "decoding", "operators")  # on the terminal; --json has all
LABELS = {
    "sha256": "SHA-256",
    "source_sha256": "source SHA-256",
    "charset": "characters",
    "bundle_schema_version": "format version",
    "preprocessing_vectors": "test images",
    "golden": "golden lines",
    "entries_bytes": "entries",
}
RATES = ("best_cer", "best_wer")  # fractions


@click.command("inspect", cls=HtrCommand)
@click.argument("file", type=ModelPath())
@click.option("--log", "with_log", is_flag=True, help="Of a plan: print the builder's messages too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def inspect_command(file: Path, *, with_log: bool, as_json: bool) -> None:
    """Show what FILE is (checkpoint, .safetensors, .onnx, .plan or bundle) without running it."""
    from htr_export.inspection import inspect_artefact
    from htr_export.reporting import to_json

    facts = inspect_artefact(file)
    if as_json:
        echo(to_json(facts).rstrip(), several_lines=True)
        return
    from rich.console import Console
    from rich.table import Table

    from htr_engines.text import printable

    log = facts.pop("log", [])
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(facts):
        table.add_row(printable(name), printable(text))
    Console(markup=False, highlight=False).print(table)
    if log:
        messages = log if with_log else [f"The builder left {len(log)} messages; show them with --log"]
        echo("\n".join(messages), several_lines=True)


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values as people read them."""
    for name, value in facts.items():
        if name in HIDDEN or value is None or value in ({}, []):
            continue
        label = LABELS.get(name, name.replace("_", " "))
        if name in RATES:
            yield f"best {name[-3:].upper()}", f"{100 * float(value):.2f} %"
        elif name == "models":
            yield from (("model", _model(model)) for model in value)
        elif name in {"files", "entries_bytes"}:
            sizes = {key: one["bytes"] if name == "files" else one for key, one in value.items()}
            yield label, f"{len(sizes)}, {_megabytes(sum(sizes.values()))}"
        elif name in {"golden", "preprocessing_vectors"}:
            yield label, str(len(value["images"] if name == "preprocessing_vectors" else value))
        elif name == "provenance":
            yield from _rows(value)
        else:
            yield label, _megabytes(value) if name.endswith("bytes") else _text(value)


def _model(model: Mapping[str, Any]) -> str:
    proofs = model.get("validations") or {model["validation"].get("engine", ""): model["validation"]}
    verdicts = [f"{one['verdict']} with {engine}" if engine else one["verdict"] for engine, one in proofs.items()]
    return f"{model['file']} ({model['precision']}): {'; '.join(verdicts)}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
