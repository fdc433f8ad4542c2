"""The model card of a bundle: its ``README.md``, as the Hugging Face Hub reads and shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from htr_engines.text import collapse, printable
from htr_export.reporting import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

CARD = "README.md"
TAGS = ("htr", "handwritten-text-recognition", "ocr", "htr-convtext", "onnx")
TASK = {"type": "image-to-text", "name": "Handwritten text recognition, one line an image"}


@dataclass(frozen=True)
class CardOptions:
    """What only the person who trained the network can say."""

    licence: str | None = None  # as the Hub names it: cc-by-4.0
    languages: tuple[str, ...] = ()  # codes: de, fr
    data: str | None = None  # what it was trained on, in Markdown


def card_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of :class:`CardOptions`; the command gets them by its field names."""
    for option in (
        click.option("--data", help="For the model card: what the network was trained on."),
        click.option("--language", "languages", multiple=True, metavar="CODE", help="For the model card: de, fr, ..."),
        click.option("--licence", "--license", help="For the model card: cc-by-4.0, apache-2.0, ..."),
    ):
        command = option(command)
    return command


def write_card(folder: Path, name: str, manifest: Mapping[str, Any], options: CardOptions) -> None:
    """Write the card of a bundle.

    Args:
        folder: of the bundle.
        name: of the network, for people.
        manifest: of the bundle. Error rates and speeds are those that it holds.
        options: what else to say.
    """
    parts = ["---", *_front_matter(name, manifest, options), "---", "", *_body(name, manifest, options)]
    (folder / CARD).write_text("\n".join(parts) + "\n", encoding="utf-8")


def _front_matter(name: str, manifest: Mapping[str, Any], options: CardOptions) -> Iterator[str]:
    """Yield the metadata, one key a line; JSON is YAML too."""
    facts: dict[str, Any] = {
        "license": options.licence,
        "language": list(options.languages),
        "library_name": "htr-export",
        "pipeline_tag": "image-to-text",
        "tags": TAGS,
        "model-index": [{"name": name, "results": results}] if (results := _results(manifest)) else None,
    }
    for key, value in facts.items():
        if value:
            yield f"{key}: {printable(json.dumps(value, ensure_ascii=False))}"


def _results(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the error rates as a model index: one result for each list of lines."""
    results: dict[str, dict[str, Any]] = {}
    for model, one in _validations(manifest):
        if one["mode"] != "transcripts":  # against the reference's readings: no error rates
            continue
        named = {"type": "lines", "name": f"{one['lines']} lines, SHA-256 {one['lines_sha256'][:12]}"}
        result = results.setdefault(one["lines_sha256"], {"task": TASK, "dataset": named, "metrics": []})
        result["metrics"] += [
            {"type": rate, "value": round(one["candidate_rates"][rate], 3), "name": f"{rate.upper()} in per cent, {on}"}
            for on in [f"{model['file']} on {one['engine']}"]
            for rate in ("cer", "wer")
        ]
    return list(results.values())


def _validations(manifest: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for model in manifest["models"]:
        for one in model["validations"].values():
            yield model, one


def _body(name: str, manifest: Mapping[str, Any], options: CardOptions) -> Iterator[str]:
    spec = manifest["preprocessing"]
    yield from (
        f"# {markdown(name)}",
        "",
        "Reads handwriting, one line of text an image, without PyTorch.",
        "A bundle of htr-export: HTR-ConvText ([arXiv 2512.05021](https://arxiv.org/abs/2512.05021)) with its",
        "characters, models, proofs and test vectors.",
        "",
        "```console",
        "$ htr-read hf://OWNER/NAME line.png          # OWNER/NAME: of this repository, or a folder with its files",
        "$ htr-read hf://OWNER/NAME pages -o read     # PAGE and ALTO documents with the text in them",
        "```",
        "",
        "```python",
        "from htr_engines import Recognizer",
        "",
        'with Recognizer("hf://OWNER/NAME") as recognizer:',
        '    print(recognizer.read("line.png").text)',
        "```",
        "",
        "## Network",
        "",
    )
    data = collapse(options.data) if options.data else "not stated"
    yield from _table(("", ""), [("trained on", data), *_facts(manifest)])
    yield from ("", f"It writes {len(manifest['charset'])} characters:", "", "```text")
    yield from (printable(manifest["charset"]), "```", "", "## Models", "")
    sizes = {file: f"{facts['bytes'] / 1e6:.1f}" for file, facts in manifest["files"].items()}
    rows = [(m["file"], m["precision"], sizes[m["file"]], ", ".join(m["engines"])) for m in manifest["models"]]
    yield from _table(("file", "precision", "MB", "engines"), [tuple(map(markdown, row)) for row in rows])
    yield from _proofs(manifest)
    yield from _speeds(manifest)
    yield from (
        "",
        f"Input: grey lines, scaled to {spec['height']} pixels of height and at most {spec['width']} of width.",
        f"`golden` holds {len(manifest['golden'])} lines, by which `htr-read --self-test` tries the models.",
    )


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if file := manifest["decoding"].get("language_model"):
        yield "decoded by", markdown(f"beam search with the character language model {file}")
    provenance = manifest["provenance"]
    for label, key in (
        ("weights", "weights"),
        ("iterations", "iteration"),
        ("SHA-256 of the checkpoint", "source_sha256"),
    ):
        if key in provenance:
            yield label, markdown(provenance[key])


def _proofs(manifest: Mapping[str, Any]) -> Iterator[str]:
    found = list(_validations(manifest))
    if not found:
        yield from ("", "**Not validated**: no error rates were measured on these models.")
        return
    columns = ("file", "engine", "lines", "CER %", "WER %", "CER increase [95 % interval]")
    yield from (
        "",
        "## Validation",
        "",
        "Against the network in PyTorch, on lines of the person who made this bundle:",
        "",
    )
    yield from _table(columns, [tuple(map(markdown, _proof(model, one))) for model, one in found])
    if any(one["mode"] != "transcripts" for _, one in found):
        yield from ("", "Where there were no transcripts, CER and WER are against PyTorch's own readings.")


def _proof(model: Mapping[str, Any], one: Mapping[str, Any]) -> tuple[object, ...]:
    rates, interval = one["candidate_rates"], one["cer_increase"]
    increase = f"{interval['estimate']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]"
    lines = one["lines"] if one["mode"] == "transcripts" else f"{one['lines']} without transcripts"
    return (model["file"], one["engine"], lines, *(f"{rates[rate]:.2f}" for rate in ("cer", "wer")), increase)


def _speeds(manifest: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (model["file"], engine, speed, figure["hardware"])
        for model in manifest["models"]
        for what in ("latency", "throughput")
        for engine, figure in model.get(what, {}).items()
        for speed in [
            f"{1000 * figure['seconds']:.1f} ms a line"
            if what == "latency"
            else f"{figure['lines_per_s']:.1f} lines/s in {figure['streams']} streams"
        ]
    ]
    if rows:
        yield from ("", "## Speed", "", "Of the engine alone, as measured when this bundle was made:", "")
        yield from _table(("file", "engine", "speed", "on"), [tuple(map(markdown, row)) for row in rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(row)} |"
