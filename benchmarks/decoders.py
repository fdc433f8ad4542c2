"""What beam search with a language model gains over greedy decoding, and what it costs.

python benchmarks/decoders.py model.onnx data/dhsd data/poilus data/registers --json decoders.json

The language model is made of each folder's train.ln. The weights for one half of val.ln are tuned on the other half.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from htr_engines.console import HtrCommand, show_progress
from steps import write_results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from htr_engines.ctc import Reading
    from htr_engines.language_model import LanguageModel
    from htr_engines.metrics import ErrorCounts
    from htr_engines.progress import Progress
    from htr_export.tuning.tune import LogitsOfLines

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(cls=HtrCommand)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folders", type=FOLDER, nargs=-1, required=True, metavar="DATA...")
@click.option("--beam", type=click.IntRange(1, 1024), default=16, show_default=True, help="Texts that are kept.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="File for all figures.")
def main(model: Path, folders: tuple[Path, ...], beam: int, json_file: Path | None) -> None:
    """Read the val.ln of each DATA folder with MODEL, greedily and by beam search."""
    from htr_engines.host import describe_environment

    environment = describe_environment()
    rows = []
    with show_progress("reading") as progress:
        for folder in folders:
            rows.append(compare(model, folder, beam, progress))
            click.echo(describe_row(rows[-1]))
    units = {"cer": "per cent", "wer": "per cent", "ms": "milliseconds of processor time a line, one thread"}
    write_results(json_file, "decoders", {"beam": beam, "rows": rows}, units, environment)


def compare(model: Path, folder: Path, beam: int, progress: Progress) -> dict[str, Any]:
    """Read one folder's lines with every decoder."""
    from htr_engines.beam import BeamDecoder, BeamOptions
    from htr_engines.ctc import decode_greedy
    from htr_engines.lines import read_lines
    from htr_export.tuning.tune import infer_logits

    train = [line.text for line in read_lines(folder / "lines", folder / "train.ln") if line.text]
    lines = infer_logits(model, folder / "lines", folder / "val.ln", progress)
    charset, known = lines.charset, set(train)
    unseen = np.array([text not in known for text in lines.texts])
    lm = _language_model(train)
    weighted = [_tuned(lines, half, lm, beam, progress) for half in (0, 1)]
    decoders: dict[str, list[Callable[[NDArray[np.float32]], list[Reading]]]] = {
        "greedy": [lambda logits_NTC: decode_greedy(logits_NTC, charset)] * 2,
        "beam": [BeamDecoder(charset, BeamOptions(beam))] * 2,
        "beam with language model": [BeamDecoder(charset, options, lm) for options in weighted],
    }
    return {
        "data": folder.name,
        "train_lines": len(train),
        "ngrams": lm.header.ngrams - 1,
        "lines": len(lines.texts),
        "unseen_lines": int(unseen.sum()),  # whose text is not that of a line that the language model was made of
        "frames": lines.logits.shape[1],
        "options": [asdict(options) for options in weighted],
        "decoders": {name: _measure(lines, halves, unseen) for name, halves in decoders.items()},
    }


def _language_model(texts: Sequence[str]) -> LanguageModel:
    from htr_engines.language_model import read_language_model
    from htr_training.language_model import build_language_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.htrlm"
        build_language_model(texts, path)
        return read_language_model(path)


def _tuned(lines: LogitsOfLines, half: int, lm: LanguageModel, beam: int, progress: Progress) -> Any:  # noqa: ANN401
    """Return the weights for one half of the lines, every other one, tuned on the other half."""
    from htr_export.tuning.tune import tune

    other = slice(1 - half, None, 2)
    part = replace(lines, texts=lines.texts[other], logits=lines.logits[other])
    return tune(part, lm, beam, progress).best.options


def _measure(
    lines: LogitsOfLines,
    halves: Sequence[Callable[[NDArray[np.float32]], list[Reading]]],
    unseen: NDArray[np.bool_],
) -> dict[str, Any]:
    """Decode line by line, each with the decoder for its half."""
    from htr_engines.metrics import ErrorCounts, count_errors

    errors: list[ErrorCounts] = []
    seconds: list[float] = []
    for number, (logits_TC, text) in enumerate(zip(lines.logits, lines.texts, strict=True)):
        began = time.thread_time()
        (reading,) = halves[number % 2](logits_TC[None])
        seconds.append(time.thread_time() - began)
        errors.append(count_errors(reading.text, text))
    total = sum(errors, ErrorCounts())
    fresh = sum((one for one, is_unseen in zip(errors, unseen, strict=True) if is_unseen), ErrorCounts())
    p50, p95 = np.percentile(1000 * np.array(seconds), [50, 95]).tolist()
    return {
        "cer": 100 * total.cer,
        "wer": 100 * total.wer,
        "cer_unseen": 100 * fresh.cer,
        "ms": {"p50": p50, "p95": p95},
    }


def describe_row(row: dict[str, Any]) -> str:
    """Return the figures of one folder in a line."""
    parts = [
        f"{name}: CER {one['cer']:.2f} % ({one['cer_unseen']:.2f} % on unseen texts), WER {one['wer']:.2f} %, "
        f"{one['ms']['p50']:.2f} ms (p95 {one['ms']['p95']:.2f})"
        for name, one in row["decoders"].items()
    ]
    return f"{row['data']}, {row['lines']} lines, {row['unseen_lines']} unseen texts: {'; '.join(parts)}"


if __name__ == "__main__":
    main()
