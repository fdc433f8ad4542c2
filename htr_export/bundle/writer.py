"""Putting models, characters, proof and golden vectors into one folder that devices can trust."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from htr_engines.backends import engines_of
from htr_engines.backends.tensorrt.sidecar import content_mismatch, gpus_of, read_sidecar, sidecar_path
from htr_engines.bundle import FORMAT, MANIFEST, SCHEMA_VERSION, open_bundle
from htr_engines.documents import load_json
from htr_engines.errors import BundleError, DataError, ParityError
from htr_engines.files import atomic_folder, sha256_of, write_text
from htr_engines.host import hardware_of
from htr_engines.manifest import BEAM_SCHEMA_VERSION
from htr_engines.progress import SILENT
from htr_export.bundle.card import CardOptions, write_card
from htr_export.bundle.golden import sample_lines, write_golden
from htr_export.bundle.preprocessing import write_preprocessing_vectors
from htr_export.bundle.proof import add_verdicts, remove_engines, set_verdicts, try_bundle
from htr_export.bundle.streams import add_throughput
from htr_export.decoding import Decoding, read_decoding
from htr_export.metadata import PROVENANCE, parse_metadata
from htr_export.onnx.file import read_onnx
from htr_export.preflight import check_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from htr_engines.backends.base import TensorInfo
    from htr_engines.checks import Check
    from htr_engines.progress import Progress

LATENCY_KIND = "htr-bench latency"


def write_bundle(
    models: Sequence[Path],
    target: Path,
    reports: Sequence[Path] = (),
    latencies: Sequence[Path] = (),
    card: CardOptions | None = None,
    *,
    language_model: Path | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a bundle, atomically, and return its manifest.

    Args:
        models: ONNX files and plans of one network.
        target: the folder to write; an older bundle there is replaced.
        reports: of ``htr-export validate``, each on one of the models and one engine. A model without one is bundled as
            unproven; an engine on which it failed, or fails its self-test here, is not among its engines.
        latencies: JSON files of ``htr-bench latency``; their figures help to choose among the models.
        card: what the model card says beyond what was measured.
        language_model: of ``htr-train lm``, for a beam search with the weights that were tuned for it.
        force: replace a file that has the name of ``target``.
        progress: reports the steps.

    Raises:
        BundleError: if the models or the reports do not belong together, or are not whole.
        ExportError: if ``target`` is something else than a bundle.
        ParityError: if a model failed on every engine that it was validated on, or fails its self-test on every engine.
    """
    names = [path.name for path in models]
    if len(set(names)) != len(names):
        raise BundleError(f"two models share a file name ({', '.join(names)}); rename one")
    check_output(target, force=force)
    decoding = read_decoding(language_model)
    with atomic_folder(target) as folder:
        entries = [_add_model(path, folder) for path in models]
        metadata = entries[0]["metadata"]
        if any(_identity(entry["metadata"]) != _identity(metadata) for entry in entries):
            raise BundleError("the models have different characters or networks; bundle one network at a time")
        digests = {sha256_of(folder / name): name for name in names}
        add_verdicts(entries, digests, reports, decoding)
        figures = _figures(latencies, digests)
        for entry in entries:
            entry["latency"] = figures.get(entry["file"], {})
        progress.step("writing golden lines")
        golden = {
            "golden": write_golden(folder, entries, sample_lines(reports), decoding),
            "preprocessing_vectors": write_preprocessing_vectors(folder),
        }
        decoding.copy_to(folder)
        manifest = _manifest(folder, metadata, entries, golden, digests, decoding)
        _write_manifest(folder, manifest)
        progress.step("self-test")
        _remove_failed(manifest["models"], try_bundle(folder))
        _write_manifest(folder, manifest)
        progress.step("measuring streams")
        add_throughput(open_bundle(folder), manifest["models"])
        _write_manifest(folder, manifest)
        write_card(folder, target.stem, manifest, card or CardOptions())
    return manifest


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_text(folder / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")


def _remove_failed(entries: Sequence[dict[str, Any]], tried: Mapping[tuple[str, str], Sequence[Check]]) -> None:
    """Take away the engines that do not read the golden lines as expected.

    Raises:
        ParityError: if a model fails on all engines that were tried.
    """
    for entry in entries:
        found = {engine: failed for (name, engine), failed in tried.items() if name == entry["file"]}
        failed = {engine for engine, checks in found.items() if checks}
        if failed and len(failed) == len(found):
            lines = "\n".join(str(check) for checks in found.values() for check in checks)
            raise ParityError(f"{entry['file']} does not pass its self-test here; no bundle was written\n{lines}")
        if failed:
            remove_engines(entry, failed)
            entry["self_test_failed"] = sorted(failed)
            set_verdicts(entry, {name: one for name, one in entry["validations"].items() if name not in failed})


def _identity(metadata: Mapping[str, str]) -> list[str | None]:
    return [metadata.get(key) for key in ("charset", "network", "preprocessing", "source_sha256")]


def _add_model(source: Path, folder: Path) -> dict[str, Any]:
    """Copy a model and return its entry, with the metadata that the manifest holds only once."""
    add = {".onnx": _add_onnx, ".plan": _add_plan}.get(source.suffix.lower())
    if add is None:
        raise BundleError(f"{source} is no .onnx file and no .plan; export the model first")
    if not source.is_file():
        raise BundleError(f"{source} does not exist; give a model file")
    entry = add(source, folder)
    charset, _ = parse_metadata(entry["metadata"], str(source))
    charset.check_fits(int(entry["output"]["shape"][2]))
    shutil.copyfile(source, folder / source.name)
    return {"file": source.name, **entry}


def _add_onnx(source: Path, _folder: Path) -> dict[str, Any]:
    facts = read_onnx(source)
    return {
        "engines": engines_of(".onnx"),
        "precision": facts.precision,
        "input": _tensor(facts.input),
        "output": _tensor(facts.output),
        "metadata": facts.metadata,
    }


def _add_plan(source: Path, folder: Path) -> dict[str, Any]:
    """A plan need not run here: its sidecar, which is copied too, describes it."""
    sidecar = read_sidecar(source)
    if reason := content_mismatch(sidecar, source):
        raise BundleError(f"{source} is not what was built: {reason}; copy both again, or run: {sidecar.command}")
    shutil.copyfile(sidecar_path(source), folder / sidecar_path(source).name)
    return {
        "engines": [sidecar.runtime],
        "precision": sidecar.precision,
        "gpus": gpus_of(sidecar),
        "runtime_version": sidecar.runtime_version,
        "input": _tensor(sidecar.input),
        "output": _tensor(sidecar.output),
        "metadata": sidecar.metadata,
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}


def _figures(latencies: Sequence[Path], digests: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the median latencies of one line by file name and engine."""
    figures: dict[str, dict[str, Any]] = {}
    for path in latencies:
        try:
            document = load_json(path, dict[str, Any], "make it with: htr-bench latency --json")
            if document["kind"] != LATENCY_KIND:
                raise KeyError("kind")  # noqa: TRY301 - treated as a file that is damaged
            hardware = hardware_of(document["environment"])
            for one in document["targets"]:
                if one["sha256"] in digests and (seconds := _median(one["measurements"])) is not None:
                    figure = {"seconds": seconds, "hardware": hardware}
                    figures.setdefault(digests[one["sha256"]], {})[one["engine"]["engine"]] = figure
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(f"{path} is no report of htr-bench latency; make it with its option --json") from None
    return figures


def _median(measurements: Sequence[dict[str, Any]]) -> float | None:
    """Return the median of the engine alone for one line, if that was measured and is stable."""
    found = [one for one in measurements if (one["batch"], one["scope"], one["stable"]) == (1, "engine", True)]
    return float(found[0]["timing"]["percentiles"]["p50"]) if found else None


def _decoding(decoding: Decoding) -> dict[str, Any]:
    entry = {"method": "ctc-greedy", "blank": 0, "classes": "class k is the character k-1 of charset"}
    if decoding.language_model is None:
        return entry
    file = decoding.language_model.name
    return entry | {"method": "ctc-beam", "beam": decoding.weights(), "language_model": file}


def _manifest(
    folder: Path,
    metadata: Mapping[str, str],
    entries: list[dict[str, Any]],
    golden: dict[str, Any],
    digests: Mapping[str, str],
    decoding: Decoding,
) -> dict[str, Any]:
    known = {name: digest for digest, name in digests.items()}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "format": FORMAT,
        "schema_version": BEAM_SCHEMA_VERSION if decoding.language_model else SCHEMA_VERSION,
        "charset": metadata["charset"],
        "num_classes": int(metadata["num_classes"]),
        "network": json.loads(metadata["network"]),
        "preprocessing": json.loads(metadata["preprocessing"]),
        "decoding": _decoding(decoding),
        "models": [{key: value for key, value in entry.items() if key != "metadata"} for entry in entries],
        **golden,
        "provenance": {name: metadata[name] for name in PROVENANCE if name in metadata},
        "files": {
            path.relative_to(folder).as_posix(): {
                "sha256": known.get(path.relative_to(folder).as_posix()) or sha256_of(path),
                "bytes": path.stat().st_size,
            }
            for path in files
        },
    }
