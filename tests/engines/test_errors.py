"""What is kept of the errors of foreign libraries."""

from __future__ import annotations

import pytest

from htr_engines.errors import MAX_QUOTED, one_line


@pytest.mark.parametrize(
    ("error", "last", "expected"),
    [
        (ValueError("\n  first  \nsecond\n"), False, "first"),
        (ValueError("first\nsecond \n\n"), True, "second"),
        (ValueError(" \n"), False, "ValueError"),
        ("", True, "it gave no reason"),
        ("not valid: a\x7f\x01b", False, "not valid: a??b"),
        ("a" * 5000, False, "a" * MAX_QUOTED + "..."),
    ],
)
def test_one_line_of_an_error(error, last, expected):
    assert one_line(error, last=last) == expected
