"""Batches that depend on the recipe and their number alone, and the augmentation of lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    Split,
    TrainingBatches,
    choose_charset,
    choose_order,
    load_batches,
    read_split,
)
from htr_training.errors import RecipeError
from htr_training.order import Mixture, Order, WidthBuckets
from htr_training.recipe import AugmentRecipe, DataRecipe, SetRecipe

SPEC = Preprocessing(128, alpha="ignore")
STRONG = AugmentRecipe(probability=0.9, per="line", shear=8, scale=0.1, elastic=2, noise=0.03)
CHARSET = Charset(" abcdefghijklmnopqrstuvwxyz")


@pytest.fixture
def lines(lines_dir):
    return FittedLines(read_lines(lines_dir), SPEC, cache=True)


def batches_of(lines, recipe=STRONG, **options):
    order = Order(len(lines), 3)
    return TrainingBatches(lines, CHARSET, recipe, order, **{"seed": 3, "batch": 4, **options})


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


def test_a_mixture_keeps_its_shares_and_shows_each_line_of_a_set_equally_often():
    mixture = Mixture([10, 1000], [3.0, 1.0], seed=1)
    drawn = [mixture[place] for place in range(4000)]
    small = [number for number in drawn if number < 10]
    assert len(small) == 3000
    assert {small.count(number) for number in range(10)} == {300}
    assert sorted(number for number in drawn if number >= 10) == list(range(10, 1010))


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=5))
def test_a_mixture_depends_on_the_place_alone(places):
    one, other = Mixture([5, 70], [1.0, 2.5], seed=4), Mixture([5, 70], [1.0, 2.5], seed=4)
    assert [one[place] for place in reversed(places)][::-1] == [other[place] for place in places]


def test_a_share_too_small_to_keep_is_refused():
    with pytest.raises(RecipeError, match="less than 1/1000"):
        Mixture([5, 5], [1.0, 1e-5], seed=0)


def test_lines_of_several_sets(tmp_path, lines_dir):
    for name, count in (("one", 2), ("two", 3)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "few.ln").write_text("".join(f"line-{k}.png\n" for k in range(count)), encoding="utf-8")
    sets = tuple(
        SetRecipe(Path(name), lines_dir, "few.ln", val, weight)
        for name, val, weight in (("one", "few.ln", 0.0), ("two", "", 2.0))
    )
    recipe = DataRecipe(root=tmp_path, sets=sets)
    split = read_split(recipe)
    assert [line.name for line in split.train] == ["two/line-0.png", "two/line-1.png", "two/line-2.png"]
    assert [line.name for line in split.val] == ["one/line-0.png", "one/line-1.png"]
    order = choose_order(recipe, split.train, 1)
    assert {order[place] for place in range(3)} == {0, 1, 2}


def test_every_place_is_learnt_once_in_batches_of_like_width():
    widths = np.arange(16, 516)
    order = Order(500, seed=2)
    buckets = WidthBuckets(order, widths, batch=5, seed=2)
    places = [list(buckets[index]) for index in range(100)]
    assert sorted(place for batch in places for place in batch) == list(range(500))
    spreads = [np.ptp([widths[order[place]] for place in batch]) for batch in places]
    assert np.mean(spreads) < 20
    narrowest = [min(widths[order[place]] for place in batch) for batch in places[:50]]
    assert narrowest != sorted(narrowest)
    assert list(WidthBuckets(order, widths, batch=5, seed=2)[77]) == places[77]


def test_batches_as_wide_as_their_lines(tmp_path):
    names = []
    for number, width in enumerate((20, 60, 100, 128)):
        image = np.full((64, width), 200, np.uint8)
        image[20:40, 5 : width - 5] = 30
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("ab", encoding="utf-8")
        names.append(f"{number}.png\n")
    (tmp_path / "all.ln").write_text("".join(names), encoding="utf-8")
    lines = FittedLines(read_lines(tmp_path, tmp_path / "all.ln"), SPEC, cache=True)
    assert lines.width_L.tolist() == [20, 60, 100, 128]
    plain = AugmentRecipe(probability=0.0)
    batches = batches_of(lines, plain, batch=2, width="content")
    seen = {}
    for index in range(16):
        images_N1HW = batches[index].images
        widest = max(int(lines.width_L[batches.order[place]]) for place in batches.places[index])
        seen[widest] = seen.get(widest, set()) | {images_N1HW.shape[3]}
        for place, image_1HW in zip(batches.places[index], images_N1HW, strict=True):
            full_HW = lines[batches.order[place]]
            assert np.array_equal(image_1HW[0], full_HW[:, : images_N1HW.shape[3]])
    assert seen[128] == {128}
    assert seen[60] <= {64, 128}
    assert batches[8].images.shape[3] == 128
    two = [batches_of(lines, plain, batch=2, width="content", share=(k, 2))[3] for k in (0, 1)]
    assert torch.equal(torch.cat([part.images for part in two]), batches[3].images)
