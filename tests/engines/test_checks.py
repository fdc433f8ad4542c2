"""Check lines: the mark says what became of a check, and what was not checked is no failure."""

from __future__ import annotations

import pytest

from htr_engines.checks import Check, failures, mark


@pytest.mark.parametrize(("passed", "sign"), [(True, "✓"), (False, "✗"), (None, "\N{EN DASH}")])
def test_each_outcome_has_its_own_mark(passed, sign):
    assert mark(passed) == sign
    assert str(Check(passed, "max diff 1e-3")) == f"-[{sign}] max diff 1e-3"
    assert str(Check(passed, "max diff 1e-3", "order")) == f"-[{sign}] order: max diff 1e-3"


def test_what_was_not_checked_has_not_failed():
    bad = Check(passed=False, detail="differs")
    assert failures([Check(passed=True, detail="equal"), Check(passed=None, detail="no lines"), bad]) == [bad]


def test_overflow_without_lines_is_not_checked():
    pytest.importorskip("onnx")
    from htr_export.precision.lowering import LoweringReport

    unmeasured = LoweringReport({"fp16": 3}, 0, {}, (), 0, ranges_measured=False)
    assert [check.passed for check in unmeasured.checks()] == [True, None]
    assert "--lines" in str(unmeasured.checks()[1])
