"""The loss and the gradient of one batch, alone or under torchrun. Run by test_fit."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from htr_engines.preprocess import Preprocessing
from htr_training import distributed
from htr_training.data import FittedLines, TrainingBatches, choose_charset, read_split
from htr_training.order import Order
from htr_training.recipe_file import read_recipe
from htr_training.state import new_state
from htr_training.step import Stepper

# Dropout would draw other numbers in each process.
CHANGES = ["network.dropout=0.0", "network.drop_path=0.0", "loss.tcm_dropout=0.0", "loss.guide=0"]


def main(recipe_path: str, target: str) -> None:
    recipe = read_recipe(Path(recipe_path), CHANGES)
    torch.set_num_threads(1)
    device = torch.device("cpu")
    with distributed.processes(device):
        split = read_split(recipe.data)
        charset = choose_charset(recipe.data, split)
        state = new_state(recipe, charset, device)
        lines = FittedLines(split.train, Preprocessing(recipe.network.image_width), cache=False)
        share = (distributed.rank(), distributed.world_size())
        order = Order(len(lines), 1)
        batches = TrainingBatches(lines, charset, recipe.augment, order, seed=1, batch=4, share=share)
        stepper = Stepper(recipe, state)
        loss = distributed.mean(stepper._backward(batches[0]).total).item()
        if distributed.rank() == 0:
            gradients = {name: parameter.grad for name, parameter in state.learner.named_parameters()}
            torch.save({"loss": loss, "gradients": gradients, "model": state.learner.network.state_dict()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
