"""Writes the model repository."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from htr_engines.backends import backends
from htr_engines.backends.base import TensorInfo
from htr_engines.bundle import open_bundle
from htr_engines.errors import ExportError
from htr_engines.files import atomic_folder, write_text
from htr_engines.host import physical_cores
from htr_engines.preprocess import load_line
from htr_engines.selection import candidates
from htr_export.triton import configs
from htr_export.triton.configs import DECODE, ENSEMBLE, NETWORK, PREPROCESS, NetworkConfig

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.bundle import Bundle
    from htr_engines.selection import Candidate

IMAGE = "nvcr.io/nvidia/tritonserver:25.10-py3"
MODEL_PY = '"""{what}"""\n\nfrom htr_engines.triton_models import {name} as TritonPythonModel  # noqa: F401\n'
CLASSES = {PREPROCESS: "Preprocess", NETWORK: "Network", DECODE: "Decode"}
WHAT = {
    PREPROCESS: "Image files to the network's input.",
    NETWORK: "The network on an engine of htr-export.",
    DECODE: "Logits to text.",
}


@dataclass(frozen=True)
class TritonOptions:
    """How Triton is to run a bundle."""

    device: str = "cpu"  # or gpu
    python: bool = False  # the network on an engine of ours instead of a backend of Triton
    batch: int = 16  # lines per run, at most
    queue: int = 256  # requests that may wait for the network
    instances: int | None = None  # of the network; by default as the bundle measured, or one on a GPU


def write_repository(folder: Path, target: Path, options: TritonOptions) -> str:
    """Write the repository of a bundle.

    Args:
        folder: the bundle.
        target: the folder to write: ``models`` is the repository, beside it a README.
        options: how Triton is to run it.

    Returns:
        What runs: the file and Triton's backend for it.

    Raises:
        BundleError: if the bundle is damaged.
        ExportError: if it has no model for the device.
    """
    bundle = open_bundle(folder)
    bundle.check_unchanged()
    candidate = _choose(bundle, options)
    config = _config(bundle, candidate, options)
    with atomic_folder(target) as written:
        models = written / "models"
        _write_models(models, bundle, candidate, config)
        write_text(written / "README.md", _readme(folder.resolve().name, config))
    return f"{candidate.model.file.name} by Triton's backend {config.backend}"


def _choose(bundle: Bundle, options: TritonOptions) -> Candidate:
    known = backends()
    for candidate in sorted(candidates(bundle), key=lambda one: one.doubt):
        on_gpu = known[candidate.engine].device != "cpu"
        if on_gpu == (options.device == "gpu") and (options.python or candidate.engine != "openvino"):
            return candidate
    have = ", ".join(sorted({name for model in bundle.models for name in model.engines}))
    raise ExportError(f"{bundle.folder} has no model for {options.device}; it has models for: {have}")


def _config(bundle: Bundle, candidate: Candidate, options: TritonOptions) -> NetworkConfig:
    tensors = next(entry for entry in bundle.manifest["models"] if entry["file"] == candidate.model.file.name)
    source, output = (
        TensorInfo(tensors[side]["name"], tensors[side]["dtype"], tuple(tensors[side]["shape"]))
        for side in ("input", "output")
    )
    cpu = options.device == "cpu"
    measured = candidate.model.throughput.get(candidate.engine)
    instances = options.instances or (measured.streams if cpu and measured else 1)
    fixed = source.shape[0] if isinstance(source.shape[0], int) else options.batch
    return NetworkConfig(
        backend="python" if options.python else "tensorrt" if candidate.model.file.suffix == ".plan" else "onnxruntime",
        device=options.device,
        input=source,
        output=output,
        frames=bundle.preprocessing.width // 4,
        batch=min(fixed, options.batch),
        instances=instances,
        threads=max(1, physical_cores() // instances),
        queue=options.queue,
    )


def _write_models(models: Path, bundle: Bundle, candidate: Candidate, config: NetworkConfig) -> None:
    spec, classes = bundle.preprocessing, bundle.charset.num_classes
    instances = min(4, physical_cores())
    texts = {
        ENSEMBLE: configs.ensemble(config),
        PREPROCESS: configs.preprocess(config, spec.height, spec.width, instances),
        NETWORK: configs.network(config, spec.height, spec.width, classes),
        DECODE: configs.decode(config, classes, instances),
    }
    for name, text in texts.items():
        (models / name / "1").mkdir(parents=True)
        write_text(models / name / "config.pbtxt", text)
        if name in CLASSES and (name != NETWORK or config.backend == "python"):
            write_text(models / name / "1" / "model.py", MODEL_PY.format(what=WHAT[name], name=CLASSES[name]))
    warm_up = models / NETWORK / "warmup"
    warm_up.mkdir()
    load_line(bundle.golden[0].image, spec).astype(np.float32).tofile(warm_up / "golden")
    shutil.copytree(bundle.folder, models / PREPROCESS / "bundle")
    if config.backend != "python":
        copied = models / PREPROCESS / "bundle" / candidate.model.file.relative_to(bundle.folder)
        copied.replace(models / NETWORK / "1" / f"model{candidate.model.file.suffix}")


def _readme(name: str, config: NetworkConfig) -> str:
    gpu = "--gpus all " if config.device == "gpu" else ""
    extra = "[cpu]" if config.backend == "python" else ""
    return f"""# {name} for NVIDIA Triton

`{ENSEMBLE}` takes image files of lines and gives text, confidence and JSON. `{NETWORK}` is the network alone, for
clients that preprocess themselves. Put the wheel of htr-export beside this file, then:

    docker run --rm {gpu}--shm-size 1g -p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$PWD":/htr {IMAGE} \\
        sh -c 'pip install "$(ls /htr/htr_export-*.whl){extra}" && tritonserver --model-repository=/htr/models'

Before and after the network runs the code of `htr-read`, so a line reads as it does there. A plan of TensorRT needs the
image whose TensorRT built it.
"""
