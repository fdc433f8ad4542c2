"""The losses of training against the golden values of the published implementation, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.golden_weights import GOLDEN, golden_arrays, read_shapes
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_engines.charset import preset
from htr_training.data import collate
from htr_training.guide import even_labels, guide_share, ink_extent
from htr_training.losses import Learner, ctc_per_line, tcm_loss
from htr_training.recipe import LossRecipe
from htr_training.tcm import TextualContext, contexts

IAM = preset("iam")


@pytest.fixture(scope="module")
def values():
    return dict(np.load(GOLDEN / "losses.npz"))


@pytest.fixture(scope="module")
def batch(values):
    images = np.zeros((len(values["texts"]), 64, 512), np.uint8)  # not looked at: the features are given
    return collate(list(images), [IAM.encode(text) for text in values["texts"]])


@pytest.fixture(scope="module")
def tcm():
    module = TextualContext(IAM.num_classes, 512, LossRecipe()).eval()
    module.load_state_dict(as_tensors("tcm_state_dict.tsv"), strict=True)
    return module


def as_tensors(name, prefix=""):
    shapes = {key: shape for key, shape in read_shapes(name, 80).items() if key.startswith(prefix)}
    return {key: torch.from_numpy(value) for key, value in golden_arrays(shapes, 2512).items()}


def test_contexts(values, batch):
    padded = values["target"] == 80
    assert np.array_equal(batch.targets.numpy()[~padded], values["target"][~padded])
    near = contexts(batch.targets, batch.lengths, 5, pad=80)
    assert np.array_equal(near.left.numpy(), values["left_context"])
    assert np.array_equal(near.right.numpy(), values["right_context"])


class GoldenFeatures(torch.nn.Module):
    """The published network's features, from which its losses were computed, and its head."""

    def __init__(self, values):
        super().__init__()
        self.features_NTD = torch.from_numpy(values["features"])
        weights = as_tensors("state_dict_v2.tsv", "head.")
        self.head = torch.nn.Linear(512, 80)
        self.head.load_state_dict({name.removeprefix("head."): value for name, value in weights.items()}, strict=True)

    def features(self, _):
        return self.features_NTD


def test_golden_losses(values, batch, tcm):
    network = GoldenFeatures(values)
    with torch.no_grad():
        left, right = tcm(network.features_NTD, batch.targets, batch.lengths)
        ctc_N = ctc_per_line(network.head(network.features_NTD), batch.targets, batch.lengths)
        losses = Learner(network, tcm, LossRecipe())(batch.images, batch.targets, batch.lengths)
    assert np.abs(left[:, ::4].numpy() - values["logits_left"]).max() <= 2e-4
    assert tcm_loss((left, right), batch.targets, batch.lengths).item() == pytest.approx(values["loss_tcm"], rel=1e-5)
    assert ctc_N.numpy() == pytest.approx(values["loss_ctc_per_line"], rel=1e-5)
    assert losses.total.item() == pytest.approx(values["loss_total"], rel=1e-5)
    assert losses.ctc.item() == pytest.approx(values["loss_ctc_per_line"].mean(), rel=1e-5)


def test_tcm_pad_stays_zero():
    module = TextualContext(10, 16, LossRecipe(tcm_width=8))
    assert not module.emb.weight[10].any()
    assert module.emb.padding_idx == 10
    features_NTD = torch.randn(2, 5, 16)
    targets, lengths = torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1])
    tcm_loss(module(features_NTD, targets, lengths), targets, lengths).backward()
    assert not module.emb.weight.grad[10].any()


def test_tcm_loss_does_not_see_padding():
    module = TextualContext(10, 16, LossRecipe(tcm_width=8)).eval()
    features_NTD = torch.randn(2, 5, 16)
    lengths = torch.tensor([3, 1])
    losses = []
    for filler in (0, 7):
        targets = torch.tensor([[1, 2, 3], [4, filler, filler]])
        losses.append(tcm_loss(module(features_NTD, targets, lengths), targets, lengths).item())
    assert losses[0] == losses[1]


def test_ctc_of_a_text_that_is_too_long_is_zero():
    logits_NTC = torch.randn(2, 3, 5, requires_grad=True)
    losses = ctc_per_line(logits_NTC, torch.tensor([[1, 2, 3, 4], [1, 0, 0, 0]]), torch.tensor([4, 1]))
    assert losses[0] == 0
    assert losses[1] > 0
    losses.mean().backward()
    assert logits_NTC.grad.isfinite().all()


def test_empty_texts_have_finite_losses():
    module = TextualContext(10, 16, LossRecipe(tcm_width=8))
    targets, lengths = torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 0])
    loss = tcm_loss(module(torch.randn(2, 5, 16), targets, lengths), targets, lengths)
    assert loss.item() == 0
    assert ctc_per_line(torch.randn(2, 5, 10), targets, lengths).isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 6))
def test_contexts_by_hand(text, size):
    near = contexts(torch.tensor([text]), torch.tensor([len(text)]), size, pad=10)
    for place in range(len(text)):
        before = ([10] * size + text)[place : place + size]
        after = (text + [10] * size)[place + 1 : place + 1 + size]
        assert near.left[0, place].tolist() == before
        assert near.right[0, place].tolist() == after


def test_guide_spreads_the_text_over_the_ink():
    image_N1HW = torch.ones(2, 1, 64, 64)
    image_N1HW[0, 0, 20:30, 16:48] = 0.2
    first_N, last_N = ink_extent(image_N1HW)
    assert (first_N[0], last_N[0]) == (16, 47)
    labels_NT = even_labels(image_N1HW, torch.tensor([[3, 5], [1, 0]]), torch.tensor([2, 0]), frames=16)
    assert labels_NT[0].tolist() == [0, 0, 0, 0, 0, 3, 3, 0, 0, 5, 5, 0, 0, 0, 0, 0]
    assert not labels_NT[1].any()


def test_guide_gives_way():
    assert guide_share(1, 100) == 1
    assert guide_share(51, 100) == pytest.approx(0.5)
    assert guide_share(101, 100) == 0
    assert guide_share(1, 0) == 0
