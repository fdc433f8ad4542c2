"""A bundle: the folder that holds all a device needs to read lines, and the proof that it does.

``manifest.json`` names every file with its SHA-256, the characters, the preprocessing, the decoding, the models with
their inputs, outputs and the verdicts of their validations, golden vectors and provenance. The models are one network
for several devices: ONNX files, and TensorRT plans with their sidecars.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from htr_engines.backends.tensorrt.sidecar import sidecar_path
from htr_engines.charset import Charset
from htr_engines.errors import BundleError
from htr_engines.files import sha256_of
from htr_engines.preprocess import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT = "htr-convtext-bundle"
SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
NOT_VALIDATED = "not validated"


@dataclass(frozen=True)
class Figure:
    """A measured latency."""

    seconds: float  # median for one line, the engine alone
    hardware: str  # that it was measured on, by htr_engines.host


@dataclass(frozen=True)
class BundledModel:
    """One model file of a bundle."""

    file: Path
    engines: tuple[str, ...]  # that can run it
    precision: str
    verdict: str = NOT_VALIDATED  # of the validation of this very file, and the engine that ran it
    proven: bool = False  # whether that was passed
    latency: Mapping[str, Figure] = field(default_factory=dict)  # by engine


@dataclass(frozen=True)
class Expected:
    """What a model makes of a golden line."""

    logits: Path  # .npy, float32 [T,C]
    text: str


@dataclass(frozen=True)
class GoldenLine:
    """A line with everything that reading it should give."""

    image: Path  # PNG
    tensor: Path  # .npy, float32 [1,H,W]: what preprocessing makes of it
    reference: Expected  # of the most precise model
    models: Mapping[str, Expected]  # by file name, of those that ran where the bundle was made

    def expected(self, model: BundledModel) -> Expected:
        """Return what a model should make of it: what it did make of it once, or else the most precise one."""
        return self.models.get(model.file.name, self.reference)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its files are checked by :meth:`changed_files`, not by opening."""

    folder: Path
    manifest: Mapping[str, Any]
    charset: Charset
    preprocessing: Preprocessing
    models: tuple[BundledModel, ...]
    golden: tuple[GoldenLine, ...]

    @property
    def fingerprint(self) -> str:
        """The first half of the manifest's SHA-256: it names every file with its own."""
        return sha256_of(self.folder / MANIFEST)[:32]

    def changed_files(self) -> list[str]:
        """Return the files that are missing, or whose SHA-256 is not the manifest's."""
        changed = []
        for name, facts in self.manifest["files"].items():
            path = self.folder / name
            if not path.is_file() or sha256_of(path) != facts["sha256"]:
                changed.append(name)
        return changed


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest.

    Raises:
        BundleError: if it is no bundle, damaged, or of a version that this release does not know.
    """
    manifest = _read_manifest(folder)
    try:
        listed = {_inside(folder, name) for name in manifest["files"]}
        bundle = Bundle(
            folder=folder,
            manifest=manifest,
            charset=Charset(manifest["charset"]),
            preprocessing=Preprocessing.from_dict(manifest["preprocessing"]),
            models=tuple(_model(folder, entry) for entry in manifest["models"]),
            golden=tuple(_golden_line(folder, entry) for entry in manifest["golden"]),
        )
        if unlisted := [path for path in _used(bundle) if path not in listed]:
            raise BundleError(f"{unlisted[0]} has no SHA-256 in the manifest; bundle the model again")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"{folder / MANIFEST} is damaged ({type(error).__name__}: {error}); bundle the model again"
        ) from None
    return bundle


def open_verified(folder: Path) -> Bundle:
    """Read a bundle's manifest and check every file's SHA-256.

    Raises:
        BundleError: if a file was changed, or as :func:`open_bundle` does.
    """
    bundle = open_bundle(folder)
    if changed := bundle.changed_files():
        raise BundleError(f"{folder} was changed after it was written: {', '.join(changed)}; copy it again")
    return bundle


def _model(folder: Path, entry: dict[str, Any]) -> BundledModel:
    latency, validation = entry.get("latency", {}), entry["validation"]
    return BundledModel(
        file=_inside(folder, entry["file"]),
        engines=tuple(entry["engines"]),
        precision=entry["precision"],
        verdict=f"{validation['verdict']} with {validation['engine']}" if "engine" in validation else NOT_VALIDATED,
        proven=validation["passed"] is True,
        latency={name: Figure(float(one["seconds"]), str(one["hardware"])) for name, one in latency.items()},
    )


def _golden_line(folder: Path, entry: dict[str, Any]) -> GoldenLine:
    return GoldenLine(
        image=_inside(folder, entry["image"]),
        tensor=_inside(folder, entry["tensor"]),
        reference=_expected(folder, entry["reference"]),
        models={name: _expected(folder, one) for name, one in entry["models"].items()},
    )


def _expected(folder: Path, entry: dict[str, Any]) -> Expected:
    return Expected(_inside(folder, entry["logits"]), str(entry["text"]))


def _used(bundle: Bundle) -> Iterator[Path]:
    """Yield the files that reading uses."""
    for model in bundle.models:
        yield model.file
        if model.file.suffix == ".plan":
            yield sidecar_path(model.file)
    for line in bundle.golden:
        yield from (line.image, line.tensor, line.reference.logits)
        yield from (one.logits for one in line.models.values())


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}; make one with 'htr-export bundle'")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} is not valid JSON ({error}); bundle the model again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} is not the manifest of a bundle; make one with 'htr-export bundle'")
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise BundleError(
            f"{folder} has schema version {manifest.get('schema_version')}, this release reads {SCHEMA_VERSION}; "
            "install the release that wrote it"
        )
    return manifest


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a bundle's file; a name that leads outside is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise BundleError(f"the manifest of {folder} names {name!r}, which lies outside it; do not use this bundle")
    return folder / path
