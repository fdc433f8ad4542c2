"""The manifest of a bundle as it stands in ``manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from htr_engines.beam import BeamOptions
from htr_engines.documents import Positive, Sha256, convert, load_json
from htr_engines.errors import BundleError
from htr_engines.files import is_file
from htr_engines.preprocess import Alpha, Preprocessing  # noqa: TC001 - likewise
from htr_engines.text import shown

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "htr-convtext-bundle"
SCHEMA_VERSION = 3  # which brought the preprocessing vectors
BEAM_SCHEMA_VERSION = 4  # of bundles with a language model, which older readers would leave out in silence
READABLE_VERSIONS = (2, SCHEMA_VERSION, BEAM_SCHEMA_VERSION)
MANIFEST = "manifest.json"
CURE = "bundle the model again"


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    sha256: Sha256
    bytes: int


@dataclass(frozen=True)
class ValidationEntry:
    """What the validation of a model said."""

    verdict: str
    passed: bool
    engine: str | None = None  # that ran it; None where there was no validation


@dataclass(frozen=True)
class Figure:
    """A measured latency."""

    seconds: Annotated[float, Meta(ge=0)]  # median for one line, the engine alone
    hardware: str  # that it was measured on, by htr_engines.host


@dataclass(frozen=True)
class Throughput:
    """How a model reads most lines a second."""

    streams: Annotated[int, Meta(ge=1)]  # batches that run at the same time
    lines_per_s: Annotated[float, Meta(ge=0)]  # of the engine alone, at batch 1
    hardware: str  # that it was measured on, by htr_engines.host


@dataclass(frozen=True)
class ModelEntry:
    """A model of the bundle."""

    file: str
    engines: tuple[str, ...]  # that can run it
    precision: str
    validation: ValidationEntry
    validations: Mapping[str, ValidationEntry] = field(default_factory=dict)  # those that were passed, by engine
    latency: Mapping[str, Figure] = field(default_factory=dict)  # by engine
    throughput: Mapping[str, Throughput] = field(default_factory=dict)  # by engine, of those that have streams


@dataclass(frozen=True)
class ExpectedEntry:
    """What a model makes of a golden line."""

    logits: str  # file
    text: str  # by greedy decoding
    decoded: str | None = None  # by the bundle's decoder, where that is another one


@dataclass(frozen=True)
class GoldenEntry:
    """A golden line."""

    image: str  # file
    tensor: str  # file
    reference: ExpectedEntry
    models: Mapping[str, ExpectedEntry]  # by file name


@dataclass(frozen=True)
class VectorEntry:
    """An image file that preprocessing is tried with, whatever the network is."""

    file: str
    alpha: Alpha
    tolerance: Annotated[int, Meta(ge=0, le=255)]  # grey levels by which a reader with another decoder may be off


@dataclass(frozen=True)
class VectorsEntry:
    """Images of every kind. They have a line size of their own, so that their files stay small."""

    width: Annotated[int, Meta(ge=8, le=8192)]
    height: Annotated[int, Meta(ge=8, le=1024)]
    tensors: str  # file, .npy of uint8 [images,height,width]
    images: tuple[VectorEntry, ...]


@dataclass(frozen=True)
class DecodingEntry:
    """The decoder that the bundle's validations used."""

    method: Literal["ctc-greedy", "ctc-beam"] = "ctc-greedy"
    beam: BeamOptions = field(default_factory=BeamOptions)
    language_model: str | None = None  # file


@dataclass(frozen=True)
class Manifest:
    """All that reading uses of a manifest."""

    charset: str
    num_classes: Positive
    preprocessing: Preprocessing
    models: Annotated[tuple[ModelEntry, ...], Meta(min_length=1)]
    golden: tuple[GoldenEntry, ...]
    files: Mapping[str, FileEntry]
    decoding: DecodingEntry = field(default_factory=DecodingEntry)
    preprocessing_vectors: VectorsEntry | None = None  # from schema version 3 on


def read_manifest(folder: Path) -> tuple[dict[str, Any], Manifest]:
    """Read the manifest of a bundle, as it stands there and as checked fields.

    Raises:
        BundleError: if there is none, or it is damaged or of a version that this release does not know.
    """
    path = folder / MANIFEST
    if not is_file(path):
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}; make one with 'htr-export bundle'")
    document = load_json(path, dict[str, Any], CURE, BundleError)
    if document.get("format") != FORMAT:
        raise BundleError(f"{path} is not the manifest of a bundle; make one with 'htr-export bundle'")
    if document.get("schema_version") not in READABLE_VERSIONS:
        raise BundleError(
            f"{folder} has schema version {shown(document.get('schema_version'))}, this release reads "
            f"{READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}; install the release that wrote it"
        )
    return document, convert(document, Manifest, str(path), CURE, BundleError)
