"""Putting models, characters, proof and golden vectors into one folder that a device can trust."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from htr_engines.bundle import FORMAT, MANIFEST, NOT_VALIDATED, SCHEMA_VERSION
from htr_engines.ctc import decode_greedy
from htr_engines.engine import ENGINES, TensorInfo, infer_lines, open_engine
from htr_engines.errors import BundleError, ParityError
from htr_engines.files import atomic_folder, sha256_of
from htr_engines.preprocess import Preprocessing, fit_line, load_pages
from htr_export.model import PROVENANCE, parse_metadata
from htr_export.validation.report import load_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.engine import Engine

SAMPLE_TEXTS = ("The quick brown fox", "0123456789", "Handwriting")


@dataclass(frozen=True)
class _Validation:
    """The verdict that a report gives on one of the models, and its sample lines."""

    verdict: dict[str, Any]
    samples: tuple[Path, ...]


def write_bundle(models: Sequence[Path], target: Path, report: Path | None = None) -> dict[str, Any]:
    """Write a bundle, atomically.

    Args:
        models: ONNX files of one network, the preferred one first.
        target: the folder to write; an older bundle there is replaced.
        report: the report of ``htr-export validate`` on one of the models.

    Returns:
        The manifest.

    Raises:
        BundleError: if the models or the report do not belong together, or ``target`` is something else.
        ParityError: if the report says that the model failed.
    """
    names = [path.name for path in models]
    if len(set(names)) != len(names):
        raise BundleError(f"two models share a file name ({', '.join(names)}); rename one")
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} exists and is no bundle; give another name")
    validation = _read_validation(report, models) if report else None
    with atomic_folder(target) as folder:
        entries = [_add_model(path, folder) for path in models]
        first = entries[0]["metadata"]
        if any(_identity(entry["metadata"]) != _identity(first) for entry in entries):
            raise BundleError("the models have different characters or networks; bundle one network at a time")
        golden = _write_golden(folder, models, Preprocessing.from_dict(json.loads(first["preprocessing"])), validation)
        manifest = _manifest(folder, first, entries, golden, validation)
        text = json.dumps(manifest, ensure_ascii=False, indent=1)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _identity(metadata: dict[str, str]) -> list[str | None]:
    return [metadata.get(key) for key in ("charset", "network", "preprocessing", "source_sha256")]


def _add_model(source: Path, folder: Path) -> dict[str, Any]:
    if source.suffix.lower() != ".onnx":
        raise BundleError(f"{source} is no .onnx file; export the model first")
    with open_engine(source) as engine:
        info = engine.info
    charset, _ = parse_metadata(info.metadata, str(source))
    charset.check_fits(int(info.output.shape[2]))
    shutil.copyfile(source, folder / source.name)
    return {
        "file": source.name,
        "engines": list(ENGINES),
        "precision": info.metadata["precision"],
        "input": _tensor(info.input),
        "output": _tensor(info.output),
        "metadata": info.metadata,
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": {"float": "float32"}.get(info.dtype, info.dtype), "shape": list(info.shape)}


def _read_validation(report: Path, models: Sequence[Path]) -> _Validation:
    document = load_report(report)
    if not document["passed"]:
        raise ParityError(f"{report} says: {document['verdict']}; a model that failed is not bundled as validated")
    candidate = document["inputs"]["candidate"]
    if candidate["sha256"] not in {sha256_of(path) for path in models}:
        raise BundleError(
            f"{report} is about another file (SHA-256 {candidate['sha256'][:12]}...); validate the model again"
        )
    result = document["result"]
    kept = ("mode", "lines", "changed", "reference_rates", "candidate_rates", "cer_increase", "wer_increase")
    verdict = {
        "verdict": document["verdict"],
        "passed": True,
        "file": candidate["file"],
        "engine": candidate["engine"],
        "created": document["created"],
        "lines_sha256": document["inputs"]["lines_sha256"],
        "max_cer_increase": result["options"]["max_cer_increase"],
        **{name: result[name] for name in kept},
    }
    samples = tuple(report / sample["file"] for sample in document["samples"])
    return _Validation(verdict, tuple(path for path in samples if path.is_file()))


def _write_golden(
    folder: Path, models: Sequence[Path], spec: Preprocessing, validation: _Validation | None
) -> list[dict[str, Any]]:
    """Write a few lines with the tensor, the logits and the text that reading them gives."""
    (folder / "golden").mkdir()
    if validation and validation.samples:
        lines = [load_pages(path)[0] for path in validation.samples]
    else:
        lines = [_drawn_line(text) for text in SAMPLE_TEXTS]
    with open_engine(models[0]) as engine:
        return [_write_golden_line(folder, number, grey_HW, spec, engine) for number, grey_HW in enumerate(lines)]


def _write_golden_line(
    folder: Path, number: int, grey_HW: NDArray[np.uint8], spec: Preprocessing, engine: Engine
) -> dict[str, Any]:
    charset, _ = parse_metadata(engine.info.metadata, "the model")
    image_1HW = fit_line(grey_HW, spec)
    logits_1TC = infer_lines(engine, image_1HW[None])
    names = {
        "image": f"golden/line-{number}.png",
        "tensor": f"golden/line-{number}.image.npy",
        "logits": f"golden/line-{number}.logits.npy",
    }
    Image.fromarray(grey_HW).save(folder / names["image"])
    np.save(folder / names["tensor"], image_1HW)
    np.save(folder / names["logits"], logits_1TC[0])
    return {**names, "text": decode_greedy(logits_1TC, charset)[0].text}


def _drawn_line(text: str) -> NDArray[np.uint8]:
    font = ImageFont.load_default(40)
    image = Image.new("L", (int(font.getlength(text)) + 20, 64), 255)
    ImageDraw.Draw(image).text((10, 8), text, fill=0, font=font)
    return np.asarray(image)


def _manifest(
    folder: Path,
    metadata: dict[str, str],
    entries: list[dict[str, Any]],
    golden: list[dict[str, Any]],
    validation: _Validation | None,
) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "charset": metadata["charset"],
        "num_classes": int(metadata["num_classes"]),
        "network": json.loads(metadata["network"]),
        "preprocessing": json.loads(metadata["preprocessing"]),
        "decoding": {"method": "ctc-greedy", "blank": 0, "classes": "class k is the character k-1 of charset"},
        "models": [{key: value for key, value in entry.items() if key != "metadata"} for entry in entries],
        "golden": golden,
        "provenance": {name: metadata[name] for name in PROVENANCE if name in metadata},
        "validation": validation.verdict if validation else {"verdict": NOT_VALIDATED, "passed": False},
        "files": {
            path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in files
        },
    }
