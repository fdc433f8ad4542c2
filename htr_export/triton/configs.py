"""The ``config.pbtxt`` of each model of the repository.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from htr_engines.backends.base import TensorInfo

TYPES = {"float32": "TYPE_FP32", "float": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}
ENSEMBLE, PREPROCESS, NETWORK, DECODE = "htr", "htr_preprocess", "htr_network", "htr_decode"


@dataclass(frozen=True)
class NetworkConfig:
    """How Triton runs the network."""

    backend: str  # onnxruntime, tensorrt or python
    device: str  # cpu or gpu
    input: TensorInfo
    output: TensorInfo
    frames: int
    batch: int
    instances: int
    threads: int  # of an instance, on the CPU
    queue: int  # requests that may wait


def network(config: NetworkConfig, height: int, width: int, classes: int) -> str:
    """Return the configuration of the network alone, for clients that preprocess themselves."""
    python = config.backend == "python"
    source, target = ("lines", "logits") if python else (config.input.name, config.output.name)
    parts = [
        f'name: "{NETWORK}"',
        f'backend: "{config.backend}"',
        f"max_batch_size: {config.batch}",
        _tensors("input", [(source, "TYPE_FP32" if python else TYPES[config.input.dtype], (1, height, width))]),
        _tensors("output", [(target, "TYPE_FP32" if python else TYPES[config.output.dtype], (config.frames, classes))]),
        _batching(config.batch, config.queue),
        _instances(config.instances, config.device),
        "version_policy { latest { num_versions: 1 } }",
        _warm_up(source, (1, height, width)),
    ]
    if python:
        parts.append(_parameter("threads", str(config.threads)))
    elif config.backend == "onnxruntime" and config.device == "cpu":
        parts.append(_parameter("intra_op_thread_count", str(config.threads)))
    return "\n".join(parts) + "\n"


def preprocess(config: NetworkConfig, height: int, width: int, instances: int) -> str:
    """Return the configuration of what turns image files into the network's input."""
    outputs = [("lines", "TYPE_FP32", (1, height, width)), ("shape", "TYPE_INT32", (2,))]
    return _python(PREPROCESS, config, [("image", "TYPE_STRING", (1,))], outputs, instances)


def decode(config: NetworkConfig, classes: int, instances: int) -> str:
    """Return the configuration of what turns logits into text."""
    inputs = [("logits", "TYPE_FP32", (config.frames, classes)), ("shape", "TYPE_INT32", (2,))]
    return _python(DECODE, config, inputs, _readings(), instances)


def ensemble(config: NetworkConfig) -> str:
    """Return the configuration of the three in a row: image files in, text out."""
    python = config.backend == "python"
    source, target = ("lines", "logits") if python else (config.input.name, config.output.name)
    steps = [
        _step(PREPROCESS, {"image": "image"}, {"lines": "lines", "shape": "shape"}),
        _step(NETWORK, {source: "lines"}, {target: "logits"}),
        _step(DECODE, {"logits": "logits", "shape": "shape"}, {name: name for name, _, _ in _readings()}),
    ]
    return "\n".join(
        [
            f'name: "{ENSEMBLE}"',
            'platform: "ensemble"',
            f"max_batch_size: {config.batch}",
            _tensors("input", [("image", "TYPE_STRING", (1,))]),
            _tensors("output", _readings()),
            f"ensemble_scheduling {{\n  step [\n{','.join(steps)}\n  ]\n}}\n",
        ]
    )


Tensor = tuple[str, str, tuple[int, ...]]


def _readings() -> list[Tensor]:
    return [("text", "TYPE_STRING", (1,)), ("confidence", "TYPE_FP32", (1,)), ("json", "TYPE_STRING", (1,))]


def _python(
    name: str, config: NetworkConfig, inputs: Sequence[Tensor], outputs: Sequence[Tensor], instances: int
) -> str:
    parts = [
        f'name: "{name}"',
        'backend: "python"',
        f"max_batch_size: {config.batch}",
        _tensors("input", inputs),
        _tensors("output", outputs),
        _instances(instances, "cpu"),
        "version_policy { latest { num_versions: 1 } }",
    ]
    return "\n".join(parts) + "\n"


def _tensors(kind: str, tensors: Sequence[Tensor]) -> str:
    rows = [
        f"  {{ name: {json.dumps(name)} data_type: {dtype} dims: [ {', '.join(map(str, dims))} ] }}"
        for name, dtype, dims in tensors
    ]
    return f"{kind} [\n" + ",\n".join(rows) + "\n]"


def _batching(batch: int, queue: int) -> str:
    return (
        f"dynamic_batching {{\n  preferred_batch_size: [ {batch} ]\n"
        f"  default_queue_policy {{ max_queue_size: {queue} }}\n}}"
    )


def _instances(count: int, device: str) -> str:
    return f"instance_group [ {{ count: {count} kind: {'KIND_GPU' if device == 'gpu' else 'KIND_CPU'} }} ]"


def _warm_up(name: str, dims: tuple[int, ...]) -> str:
    """Triton reads the golden line of the bundle before it calls the model ready."""
    return (
        'model_warmup [ {\n  name: "golden line"\n  batch_size: 1\n'
        f"  inputs {{ key: {json.dumps(name)} value {{ data_type: TYPE_FP32 dims: [ {', '.join(map(str, dims))} ] "
        'input_data_file: "golden" } }\n} ]'
    )


def _parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'


def _step(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [f'      input_map {{ key: {json.dumps(key)} value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'      output_map {{ key: {json.dumps(key)} value: "{value}" }}' for key, value in outputs.items()]
    return f'    {{\n      model_name: "{name}"\n      model_version: -1\n' + "\n".join(maps) + "\n    }"
