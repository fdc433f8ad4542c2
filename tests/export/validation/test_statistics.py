from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htr_export.validation.statistics import paired_bootstrap

LINES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60)), min_size=1, max_size=60)


def columns(lines: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.array(lines).T)


@given(LINES)
@settings(max_examples=40, deadline=None)
def test_identical_systems_differ_by_nothing(lines):
    was, _, lengths = columns(lines)
    interval = paired_bootstrap(was, was, lengths, resamples=200)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


@given(LINES)
@settings(max_examples=40, deadline=None)
def test_interval_contains_the_estimate(lines):
    interval = paired_bootstrap(*columns(lines), resamples=1000)
    assert interval.low - 1e-9 <= interval.estimate <= interval.high + 1e-9


@given(LINES, st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_edits_that_both_make_change_nothing(lines, shared):
    was, now, lengths = columns(lines)
    plain = paired_bootstrap(was, now, lengths, resamples=200)
    assert paired_bootstrap(was + shared, now + shared, lengths, resamples=200) == plain


@given(LINES)
@settings(max_examples=40, deadline=None)
def test_swapping_the_systems_mirrors_the_interval(lines):
    was, now, lengths = columns(lines)
    there = paired_bootstrap(was, now, lengths, resamples=400)
    back = paired_bootstrap(now, was, lengths, resamples=400)
    np.testing.assert_allclose(
        [back.low, back.estimate, back.high], [-there.high, -there.estimate, -there.low], atol=1e-9
    )


@given(LINES, st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_an_edit_more_per_character_shifts_the_interval(lines, more):
    was, now, lengths = columns(lines)
    plain = paired_bootstrap(was, now, lengths, resamples=200)
    shifted = paired_bootstrap(was, now + more * lengths, lengths, resamples=200)
    np.testing.assert_allclose(
        [shifted.low, shifted.estimate, shifted.high],
        np.array([plain.low, plain.estimate, plain.high]) + 100 * more,
        rtol=1e-9,
    )


def test_same_seed_same_interval():
    lines = np.random.default_rng(1).integers(0, 9, (3, 50))
    assert paired_bootstrap(*lines, resamples=500) == paired_bootstrap(*lines, resamples=500)
    assert paired_bootstrap(*lines, resamples=500) != paired_bootstrap(*lines, resamples=500, seed=3)


def test_width_is_that_of_the_normal_approximation():
    random = np.random.default_rng(0)
    more = random.integers(-1, 2, 400)
    lengths = np.full(400, 10)
    interval = paired_bootstrap(np.ones(400, int), 1 + more, lengths)
    expected = 2 * 1.96 * 100 * more.std() / np.sqrt(400) / 10
    assert interval.high - interval.low == pytest.approx(expected, rel=0.06)


def test_empty_truths_do_not_divide_by_zero():
    interval = paired_bootstrap(np.array([0, 0]), np.array([1, 0]), np.array([0, 0]))
    assert interval.estimate == 100
    assert np.isfinite([interval.low, interval.high]).all()


def test_many_lines_are_drawn_in_portions():
    lines = np.random.default_rng(2).integers(1, 9, (3, 30_000))
    interval = paired_bootstrap(*lines, resamples=150)
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize("sizes", [(0, 0, 0), (2, 2, 1), (1, 2, 2)])
def test_unequal_or_no_lines_are_refused(sizes):
    with pytest.raises(ValueError, match="same number of lines"):
        paired_bootstrap(*(np.zeros(size, int) for size in sizes))
