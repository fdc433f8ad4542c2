"""The network against the golden values of the published implementation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.golden_weights import GOLDEN, golden_arrays, read_shapes

from htr_engines.charset import preset
from htr_engines.ctc import decode_greedy
from htr_engines.errors import CheckpointError
from htr_export.network.config import PRESETS, NetworkConfig
from htr_export.network.model import HTRConvText

SEEDS = {"iam": 2512, "vnondb": 2513}
# These weights amplify rounding: float32 is off by up to 1.2e-3, by another amount on each kind of CPU.
FLOAT32_BOUND = 3e-3


@pytest.fixture(scope="module", params=SEEDS)
def golden(request):
    """The network of golden weights, and by image (pixels, features and logits, both computed in float64)."""
    name = request.param
    num_classes = preset(name).num_classes
    network = HTRConvText(NetworkConfig(num_classes=num_classes)).eval()
    arrays = golden_arrays(read_shapes("state_dict_v2.tsv", num_classes), SEEDS[name])
    network.load_state_dict({key: torch.from_numpy(value) for key, value in arrays.items()}, strict=True)
    values = np.load(GOLDEN / "network.npz")
    computed = {}
    with torch.inference_mode():
        network.double()
        for key in (key.removesuffix(".image") for key in values.files if key.endswith(".image")):
            if key.startswith(name):
                pixels_N1HW = torch.from_numpy(values[f"{key}.image"])
                features_NTD = network.features(pixels_N1HW.double() / 255)
                computed[key] = pixels_N1HW, features_NTD.numpy(), network.head(features_NTD).numpy()
        network.float()
    return name, network, computed


@pytest.mark.base
def test_float64_is_the_published_implementation(golden):
    name, _, computed = golden
    values = np.load(GOLDEN / "network.npz")
    assert len(computed) == (5 if name == "iam" else 1)
    for key, (_, features_NTD, logits_NTC) in computed.items():
        assert np.abs(logits_NTC[:, ::8] - values[f"{key}.logits"]).max() <= 1e-9, key
        if f"{key}.features" in values.files:
            assert np.abs(features_NTD[:, ::16] - values[f"{key}.features"]).max() <= 1e-9, key
    if name == "iam":
        texts = [reading.text for reading in decode_greedy(computed["iam.w512"][2], preset("iam"))]
        assert texts == json.loads((GOLDEN / "greedy_iam80.json").read_text(encoding="utf-8"))


@pytest.mark.base
def test_float32_rounds_within_its_bound(golden):
    _, network, computed = golden
    for key, (pixels_N1HW, _, expected_NTC) in computed.items():
        with torch.inference_mode():
            logits_NTC = network(pixels_N1HW.float() / 255).numpy()
        assert np.abs(logits_NTC - expected_NTC).max() <= FLOAT32_BOUND, key
        second_NT, best_NT = np.sort(expected_NTC, axis=-1)[..., -2:].transpose(2, 0, 1)
        clear_NT = best_NT - second_NT > FLOAT32_BOUND
        assert clear_NT.mean() > 0.9, key
        assert np.array_equal(logits_NTC.argmax(-1)[clear_NT], expected_NTC.argmax(-1)[clear_NT]), key


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        state = HTRConvText(NetworkConfig(num_classes=80)).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == read_shapes("state_dict_v2.tsv", 80)


@pytest.mark.parametrize("size", PRESETS)
@pytest.mark.parametrize("width", [32, 64, 100, 136, 2048])
def test_every_size_takes_every_width(size, width):
    with torch.device("meta"):
        network = HTRConvText(NetworkConfig(num_classes=5, **PRESETS[size])).eval()
        network.materialise_constants()
        logits_NTC = network(torch.empty(2, 1, 64, width))
    assert logits_NTC.shape == (2, -(-width // 4), 5)


def test_training_and_inference_attention_agree():
    torch.manual_seed(0)
    config = NetworkConfig(num_classes=7, embed_dim=32, depth=3, num_heads=2, mobilevit_head_dim=8, image_width=64)
    network = HTRConvText(config, dropout=0.0, drop_path=0.0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
            module.eval()
    image_N1HW = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        fused = network(image_N1HW)
        network.eval()
        spelled_out = network(image_N1HW)
    assert torch.allclose(fused, spelled_out, atol=1e-4)


def test_batch_rows_do_not_touch_each_other():
    torch.manual_seed(0)
    config = NetworkConfig(num_classes=7, embed_dim=32, depth=4, num_heads=2, mobilevit_head_dim=8)
    network = HTRConvText(config).eval()
    image_N1HW = torch.rand(3, 1, 64, 128)
    with torch.inference_mode():
        together = network(image_N1HW)
        alone = torch.cat([network(line[None]) for line in image_N1HW])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"num_classes": 1}, "two classes"),
        ({"num_classes": 80, "depth": 2}, "depth"),
        ({"num_classes": 80, "embed_dim": 100}, "multiple"),
        ({"num_classes": 80, "num_heads": 7}, "num_heads"),
        ({"num_classes": 80, "image_width": 100}, "image_width"),
        ({"num_classes": 80, "embed_dim": -512}, "from 1 to"),
        ({"num_classes": True}, "whole number"),
        ({"num_classes": 80, "colour": 3}, "unknown"),
        ({}, "num_classes"),
    ],
)
def test_impossible_sizes_are_refused(numbers, said):
    with pytest.raises(CheckpointError, match=said):
        NetworkConfig.from_dict(numbers)


def test_configuration_survives_a_round_trip():
    config = NetworkConfig(num_classes=9, **PRESETS["tiny"])
    assert NetworkConfig.from_dict(config.to_dict()) == config


def test_the_published_u_shape():
    assert NetworkConfig(num_classes=80).half_blocks == range(3, 7)
