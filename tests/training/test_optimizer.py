"""Rates, sharpness-aware steps and the moving average, against golden values and against calculation by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from helpers.golden_weights import GOLDEN
from torch import nn

from htr_training.optimizer import (
    MovingAverage,
    SharpnessAware,
    ema_decay,
    learning_rate,
    make_adamw,
    set_rate,
)
from htr_training.recipe import OptimizerRecipe, ScheduleRecipe


def test_golden_schedule():
    golden = json.loads((GOLDEN / "lr_schedule.json").read_text(encoding="utf-8"))
    recipe = ScheduleRecipe(golden["total_iter"], golden["warm_up_iter"], golden["max_lr"], golden["min_lr"])
    assert recipe == ScheduleRecipe()
    for iteration, rate in golden["lr"].items():
        assert learning_rate(int(iteration), recipe) == pytest.approx(rate, rel=1e-9)


def test_mended_tail_falls_to_the_end():
    recipe = ScheduleRecipe(iterations=100, warm_up=10, monotone_cosine=True)
    rates = [learning_rate(iteration, recipe) for iteration in range(1, 101)]
    assert rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(recipe.min_rate)
    published = replace(recipe, monotone_cosine=False)
    assert learning_rate(100, published) > learning_rate(90, published)


@pytest.mark.parametrize(("iteration", "decay"), [(2, 2 / 11), (200, 101 / 110), (10**7, 0.9999)])
def test_ema_decay(iteration, decay):
    assert ema_decay(iteration, 0.9999) == pytest.approx(decay)


def test_moving_average_of_weights_and_statistics():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(network)
    before = {name: value.clone() for name, value in average.network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    network.train()(torch.randn(4, 2))
    average.update(network, 0.75)
    for name, value in network.state_dict().items():
        moved = average.network.state_dict()[name]
        expected = 0.75 * before[name] + 0.25 * value if value.is_floating_point() else value
        assert torch.allclose(moved, expected), name
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert not average.network.training


def test_sam_by_hand():
    # Loss w0^2 + 2 w1^2 at (3, 1): gradient (6, 4), of norm sqrt(52).
    weight = nn.Parameter(torch.tensor([3.0, 1.0]))
    recipe = OptimizerRecipe(sam_rho=0.5)
    optimizer = make_adamw([weight], recipe)
    set_rate(optimizer, 0.1)
    sam = SharpnessAware([weight], recipe.sam_rho)

    def backward():
        (weight[0] ** 2 + 2 * weight[1] ** 2).backward()

    backward()
    norm = sam.ascend()
    assert norm.item() == pytest.approx(52**0.5)
    climbed = [3 + 0.5 * 6 / 52**0.5, 1 + 0.5 * 4 / 52**0.5]
    assert weight.tolist() == pytest.approx(climbed)
    assert weight.grad is None
    backward()
    sam.restore()
    assert weight.tolist() == [3.0, 1.0]
    gradient = [2 * climbed[0], 4 * climbed[1]]
    assert weight.grad.tolist() == pytest.approx(gradient)
    optimizer.step()
    # The first AdamW step: decay by rate * weight_decay, then the rate times the gradient's sign.
    assert weight.tolist() == pytest.approx([3 * (1 - 0.1 * 0.05) - 0.1, 1 - 0.1 * 0.05 - 0.1], abs=1e-6)


def test_sam_spans_all_parameters():
    weights = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))]
    sum((weight**2).sum() for weight in weights).backward()
    assert SharpnessAware(weights, 0.05).ascend().item() == pytest.approx(10.0)
    assert [weight.item() for weight in weights] == pytest.approx([3 + 0.05 * 0.6, 4 + 0.05 * 0.8])


def test_frozen_parameters_are_left_alone():
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    learning = nn.Parameter(torch.ones(2))
    optimizer = make_adamw([frozen, learning], OptimizerRecipe())
    assert [parameter is learning for group in optimizer.param_groups for parameter in group["params"]] == [True]
