"""Batches that depend on the recipe and their number alone, and the augmentation of lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from htr_engines.charset import PRESETS, Charset
from htr_engines.errors import ImageError
from htr_engines.lines import Line, read_lines
from htr_engines.preprocess import Preprocessing, fit_line, load_pages
from htr_training.augment import augment, change_light, change_stroke, solve_homography, warp_line
from htr_training.data import (
    FittedLines,
    Order,
    Split,
    TrainingBatches,
    choose_charset,
    load_batches,
)
from htr_training.recipe import AugmentRecipe, DataRecipe

SPEC = Preprocessing(128, alpha="ignore")
STRONG = AugmentRecipe(probability=0.9, per="line", shear=8, scale=0.1, elastic=2, noise=0.03)
CHARSET = Charset(" abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def lines(lines_dir):
    return FittedLines(read_lines(lines_dir), SPEC, cache=True)


def batches_of(lines, recipe=STRONG, **options):
    return TrainingBatches(lines, CHARSET, recipe, **{"seed": 3, "batch": 4, **options})


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def stroke(height=64, width=128):
    grey_HW = np.full((height, width), 255, np.uint8)
    grey_HW[30:34, 20:100] = 0
    return grey_HW


def test_cached_lines_are_what_the_engine_sees(lines):
    for number, line in enumerate(lines.lines):
        expected = fit_line(load_pages(line.image, "ignore")[0], SPEC)[0]
        assert np.array_equal(lines[number] * np.float32(1 / 255), expected)
    uncached = FittedLines(lines.lines, SPEC, cache=False)
    assert all(np.array_equal(uncached[number], lines[number]) for number in range(len(lines)))


def test_each_line_once_an_epoch():
    order = Order(7, seed=1)
    epochs = [[order[place] for place in range(7 * epoch, 7 * epoch + 7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert order[3] == epochs[0][3]


def test_batches_are_repeatable_in_any_order(lines):
    one, other = batches_of(lines), batches_of(lines)
    _ = other[9], other[2]
    assert same(one[5], other[5])
    assert not same(one[5], batches_of(lines, seed=4)[5])


def test_workers_change_nothing(lines):
    alone = list(load_batches(batches_of(lines), range(3, 7), 0, pin=False))
    helped = list(load_batches(batches_of(lines), range(3, 7), 2, pin=False))
    assert len(alone) == 4
    assert all(same(one, other) for one, other in zip(alone, helped, strict=True))


@pytest.mark.parametrize("per", ["line", "batch"])
def test_processes_share_a_batch(lines, per):
    recipe = replace(STRONG, per=per)
    joint = batches_of(lines, recipe)[2]
    halves = [batches_of(lines, recipe, share=(process, 2))[2] for process in (0, 1)]
    assert torch.equal(joint.images, torch.cat([half.images for half in halves]))
    assert torch.equal(joint.lengths, torch.cat([half.lengths for half in halves]))


def test_per_batch_draws_once(lines):
    recipe = replace(STRONG, per="batch")
    same_line = FittedLines([lines.lines[0]], SPEC, cache=True)
    batch = batches_of(same_line, recipe)[0]
    assert all(torch.equal(image, batch.images[0]) for image in batch.images)
    batch = batches_of(same_line)[0]
    assert not all(torch.equal(image, batch.images[0]) for image in batch.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_line_that_breaks_later_is_named(tmp_path, workers):
    path = tmp_path / "broken.png"
    Image.fromarray(stroke()).save(path)
    path.write_bytes(path.read_bytes()[:40])
    lines = FittedLines([Line("broken.png", path, "ab")], SPEC, cache=False)
    with pytest.raises(ImageError, match=r"broken\.png is"):
        list(load_batches(batches_of(lines), range(2), workers, pin=False))


def test_charset_of_a_recipe(tmp_path):
    lines = [Line("a", tmp_path, "ba c"), Line("b", tmp_path, None)]
    split = Split(lines, [Line("v", tmp_path, "z")])
    assert choose_charset(DataRecipe(), split).characters == " abc"
    assert choose_charset(DataRecipe(charset="iam"), split).characters == PRESETS["iam"]
    (tmp_path / "set.txt").write_text("cab", encoding="utf-8")
    assert choose_charset(DataRecipe(root=tmp_path, charset="set.txt"), split).characters == "cab"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 200))
def test_augmented_lines_stay_lines(seed, width):
    grey_HW = np.random.default_rng(seed).integers(0, 256, (64, width), dtype=np.uint8)
    varied = augment(grey_HW, STRONG, np.random.default_rng(seed))
    assert varied.shape == grey_HW.shape
    assert varied.dtype == np.uint8


def test_no_augmentation_is_none():
    recipe = AugmentRecipe(probability=0.0)
    assert np.array_equal(augment(stroke(), recipe, np.random.default_rng(1)), stroke())


@pytest.mark.parametrize("elastic", [0.0, 2.0])
def test_warped_paper_stays_white_and_ink_inside(elastic):
    recipe = AugmentRecipe(warp=4, shear=16, scale=0.2, elastic=elastic)
    edge = np.full((64, 128), 255, np.uint8)
    edge[30:34, 6:122] = 0
    for seed in range(20):
        warped = warp_line(edge, recipe, np.random.default_rng(seed))
        assert warped.shape == edge.shape
        assert warped[0].min() > 200
        # Nothing is pushed out of the picture at the sides.
        assert warped[:, 0].min() > 100
        assert warped[:, -1].min() > 100


def test_a_flattened_line_keeps_its_ink_and_its_width():
    block = np.full((64, 128), 255, np.uint8)
    block[2:62, 10:118] = 0
    recipe = AugmentRecipe(warp=0, flatten=0.5)
    heights = set()
    for seed in range(20):
        dark = warp_line(block, recipe, np.random.default_rng(seed)) < 128
        assert dark.any(axis=0).sum() == 108
        assert not dark[0].any()
        assert not dark[-1].any()
        heights.add(int(dark.any(axis=1).sum()))
    assert min(heights) < 45
    assert 55 < max(heights) <= 61  # a soft edge may round up


def test_homography_meets_its_points():
    target = np.array([[0, 0], [100, 0], [100, 64], [0, 64]], float)
    source = target + np.array([[3, -2], [1, 5], [-4, 2], [2, 2]])
    matrix = solve_homography(target, source)
    for point, wanted in zip(target, source, strict=True):
        x, y, w = matrix @ [*point, 1]
        assert (x / w, y / w) == pytest.approx(tuple(wanted))


def test_strokes_get_thicker_or_thinner():
    sizes = {(change_stroke(stroke(), 2, np.random.default_rng(seed)) == 0).sum() for seed in range(20)}
    plain = 4 * 80
    assert sizes == {plain, 5 * 81, 3 * 79}


def test_light_without_reach_changes_nothing():
    recipe = AugmentRecipe(brightness=0.0, contrast=0.0)
    assert np.abs(change_light(stroke(), recipe, np.random.default_rng(1)).astype(int) - stroke()).max() <= 1
