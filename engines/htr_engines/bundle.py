"""A bundle: the folder that holds all a device needs to read lines, and the proof that it does.

``manifest.json`` names every file with its SHA-256, the characters, the preprocessing, the decoding, the models with
their inputs, outputs and the verdicts of their validations, golden vectors and provenance. The models are one network
for several devices: ONNX files, and TensorRT plans with their sidecars.

A file is read once, and the bytes that were hashed are the bytes that are used: nobody can swap it in between.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from htr_engines.backends.base import MAX_MODEL_BYTES, ModelFile
from htr_engines.backends.tensorrt.sidecar import read_sidecar, sidecar_path
from htr_engines.charset import Charset
from htr_engines.errors import BundleError, CharsetError, EngineError, FileError
from htr_engines.files import read_file, sha256_of
from htr_engines.manifest import FORMAT, MANIFEST, SCHEMA_VERSION, Figure, Throughput, read_manifest
from htr_engines.onnx_facts import read_facts
from htr_engines.preprocess import Preprocessing
from htr_engines.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from htr_engines.beam import BeamOptions
    from htr_engines.manifest import ExpectedEntry, GoldenEntry, ModelEntry, VectorsEntry
    from htr_engines.onnx_facts import Axes
    from htr_engines.preprocess import Alpha

__all__ = ["FORMAT", "MANIFEST", "SCHEMA_VERSION", "Bundle", "BundledModel", "Figure", "open_bundle"]

NOT_VALIDATED = "not validated"


@dataclass(frozen=True)
class BundledModel:
    """One model file of a bundle."""

    file: Path
    engines: tuple[str, ...]  # that can run it
    precision: str
    verdicts: Mapping[str, str] = field(default_factory=dict)  # of the validations that it passed, by engine
    latency: Mapping[str, Figure] = field(default_factory=dict)  # by engine
    throughput: Mapping[str, Throughput] = field(default_factory=dict)  # by engine


@dataclass(frozen=True)
class Expected:
    """What a model makes of a golden line."""

    logits: Path  # .npy, float32 [T,C]
    text: str  # by greedy decoding
    decoded: str | None  # by the bundle's decoder, where that is another one


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
class PreprocessingVectors:
    """Images of every kind with what preprocessing has to make of them, whatever the network is."""

    width: int
    height: int
    tensors: Path  # .npy, uint8 [images,height,width], white = 255
    images: tuple[tuple[Path, Alpha, int], ...]  # with the grey levels by which a reader may be off


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its files are checked when they are read, or all at once by :meth:`changed_files`."""

    folder: Path
    manifest: Mapping[str, Any]  # as it stands in the file
    charset: Charset
    preprocessing: Preprocessing
    models: tuple[BundledModel, ...]
    golden: tuple[GoldenLine, ...]
    digests: Mapping[Path, str]  # SHA-256 of every file
    vectors: PreprocessingVectors | None = None  # None in bundles before schema version 3
    beam: BeamOptions | None = None  # of the decoder that its validations used; None where that was greedy
    language_model: Path | None = None

    @property
    def fingerprint(self) -> str:
        """The first half of the manifest's SHA-256: it names every file with its own."""
        return sha256_of(self.folder / MANIFEST)[:32]

    def changed_files(self) -> list[str]:
        """Return the files that are missing, or whose SHA-256 is not the manifest's."""
        return [path.relative_to(self.folder).as_posix() for path in self.digests if not self._is_unchanged(path)]

    def check_unchanged(self, *, apart_from: Path | None = None) -> None:
        """Raise :class:`BundleError` if a file was changed, apart from one that was read already."""
        bundle = replace(self, digests={path: sha for path, sha in self.digests.items() if path != apart_from})
        if changed := bundle.changed_files():
            raise BundleError(_changed(self.folder, changed))

    def read(self, path: Path) -> bytes:
        """Return the content of one of the files.

        Raises:
            BundleError: if it is missing, or its SHA-256 is not the manifest's.
        """
        try:
            content = read_file(path, MAX_MODEL_BYTES)
        except FileError as error:
            reason = str(error).split("; ", 1)[0]
            raise BundleError(f"{reason}; copy the bundle again") from None
        if hashlib.sha256(content).hexdigest() != self.digests[path]:
            raise BundleError(_changed(self.folder, [path.name]))
        return content

    def read_model(self, model: BundledModel) -> ModelFile:
        """Return one of the models, read and checked.

        Raises:
            BundleError: if it was changed, or has other characters, preprocessing or shapes than the manifest says.
            EngineError: if it is damaged.
        """
        content, sidecar = self.read(model.file), None
        if model.file.suffix == ".plan":
            sidecar = self.read(sidecar_path(model.file))
            plan = read_sidecar(model.file, sidecar)
            self._check_reader(model, plan.metadata, plan.input.shape, plan.output.shape)
        else:
            facts = read_facts(content, str(model.file))
            if (len(facts.inputs), len(facts.outputs)) != (1, 1):
                raise EngineError(f"{model.file} should have one input and one output; export it again")
            self._check_reader(model, facts.metadata, facts.inputs[0], facts.outputs[0])
        return ModelFile(model.file, content, sidecar)

    def _check_reader(self, model: BundledModel, metadata: Mapping[str, str], image: Axes, logits: Axes) -> None:
        """Refuse a model that was made for other characters or lines than the manifest says."""
        spec = self.preprocessing
        claims = {
            "characters": (metadata.get("charset"), self.charset.characters),
            "preprocessing": (Preprocessing.from_json(metadata.get("preprocessing", ""), str(model.file)), spec),
            "input shape": (_fixed(image, (None, 1, spec.height, spec.width)), image),
            "output shape": (_fixed(logits, (None, None, self.charset.num_classes)), logits),
        }
        for what, (one, other) in claims.items():
            if one != other:
                raise BundleError(f"{model.file} has another {what} than the bundle's manifest; bundle the model again")

    def _is_unchanged(self, path: Path) -> bool:
        try:
            return sha256_of(path) == self.digests[path]
        except FileError:
            return False


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest.

    Raises:
        BundleError: if it is no bundle, damaged, or of a version that this release does not know.
    """
    document, manifest = read_manifest(folder)
    try:
        charset = Charset(manifest.charset)
        charset.check_fits(manifest.num_classes)
    except CharsetError as error:
        raise BundleError(f"{folder / MANIFEST} is damaged ({error}); bundle the model again") from None
    decoding = manifest.decoding
    bundle = Bundle(
        folder=folder,
        manifest=document,
        charset=charset,
        preprocessing=manifest.preprocessing,
        models=tuple(_model(folder, entry) for entry in manifest.models),
        golden=tuple(_golden_line(folder, entry) for entry in manifest.golden),
        digests={_inside(folder, name): entry.sha256 for name, entry in manifest.files.items()},
        beam=decoding.beam if decoding.method == "ctc-beam" else None,
        language_model=None if decoding.language_model is None else _inside(folder, decoding.language_model),
        vectors=_vectors(folder, manifest.preprocessing_vectors),
    )
    if unlisted := [path for path in _used(bundle) if path not in bundle.digests]:
        raise BundleError(f"{unlisted[0]} has no SHA-256 in the manifest; bundle the model again")
    return bundle


def _changed(folder: Path, names: list[str]) -> str:
    return f"{folder} was changed after it was written: {', '.join(names)}; copy it again"


def _fixed(axes: Axes, expected: tuple[int | None, ...]) -> Axes:
    """Return the axes as they should be: those without a number, or without an expectation, may be anything."""
    if len(axes) != len(expected):
        return ()
    return tuple(
        axis if isinstance(axis, str) or size is None else size for axis, size in zip(axes, expected, strict=True)
    )


def _model(folder: Path, entry: ModelEntry) -> BundledModel:
    first = {entry.validation.engine: entry.validation} if entry.validation.engine else {}
    validations = entry.validations or first  # older bundles have no more than one
    return BundledModel(
        file=_inside(folder, entry.file),
        engines=entry.engines,
        precision=entry.precision,
        verdicts={engine: one.verdict for engine, one in validations.items() if one.passed},
        latency=entry.latency,
        throughput=entry.throughput,
    )


def _golden_line(folder: Path, entry: GoldenEntry) -> GoldenLine:
    return GoldenLine(
        image=_inside(folder, entry.image),
        tensor=_inside(folder, entry.tensor),
        reference=_expected(folder, entry.reference),
        models={name: _expected(folder, one) for name, one in entry.models.items()},
    )


def _expected(folder: Path, entry: ExpectedEntry) -> Expected:
    return Expected(_inside(folder, entry.logits), entry.text, entry.decoded)


def _vectors(folder: Path, entry: VectorsEntry | None) -> PreprocessingVectors | None:
    if entry is None:
        return None
    images = tuple((_inside(folder, one.file), one.alpha, one.tolerance) for one in entry.images)
    return PreprocessingVectors(entry.width, entry.height, _inside(folder, entry.tensors), images)


def _used(bundle: Bundle) -> Iterator[Path]:
    """Yield the files that reading uses."""
    for model in bundle.models:
        yield model.file
        if model.file.suffix == ".plan":
            yield sidecar_path(model.file)
    for line in bundle.golden:
        yield from (line.image, line.tensor, line.reference.logits)
        yield from (one.logits for one in line.models.values())
    if bundle.language_model:
        yield bundle.language_model
    if bundle.vectors:
        yield bundle.vectors.tensors
        yield from (image for image, _, _ in bundle.vectors.images)


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a bundle's file; a name that leads outside is refused."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise BundleError(
            f"the manifest of {folder} names {shown(name)}, which is outside of it; do not use this bundle"
        )
    return folder / path
