"""The arithmetic of a training follows the recipe where the device has it, and says so where it has not."""

from __future__ import annotations

import pytest
import torch
from helpers.fit_helpers import read, write_data

from htr_training import autocast
from htr_training.loop import FitOptions, fit
from htr_training.recipe_file import read_recipe

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


@pytest.fixture
def processor(monkeypatch):
    """Pretend to be a processor with the given features."""

    def pretend(**features):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **features})

    return pretend


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16"])
def test_bf16_on_processors_that_multiply_it(processor, feature):
    processor(**{feature: True})
    assert autocast.autocast_dtype("bf16", CPU) == torch.bfloat16
    assert autocast.precision_note("bf16", CPU) is None


def test_float32_with_a_note_elsewhere(processor):
    processor(avx512_bf16=False)
    assert autocast.autocast_dtype("bf16", CPU) is None
    assert "AVX512_BF16" in autocast.precision_note("bf16", CPU)
    assert "needs a GPU" in autocast.precision_note("fp16", CPU)
    assert autocast.precision_note("fp32", CPU) is None


def test_a_gpu_does_what_the_recipe_says(processor):
    processor()
    assert autocast.autocast_dtype("bf16", CUDA) == torch.bfloat16
    assert autocast.autocast_dtype("fp16", CUDA) == torch.float16
    assert autocast.autocast_dtype("fp32", CUDA) is None


def test_a_training_in_bf16_differs_from_float32_by_rounding_alone(tmp_path, processor):
    recipe = write_data(tmp_path / "data")
    processor(avx512_bf16=True)
    losses = {}
    for precision in ("fp32", "bf16"):
        changes = [f"run.precision={precision}", "schedule.iterations=3", "run.validate_every=3"]
        fit(read_recipe(recipe, changes), FitOptions(tmp_path / precision))
        losses[precision] = read(tmp_path / precision / "last.pth")["train_loss"]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
