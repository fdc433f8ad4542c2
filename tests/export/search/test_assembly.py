"""Groups of modules, plans assembled from them, and the drawing of both: no network is run here."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from helpers.search_outcomes import outcome
from hypothesis import given
from hypothesis import strategies as st

from htr_export.search.assembly import Move, assemble, merged, ordered
from htr_export.search.groups import REST, Group, divide, find_groups, group_of
from htr_export.search.inputs import SearchRequest
from htr_export.search.journal import Trial
from htr_export.search.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_plot
from htr_export.search.search import Criteria
from htr_export.search.timing import proxy_latency
from htr_export.validation.statistics import Interval

GROUPS = [f"g{number}" for number in range(20)]
moves_lists = st.lists(
    st.builds(
        Move,
        st.sampled_from(GROUPS),
        st.sampled_from(["int8", "fp16"]),
        st.floats(-0.2, 0.5),
        st.floats(0, 0.1),
    ),
    max_size=40,
    unique_by=lambda move: (move.group, move.precision),
)


class AdditiveBound:
    """Holds as long as the damages of the lowered groups stay within a bound; counts how often it is asked."""

    def __init__(self, moves: list[Move], bound: float) -> None:
        self.damages = {(move.group, move.precision): move.damage for move in moves}
        self.bound, self.asked = bound, 0

    def __call__(self, lowered: dict) -> bool:
        assert lowered, "float32 is not to be measured against itself"
        self.asked += 1
        return self.damage(lowered) <= self.bound

    def damage(self, lowered: dict) -> float:
        return sum(self.damages[item] for item in lowered.items())


@given(moves_lists, st.floats(0, 0.5))
def test_an_assembled_plan_never_breaks_the_bound(moves, bound):
    holds = AdditiveBound(moves, bound)
    taken = assemble(ordered(moves), holds)
    assert holds.damage(merged(taken)) <= bound


@given(moves_lists, st.floats(0, 0.5))
def test_assembly_asks_few_times(moves, bound):
    holds = AdditiveBound(moves, bound)
    assemble(ordered(moves), holds, rounds=3)
    assert holds.asked <= 3 * (1 + max(1, len(moves)).bit_length())


@given(moves_lists)
def test_a_wide_bound_takes_all(moves):
    assert assemble(ordered(moves), AdditiveBound(moves, 1e9)) == ordered(moves)


@given(moves_lists)
def test_a_bound_of_zero_takes_only_what_does_no_damage(moves):
    taken = assemble(ordered(moves), AdditiveBound(moves, 0.0), rounds=50)
    assert all(move.damage == 0 for move in taken if merged(taken)[move.group] == move.precision)


@given(moves_lists, st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_first_bisection_takes_more_under_a_wider_bound(moves, one, other):
    narrow, wide = sorted([one, other])
    moves = [move for move in moves if move.precision == "int8"]  # each group once, so damages only grow
    shorter = assemble(ordered(moves), AdditiveBound(moves, narrow), rounds=1)
    longer = assemble(ordered(moves), AdditiveBound(moves, wide), rounds=1)
    assert longer[: len(shorter)] == shorter


@given(moves_lists)
def test_order_is_by_time_saved_per_damage_with_what_saves_none_last(moves):
    result = ordered(moves)
    assert sorted(result, key=repr) == sorted(moves, key=repr)
    saving = [move.gain > 0 for move in result]
    assert saving == sorted(saving, reverse=True)


def test_one_culprit_costs_itself_only():
    moves = [Move(name, "int8", 0.1, 0.001) for name in GROUPS]

    def holds(lowered):
        return "g7" not in lowered

    assert [move.group for move in assemble(moves, holds)] == [name for name in GROUPS if name != "g7"]


def test_of_two_precisions_of_a_group_the_faster_counts():
    assert merged([Move("a", "int8", 0.3, 1), Move("a", "fp16", 0.1, 1), Move("b", "fp16", 0.1, 1)]) == {
        "a": "int8",
        "b": "fp16",
    }


names = st.text(string.ascii_lowercase[:3] + "01", min_size=1, max_size=2)
works = st.dictionaries(
    st.lists(names, min_size=1, max_size=4).map(".".join), st.floats(0, 10), min_size=1, max_size=30
)


@given(works, st.integers(1, 12))
def test_groups_cover_all_modules_and_do_not_get_too_many(work, most):
    paths = divide(work, most)
    assert len(set(paths)) == len(paths)
    first_names = {re.match(r"[^.]+(\.\d+)*(?=\.|$)", module)[0] for module in work}
    assert len(paths) <= max(most, len(first_names))
    for module in work:
        assert group_of(module, paths) != REST


def test_modules_of_one_kind_are_divided_together():
    work = {f"blocks.{number}.{part}.lin": 1.0 for number in range(3) for part in ("attn", "ffn")} | {"head": 0.1}
    expected = [f"blocks.{number}.{part}" for number in range(3) for part in ("attn", "ffn")]
    assert divide(work, 8) == [*(f"{path}.lin" for path in expected), "head"]
    assert divide(work, 6) == ["blocks.0", "blocks.1", "blocks.2", "head"]


def test_a_network_is_divided_where_its_work_is(onnx_file):
    groups = find_groups(onnx_file, 64, 128, 40)
    paths = [group.path for group in groups]
    assert {"head", "blocks.0.attn", "blocks.2.ffn2", "patch_embed.bn1"} <= set(paths)
    assert paths[-1] == REST
    assert 10 <= len(paths) <= 40
    assert sum(group.work for group in groups) == pytest.approx(1.0)
    by_path = {group.path: group for group in groups}
    assert 0 < by_path["blocks.0.attn"].layers < by_path["blocks.0.attn"].work, (
        "its products of activations are no layer"
    )
    assert by_path["patch_embed.bn1"].work > by_path["head"].work


def test_the_stand_in_for_time_counts_what_int8_does_not_lower():
    groups = [Group("a", 0.6, 0.4), Group("b", 0.3, 0.3), Group(REST, 0.1, 0.0)]
    assert proxy_latency({}, groups).ratio == pytest.approx(1.0)
    assert proxy_latency({"a": "int8"}, groups).ratio == pytest.approx(0.4 / 4 + 0.2 + 0.3 + 0.1)
    assert proxy_latency({"a": "int8", "b": "fp16", REST: "fp16"}, groups).ratio == pytest.approx(
        0.4 / 4 + 0.2 / 2 + 0.3 / 2 + 0.1 / 2
    )


@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(-5, 90), st.floats(0, 5)), max_size=10), st.floats(0, 10))
def test_every_dot_lies_inside_the_frame(figures, bound):
    trials = [
        (kind, Trial({"a": "int8"}, "measuring", outcome(ratio, Interval(points, points - spread, points + spread))))
        for kind, (ratio, points, spread) in zip(["alone", "together", "proof"] * 4, figures, strict=False)
    ]
    criteria = Criteria(SearchRequest(Path(), Path(), Path(), max_cer_increase=bound), 2000)
    plot = draw_plot([*trials, ("alone", Trial({"b": "int8"}, "measuring", None, "it fell over"))], criteria)
    assert len(plot.marks) == len(trials)
    for mark in plot.marks:
        assert LEFT <= mark.x <= WIDTH - RIGHT
        assert TOP <= mark.high <= mark.y <= mark.low <= HEIGHT - BOTTOM
    assert TOP <= plot.bound_y <= HEIGHT - BOTTOM
    assert len(plot.x_ticks) >= 2
    assert len({tick.label for tick in plot.y_ticks}) == len(plot.y_ticks) >= 2
